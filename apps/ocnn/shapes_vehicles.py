"""Made-up vehicles: each function yields parts; sizes in metres, the bow toward +x."""

import numpy as np

from .primitives import (
    bend,
    box,
    cylinder,
    ellipsoid,
    extrude,
    lean,
    loft,
    move,
    pair,
    shifted,
    stretch,
    superellipse,
    tube,
    turn,
    union,
    wing,
)


def airplane(rng):
    """An airliner, a propeller plane, a jet fighter, or a flying wing."""
    style = rng.choice(["liner", "propeller", "jet", "delta"], p=[0.4, 0.2, 0.35, 0.05])
    if style == "delta":
        half, chord = rng.uniform(15, 25), rng.uniform(8, 12)
        tip = (-half * rng.uniform(0.5, 0.8), half, 0)
        yield "wings", pair(wing((0, 0, 0), tip, (chord, 0.2 * chord), 0.12))
        radii = np.array([0.5, 0.25, 0.12]) * chord
        yield "fuselage", ellipsoid(radii, (-0.5 * chord, 0, 0.3))
        return
    jet, liner = style == "jet", style == "liner"
    length = rng.uniform(25, 60) if liner else rng.uniform(12, 20) if jet else rng.uniform(6, 20)
    radius = length * rng.uniform(0.035, 0.065)
    flat = rng.uniform(0.6, 0.9) if jet else 1
    if jet:
        stations = np.array([0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.9, 1])
        girth = np.array([0.03, 0.35, 0.7, 0.9, 1.1, 1.1, 1, 0.75])
        rise = 0 * stations
    else:
        stations = np.array([0, 0.03, 0.1, 0.2, 0.45, 0.65, 0.85, 1])
        girth = np.array([0.05, 0.55, 0.95, 1, 1, 0.95, 0.6, 0.12])
        rise = 2.5 * radius * np.maximum(stations - 0.7, 0)
    path = np.stack([-length * stations, 0 * stations, rise], axis=1)
    yield "fuselage", tube(path, radius * girth, 12, flat)
    if not liner:
        glass = (-rng.uniform(0.22, 0.35) * length, 0, 0.75 * radius * flat)
        yield "fuselage", ellipsoid((0.1 * length, 0.5 * radius, 0.7 * radius), glass)

    front, high = -length * rng.uniform(0.33, 0.42), radius * rng.choice([-0.5, 0, 0.6])
    if jet:
        half, chord = length * rng.uniform(0.28, 0.38), length * rng.uniform(0.3, 0.5)
        sweep, taper, thick = rng.uniform(0.4, 1.2), rng.uniform(0.1, 0.4), 0.05
    else:
        half, chord = length * rng.uniform(0.42, 0.6), length * rng.uniform(0.12, 0.2)
        sweep, taper, thick = rng.uniform(0, 0.12), rng.uniform(0.5, 1), 0.11
        if liner:
            sweep, taper = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.4)
    tip = (front - sweep * half, half, high + half * rng.uniform(-0.03, 0.12))
    yield "wings", pair(wing((front, 0, high), tip, (chord, taper * chord), thick))

    back, fin = -0.86 * length, length * rng.uniform(0.1, 0.16)
    lift = 0.5 * radius + (fin if rng.random() < 0.2 and not jet else 0)
    tip = (back - 0.12 * length, length * rng.uniform(0.14, 0.22), lift)
    yield "tail", pair(wing((back, 0.3 * radius, lift), tip, (0.12 * length, 0.06 * length)))
    tip = (back - 0.1 * length, 0, 0.5 * radius + 1.15 * fin)
    rudder = wing((back, 0, 0.3 * radius), tip, (0.14 * length, 0.07 * length))
    if jet and rng.random() < 0.5:
        rudder = lean(rudder, rng.uniform(0, 0.5), 1)
        yield "tail", pair(move(rudder, (0.05 * length, 0.8 * radius, 0)))
    else:
        yield "tail", rudder

    if liner:
        count = int(rng.integers(1, 3))
        for share in (0.3, 0.6)[:count]:
            at = (front - sweep * half * share, half * share, high - 0.55 * radius)
            if count == 1 and rng.random() < 0.25:
                at = (-0.75 * length, 1.5 * radius, 0.5 * radius)
            yield "engines", pair(_pod(at, 0.09 * length, 0.45 * radius))
    elif jet:
        if rng.random() < 0.6:
            at = (-0.45 * length, 0.9 * radius, -0.2 * radius)
            yield "engines", pair(_pod(at, 0.5 * length, 0.55 * radius))
        for share in rng.uniform(0.4, 0.8, rng.integers(0, 3)):
            at = (front - sweep * half * share, half * share, high - 0.3 * radius)
            yield "engines", pair(_pod(at, 0.16 * length, 0.12 * radius))
    else:
        noses = [(0, 0, 0)]
        if rng.random() < 0.5:
            noses = [(front + 0.07 * length, side * 0.32 * half, high) for side in (1, -1)]
            yield "engines", union(_pod(at, 0.15 * length, 0.5 * radius) for at in noses)
        blade = box((0.02 * radius + 0.02, 2.4 * radius, 0.15 * radius))
        blades = union(turn(blade, "x", 90 * i) for i in range(int(rng.integers(1, 3))))
        yield "engines", union(move(blades, shifted(nose, 0.02)) for nose in noses)


def helicopter(rng):
    """A helicopter with rotor, boom, tail rotor, and skids or wheels."""
    length, radius = rng.uniform(3.5, 7), rng.uniform(0.7, 1.1)
    tall = radius * rng.uniform(0.9, 1.4)
    t = np.linspace(0, 1, 9)
    girth = np.sin(np.pi * t ** rng.uniform(0.5, 0.9)) ** rng.uniform(0.5, 1)
    path = np.stack([length * (0.5 - t), 0 * t, 0 * t], axis=1)
    yield "body", stretch(tube(path, np.maximum(girth, 0.05), 12), (1, radius, tall))
    housing = (0.25 * length, 0.5 * radius, 0.5 * tall)
    yield "body", ellipsoid(housing, (-0.05 * length, 0, 0.8 * tall))
    if rng.random() < 0.3:
        stub = wing((0.1 * length, 0, 0), (0, 2 * radius, -0.2), (1.2, 0.9))
        yield "body", pair(union([stub, _pod((0.4, 1.7 * radius, -0.3), 1.6, 0.22)]))

    boom = length * rng.uniform(0.9, 1.3)
    end = np.array([-0.3 * length - boom, 0, rng.uniform(0.1, 0.5) * tall])
    yield "tail", tube([(-0.2 * length, 0, 0.2 * tall), end], [0.4 * radius, 0.13 * radius], 10)
    tip = shifted(end, -0.6, 0, rng.uniform(0.8, 1.6))
    yield "tail", wing(shifted(end, 0.3), tip, (0.9, 0.5))
    if rng.random() < 0.7:
        root = shifted(end, 0.8)
        tip = shifted(root, -0.1, rng.uniform(0.5, 1.3))
        yield "tail", pair(wing(root, tip, (0.5, 0.4)))

    span, spin = rng.uniform(1.2, 2), rng.uniform(0, 90)
    blade = box((0.12, 0.03, span), (0, 0, -span / 2))
    cross = union([turn(blade, "y", spin), turn(blade, "y", spin + 90)])
    yield "rotor", move(cross, shifted(end, -0.4, 0.25, 0.5))
    reach, count = length * rng.uniform(0.75, 1.15), int(rng.integers(2, 7))
    hub, spin = 1.2 * tall + rng.uniform(0.3, 0.8), rng.uniform(0, 360)
    yield "rotor", cylinder(0.1, hub, sides=8)
    blade = box((reach, rng.uniform(0.2, 0.4), 0.05), (reach / 2, 0, hub - 0.05))
    yield "rotor", union(turn(blade, "z", spin + 360 * i / count) for i in range(count))

    low = -tall - rng.uniform(0.2, 0.7)
    if rng.random() < 0.6:
        ends = (0.35, 0.2), (0.25, 0), (-0.3, 0)
        gear = [tube([(x * length, radius, low + z) for x, z in ends], 0.06, 6)]
        for x in (0.15 * length, -0.15 * length):
            gear.append(tube([(x, radius, low), (x, 0.3 * radius, -0.6 * tall)], 0.05, 6))
    else:
        gear = []
        for x, y in ((0.3 * length, 0.3 * radius), (-0.1 * length, radius)):
            axle = (x, y, low + 0.3)
            gear += [_wheel(0.3, 0.2, axle), tube([axle, (x, 0.3 * y, 0)], 0.07, 6)]
    yield "gear", pair(union(gear))


# Of cars: how often, heights of belt line and roof, where the cabin begins and ends as shares of
# half the length, and how far its windows lean.
_CARS = {
    "saloon": (0.25, 0.85, 1.42, 0.4, -0.7, 0.6, 0.55),
    "hatchback": (0.15, 0.85, 1.42, 0.4, -0.98, 0.6, 0.25),
    "van": (0.15, 1.0, 1.9, 0.75, -0.99, 0.4, 0.05),
    "pickup": (0.15, 0.95, 1.7, 0.4, -0.25, 0.4, 0.1),
    "sport": (0.12, 0.7, 1.15, 0.25, -0.75, 0.9, 0.55),
    "veteran": (0.1, 0.85, 1.7, 0.1, -0.9, 0.05, 0.1),
    "racer": (0.08, 0.5, 0.8, 0.05, -0.3, 0.6, 0.55),
}


def car(rng):
    """A car of one of seven kinds, on four wheels."""
    style = rng.choice(list(_CARS), p=[row[0] for row in _CARS.values()])
    _, belt, roof, front, back, lean_front, lean_back = _CARS[style]
    length, width = rng.uniform(3.6, 5), rng.uniform(1.55, 1.95)
    low, wheel, half = rng.uniform(0.15, 0.3), rng.uniform(0.27, 0.38), length / 2
    belt, roof = belt * rng.uniform(0.9, 1.1), roof * rng.uniform(0.95, 1.08)
    if style == "pickup" and rng.random() < 0.4:
        low, wheel, belt, roof = low + 0.4, 1.7 * wheel, belt + 0.4, roof + 0.4
    nose, rear = belt * rng.uniform(0.65, 0.95), belt * rng.uniform(0.8, 1)
    slim = 0.55 if style in ("racer", "veteran") else 1
    hood = [(half, low), (half, 0.9 * nose), (0.45 * half, belt)]
    side = [*hood, (-0.8 * half, belt), (-half, rear), (-half, low)]
    yield "body", _across(side, slim * width)

    front, back = front * half + rng.uniform(-0.15, 0.1), back * half
    if style == "racer":
        yield "cabin", ellipsoid((0.5, 0.25, 0.25), ((front + back) / 2, 0, belt))
        for x, z in ((half, low), (-half, belt + 0.3)):
            yield "body", box((0.4, 0.9 * width, 0.06), (x, 0, z))
        yield "body", pair(box((1, 0.3, 0.3), (-0.2 * half, 0.33 * width, low)))
    else:
        glass = [(front, belt), (front - lean_front, roof), (back + lean_back, roof), (back, belt)]
        yield "cabin", _across(glass, (0.92 if slim == 1 else 0.7) * width, top=0.82)
    if style == "pickup":
        rail = box((half + back, 0.06, 0.3), ((back - half) / 2, 0.45 * width, belt))
        yield "body", union([pair(rail), box((0.06, 0.9 * width, 0.3), (0.03 - half, 0, belt))])
    if style == "veteran":
        y = 0.42 * width
        arch = bend((0.95 * half, y, 0.5), (0.6 * half, y, 1.1), (0.1 * half, y, 0.35))
        yield "body", pair(tube(arch, 0.2, 8, 0.3))
    if slim == 1 and rng.random() < 0.3:
        yield "body", pair(box((0.15, 0.96 * width, 0.15), (half, 0, low + 0.05)), 0)
    if rng.random() < 0.4:
        yield "body", pair(box((0.1, 0.2, 0.12), (front - 0.1, width / 2 + 0.05, belt)))
    tread = wheel * rng.uniform(0.6, 0.8)
    for x in (0.62 * half, -0.6 * half):
        yield "wheels", pair(_wheel(wheel, tread, (x, 0.46 * width, wheel)))


def ship(rng):
    """A ship: warship, freighter, sailing ship, motor boat, or a submarine."""
    kinds = [_warship, _freighter, _sailing_ship, _boat, _submarine]
    return rng.choice(kinds, p=[0.3, 0.15, 0.3, 0.1, 0.15])(rng)


def _warship(rng):
    length = rng.uniform(60, 200)
    beam, depth = length * rng.uniform(0.1, 0.16), length * rng.uniform(0.05, 0.09)
    yield "hull", _hull(rng, length, beam, depth)
    place, long = rng.uniform(-0.1, 0.12) * length, rng.uniform(0.2, 0.45) * length
    yield from _decks(rng, int(rng.integers(2, 5)), place, long, beam, depth)
    for x in rng.choice([0.36, 0.27, -0.3, -0.38], int(rng.integers(1, 5)), replace=False):
        at, size = x * length, beam * rng.uniform(0.2, 0.4)
        yield "deck", box((size, size, 0.5 * size), (at, 0, -0.05 * depth))
        muzzle = (at + np.sign(x) * 1.7 * size, 0, 0.5 * size)
        yield "deck", tube([(at, 0, 0.3 * size), muzzle], 0.06 * size, 6)


def _freighter(rng):
    length = rng.uniform(60, 200)
    beam, depth = length * rng.uniform(0.12, 0.18), length * rng.uniform(0.05, 0.1)
    yield "hull", _hull(rng, length, beam, depth)
    place = rng.uniform(-0.38, -0.3) * length
    yield from _decks(rng, int(rng.integers(2, 4)), place, 0.1 * length, beam, 1.5 * depth)
    for x in np.arange(-0.2, 0.4, rng.uniform(0.08, 0.15)):
        if rng.random() < 0.7:
            size = (0.07 * length, 0.8 * beam, depth * rng.uniform(0.1, 0.9))
            yield "deck", box(size, (x * length, 0, -0.05 * depth))


def _boat(rng):
    length = rng.uniform(5, 12)
    beam, depth = length * rng.uniform(0.2, 0.32), length * rng.uniform(0.07, 0.14)
    yield "hull", _hull(rng, length, beam, depth)
    cabin = superellipse(rng.uniform(0.2, 0.4) * length, 0.65 * beam, 6, 16)
    place = (rng.uniform(-0.2, 0.1) * length, 0, -0.05 * depth)
    yield "deck", extrude(cabin, depth * rng.uniform(0.6, 1.4), place, top=0.85)


def _submarine(rng):
    length = rng.uniform(60, 150)
    radius, t = length * rng.uniform(0.04, 0.065), np.linspace(0, 1, 12)
    path = np.stack([length * (0.5 - t), 0 * t, 0 * t], axis=1)
    yield "hull", tube(path, radius * np.maximum(1 - np.abs(2 * t - 0.9) ** 4, 0.06), 14)
    tower, x = superellipse(0.11 * length, radius, 2.5, 16), length * rng.uniform(0.05, 0.25)
    yield "deck", extrude(tower, 1.9 * radius, (x, 0, 0), top=0.9)
    fin = wing((-0.4 * length, 0, 0), (-0.44 * length, 1.6 * radius, 0), (radius, 0.7 * radius))
    yield "deck", union(turn(fin, "x", 90 * i) for i in range(4))
    if rng.random() < 0.6:
        yield "mast", cylinder(0.08 * radius, 1.5 * radius, (x, 0, 1.6 * radius), 6)


def _sailing_ship(rng):
    length, masts, square = rng.uniform(8, 40), int(rng.integers(1, 4)), rng.random() < 0.4
    beam, depth = length * rng.uniform(0.2, 0.32), length * rng.uniform(0.08, 0.16)
    yield "hull", _hull(rng, length, beam, depth)
    for i in range(masts):
        x, tall = length * ((i + 1) / (masts + 1) - 0.45), length * rng.uniform(0.7, 1.2)
        tall, blown = tall / masts**0.4, rng.uniform(0.02, 0.15)
        ends = [(x, 0, -0.5 * depth), (x, 0, tall)]
        yield "mast", tube(ends, [0.008 * length, 0.004 * length])
        if square:
            rows = int(rng.integers(1, 4))
            for row in range(rows):
                low = tall * (0.15 + 0.8 * row / rows)
                wide, top = length * rng.uniform(0.3, 0.45) / masts**0.3, low + 0.7 * tall / rows
                corners = [(-0.5, low), (0.5, low), (0.4, top), (-0.4, top)]
                corners = [(x, y * wide, z) for y, z in corners]
                yield "mast", _sail(corners, (blown * wide, 0, 0))
            continue
        foot, reach = 0.12 * tall, length * rng.uniform(0.3, 0.5) / masts**0.7
        gaff = (x - rng.uniform(0.03, 0.4) * reach, rng.uniform(0.9, 0.96) * tall)
        corners = [(x, foot), (x, 0.97 * tall), gaff, (x - reach, foot)]
        yield "mast", _sail([(a, 0, z) for a, z in corners], (0, blown * reach, 0))
        if i == masts - 1:
            bow, sheet = (0.48 * length, 0.05 * depth), (x + 0.03 * length, foot)
            corners = [(x, 0.85 * tall), (x, 0.84 * tall), bow, sheet]
            yield "mast", _sail([(a, 0, z) for a, z in corners], (0, blown * reach, 0))
    if rng.random() < 0.5:
        size = (0.25 * length, 0.45 * beam, 0.4 * depth)
        yield "deck", box(size, (-0.15 * length, 0, -0.05 * depth))
    if rng.random() < 0.5:
        bowsprit = [(0.42 * length, 0, 0), (0.65 * length, 0, 0.1 * length)]
        yield "hull", tube(bowsprit, 0.006 * length, 6)


def _decks(rng, count, place, long, beam, depth):
    """Yield superstructures one on another, a mast, and funnels."""
    base, length = 0, 6 * beam
    for _ in range(count):
        high, wide = depth * rng.uniform(0.5, 1), beam * rng.uniform(0.4, 0.75)
        storey = superellipse(long, wide, sides=4)
        yield "deck", extrude(storey, high, (place, 0, base - 0.05 * depth), top=0.92)
        base, long = base + 0.85 * high, long * rng.uniform(0.45, 0.85)
        place += rng.uniform(-0.2, 0.2) * long
    tall, thin = depth * rng.uniform(1.5, 4), 0.004 * length
    yield "mast", tube([(place, 0, 0.8 * base), (place, 0, base + tall)], [thin, 0.3 * thin])
    yield "mast", box((thin, 0.5 * beam, thin), (place, 0, base + 0.6 * tall))
    for x in rng.uniform(-1, 0.3, rng.integers(0, 3)) * 0.2 * length:
        high = base + depth * rng.uniform(0.3, 1)
        yield "deck", cylinder(0.13 * beam, high, (place + x, 0, -0.1 * depth), 10)


def _across(side, width, top=1):
    """Extrude a side view `(x, z)` along y; upward it narrows to `top` times the width."""
    side = np.asarray(side, np.float64)
    share = (side[:, 1] - side[:, 1].min()) / np.ptp(side[:, 1])
    half = width / 2 * (1 + (top - 1) * share)
    rings = [np.stack([side[:, 0], sign * half, side[:, 1]], axis=1) for sign in (-1, 1)]
    return loft(np.stack(rings))


def _pod(at, length, radius):
    """Return a nacelle whose front is at a place."""
    path = [shifted(at, -length * t) for t in (0, 0.2, 0.6, 1)]
    return tube(path, radius * np.array([0.7, 1, 1, 0.5]), 10)


def _wheel(radius, width, at):
    """Return a wheel that rolls along x, its centre at a place."""
    return move(turn(cylinder(radius, width, (0, 0, -width / 2)), "x", 90), at)


def _hull(rng, length, beam, depth):
    """Return a hull from stern to bow, its deck at about z = 0."""
    t = np.linspace(0, 1, 11)
    blunt, stern = rng.uniform(0.45, 0.85), rng.uniform(0.2, 0.85)
    breadth = np.interp(t, [0, 0.2, 0.6, 1], [stern, 1, 1, 0]) ** blunt
    breadth = np.maximum(breadth, 0.02) * beam / 2
    sheer = depth * rng.uniform(0.1, 0.7) * np.abs(2 * t - 0.9) ** 2
    ends = [rng.uniform(0.3, 1), 1, 1, rng.uniform(0.3, 0.9)]
    keel = -depth * np.interp(t, [0, 0.15, 0.85, 1], ends)
    rake, bilge = depth * rng.uniform(0, 1.5), rng.uniform(0.3, 0.9)
    rings = []
    for s, half, up, low in zip(t, breadth, sheer, keel, strict=True):
        section = np.array([(1, up), (bilge, 0.6 * low), (0.15, low)])
        y, z = half * section[:, 0], section[:, 1]
        x = length * (s - 0.5) - rake * s**4 * (up - z) / depth
        right = np.stack([x, y, z], axis=1)
        rings.append(np.concatenate([right, right[::-1] * (1, -1, 1)]))
    return loft(np.array(rings))


def _sail(corners, bulge):
    """Return a thin sail between four corners, blown out by a vector."""
    corners, bulge = np.asarray(corners, np.float64), np.asarray(bulge, np.float64)
    thin = 0.03 * bulge + 0.004 * np.ptp(corners, axis=0).max() * np.sign(bulge)
    rings = []
    for t in np.linspace(0, 1, 6):
        a, b = (1 - t) * corners[:2] + t * corners[:1:-1]
        middle = (a + b) / 2 + 1.2 * bulge * np.sin(np.pi * t) ** 0.7
        rings.append([a, middle, b, b + thin, middle + thin, a + thin])
    return loft(np.array(rings))
