"""Made-up lamps, vessels, plants, devices, chess, guitars and guns: each function yields parts.

Sizes are in metres; what has a front faces +x.
"""

import numpy as np

from .primitives import (
    bend,
    box,
    cylinder,
    ellipsoid,
    extrude,
    lean,
    move,
    pair,
    revolve,
    ring,
    shifted,
    stretch,
    superellipse,
    tube,
    turn,
    union,
)


def lamp(rng):
    """A lamp: table or floor lamp with a shade, desk lamp, street lamp or candelabra."""
    style = rng.choice(["shade", "desk", "street", "globes"], p=[0.5, 0.15, 0.2, 0.15])
    sides = int(rng.choice([6, 12, 20]))
    if style == "desk":
        yield from _desk_lamp(rng, sides)
        return
    tall = rng.uniform(2.5, 6) if style == "street" else rng.uniform(0.3, 1.7)
    if style == "street":
        radius, foot = rng.uniform(0.04, 0.1), rng.uniform(0.1, 0.25)
    else:
        radius, foot = rng.uniform(0.01, 0.03), rng.uniform(0.09, 0.18) * (1 + 0.4 * (tall > 1))
    yield "base", revolve([(foot, 0), (foot, 0.03), (radius, rng.uniform(0.04, 0.15))], sides=sides)
    if style == "shade" and tall < 0.7 and rng.random() < 0.5:
        # The pole of a table lamp may be a vase.
        z = np.linspace(0, 1, 12)
        belly = radius + rng.uniform(0.02, 0.1) * np.sin(np.pi * z) ** rng.uniform(0.7, 2)
        yield "pole", revolve(zip(belly, z * tall, strict=True), sides=sides)
    else:
        yield "pole", revolve([(radius, 0), (radius * rng.uniform(0.6, 1), tall)], sides=8)
        for z in rng.uniform(0.05, 0.95, rng.integers(0, 4)) * tall:
            yield "pole", ellipsoid((2 * radius, 2 * radius, radius), (0, 0, z), 8)
    if style == "shade":
        wide = rng.uniform(0.12, 0.28) * (1 + 0.3 * (tall > 1))
        top, high = wide * rng.uniform(0.3, 1), rng.uniform(0.12, 0.35)
        yield "shade", _hollow([(wide, 0), (top, high)], 0.004, (0, 0, tall - 0.6 * high), sides)
    elif style == "globes" or rng.random() < 0.4:
        count, ball = int(rng.integers(1, 6)), rng.uniform(1.5, 4) * radius + 0.04
        yield "shade", ellipsoid(ball, (0, 0, tall + 0.8 * ball))
        for angle in np.arange(count if count > 1 else 0) * (2 * np.pi / count):
            end = 2.6 * ball * np.cos(angle), 2.6 * ball * np.sin(angle), tall - 0.5 * ball
            low = (end[0], end[1], end[2] - ball)
            yield "pole", tube(bend((0, 0, 0.8 * tall), low, end), 0.4 * radius, 6)
            yield "shade", ellipsoid(ball, (*end[:2], end[2] + 0.8 * ball))
    elif rng.random() < 0.3:
        wide, high = rng.uniform(2, 4) * radius, rng.uniform(4, 8) * radius
        lantern = [(0.5 * wide, 0), (wide, high), (1.3 * wide, high), (0, 1.5 * high)]
        yield "shade", revolve(lantern, (0, 0, tall), int(rng.choice([4, 6, 8])))
    else:
        reach, rise = rng.uniform(0.5, 1.8), rng.uniform(0, 0.6)
        for side in (1, -1) if rng.random() < 0.25 else (1,):
            end = (side * reach, 0, tall + rise)
            yield "pole", tube(bend((0, 0, tall - 0.02), (0, 0, end[2]), end), 0.6 * radius)
            head = ellipsoid((0.35, 0.13, 0.08)) if rng.random() < 0.6 else box((0.6, 0.2, 0.1))
            yield "shade", move(head, (end[0] + side * 0.2, 0, end[2]))


def bottle(rng):
    """A bottle of round or, less often, square section, with or without a cap."""
    radius, height = rng.uniform(0.03, 0.055), rng.uniform(0.18, 0.34)
    power, sides = (rng.uniform(4, 9), 24) if rng.random() < 0.2 else (2, int(rng.choice([10, 24])))
    neck, shoulder = rng.uniform(0.25, 0.5) * radius, rng.uniform(0.35, 0.7) * height
    run, slope = rng.uniform(0.08, 0.3) * height, rng.uniform(0.5, 2)
    t = np.linspace(0, 1, 8)
    curve = neck + (radius - neck) * np.cos(0.5 * np.pi * t) ** slope
    waist = 1 - rng.choice([0, 0, rng.uniform(0.05, 0.25)])
    profile = [(0.9 * radius, 0), (radius, 0.03 * height), (waist * radius, 0.5 * shoulder)]
    profile += zip(curve, shoulder + run * t, strict=True)
    body = revolve(profile, sides=sides, power=power)
    start = shoulder + run
    top = start + rng.uniform(0.03, 0.3) * height
    lip = neck * rng.uniform(1.05, 1.3)
    rim = [(neck, start), (neck, top), (lip, top), (lip, top + 0.012), (0, top + 0.012)]
    narrow = revolve(rim, sides=sides)
    flat = (1, rng.uniform(0.5, 0.9) if rng.random() < 0.25 else 1, 1)
    yield "body", stretch(body, flat)
    yield "neck", stretch(narrow, flat)
    if rng.random() < 0.7:
        cap = cylinder(lip * 1.1, rng.uniform(0.01, 0.03), (0, 0, top + 0.01), sides)
        yield "cap", stretch(cap, flat)
    if rng.random() < 0.1:
        path = bend((radius, 0, 0.4 * shoulder), (2.2 * radius, 0, shoulder), (neck, 0, start))
        yield "body", tube(path, 0.007)


def vase(rng):
    """A vase: a waved profile with a lip, sometimes with a foot and handles."""
    height, mean = rng.uniform(0.2, 0.6), rng.uniform(0.05, 0.13)
    z = np.linspace(0, 1, 16)
    phase, waves = rng.uniform(-1, 2), rng.uniform(2.5, 6.5)
    wall = mean * (1 + rng.uniform(0.2, 0.55) * np.sin(waves * z + phase))
    wall = np.maximum(wall * (1 + rng.uniform(-0.3, 0.3) * z), 0.3 * mean)
    profile = list(zip(wall, z * height, strict=True))
    if rng.random() < 0.4:
        foot = wall[0] * rng.uniform(1, 1.6)
        profile = [(foot, -0.06 * height), (foot, -0.03 * height), *profile]
    if rng.random() < 0.5:
        profile.append((wall[-1] * rng.uniform(1.1, 1.4), height * 1.04))
    power, sides = (rng.uniform(3, 7), 24) if rng.random() < 0.12 else (2, int(rng.choice([8, 24])))
    yield "body", _hollow(profile, 0.06 * mean + 0.002, (0, 0, 0), sides, power)
    if rng.random() < 0.25:
        low, high = 0.55 * height, rng.uniform(0.8, 0.97) * height
        near, far = (np.interp(level, z * height, wall) - 0.003 for level in (low, high))
        out = max(near, far) + rng.uniform(0.6, 1.6) * mean
        handle = tube(bend((near, 0, low), (out, 0, high), (far, 0, high)), 0.1 * mean)
        yield "handles", pair(handle, 0) if rng.random() < 0.7 else handle


def goblet(rng):
    """A drinking vessel on a stem."""
    radius, height = rng.uniform(0.03, 0.055), rng.uniform(0.06, 0.13)
    thick, sides = rng.uniform(0.002, 0.005), int(rng.choice([10, 24]))
    stem, foot = rng.uniform(0.02, 0.1), radius * rng.uniform(0.6, 1.05)
    thin = rng.uniform(0.003, 0.01)
    feet = [(foot, 0), (foot, 0.004), (thin, rng.uniform(0.006, 0.025)), (thin, stem)]
    yield "foot", revolve(feet, sides=sides)
    t = np.linspace(0, 1, 10)
    round_off = t ** rng.uniform(0.25, 0.7) * (1 - rng.uniform(0, 0.35) * t**3)
    bowl_wall = zip(np.maximum(radius * round_off, thin), stem + height * t, strict=True)
    yield "body", _hollow(list(bowl_wall), thick, (0, 0, 0), sides)


def cup(rng):
    """A mug with a handle, or a tumbler."""
    radius, height = rng.uniform(0.03, 0.055), rng.uniform(0.06, 0.13)
    thick, sides = rng.uniform(0.002, 0.005), int(rng.choice([10, 24]))
    foot, belly = rng.uniform(0.6, 1.05), rng.choice([0, rng.uniform(-0.15, 0.25)])
    t = np.linspace(0, 1, 8)
    wall = radius * (foot + (1 - foot) * t + belly * np.sin(np.pi * t))
    yield "body", _hollow(list(zip(wall, t * height, strict=True)), thick, (0, 0, 0), sides)
    if rng.random() < 0.8:
        low, high = rng.uniform(0.15, 0.3) * height, rng.uniform(0.7, 0.92) * height
        start, end = (np.interp(z, t * height, wall) - thick / 2 for z in (low, high))
        out = max(start, end) + rng.uniform(0.022, 0.042)
        if rng.random() < 0.3:
            path = [(start, 0, low), (out - 0.015, 0, low), (out - 0.015, 0, high), (end, 0, high)]
        else:
            lower, upper = (out, 0, low), (out, 0, high)
            middle = (out, 0, (low + high) / 2)
            upper_half = bend(middle, upper, (end, 0, high), 5)
            path = [*bend((start, 0, low), lower, middle, 5), *upper_half[1:]]
        yield "handle", tube(path, rng.uniform(0.004, 0.008), 8, rng.uniform(0.6, 1))


def bowl(rng):
    """A bowl: wider than high, on a foot ring."""
    radius = rng.uniform(0.06, 0.16)
    height, sides = radius * rng.uniform(0.4, 1.1), int(rng.choice([10, 24]))
    t = np.linspace(0.05, 1, 10)
    wall = radius * t ** rng.uniform(0.25, 0.7)
    lip = [(wall[-1] * rng.uniform(1.02, 1.15), height)] if rng.random() < 0.4 else []
    profile = [*zip(wall, t * 0.97 * height, strict=True), *lip]
    yield "body", _hollow(profile, rng.uniform(0.003, 0.008), (0, 0, 0), sides)
    if rng.random() < 0.6:
        foot = radius * rng.uniform(0.35, 0.6)
        yield "foot", cylinder(foot, 0.08 * height + 0.01, (0, 0, -0.01), sides)


def flower_pot(rng):
    """A pot with earth and, half of the time, a small plant."""
    radius = rng.uniform(0.06, 0.2)
    height = radius * rng.uniform(0.9, 2.2)
    yield "pot", _pot(rng, radius, height)
    if rng.random() < 0.75:
        yield "plant", cylinder(0.88 * radius, 0.05 * radius, (0, 0, 0.85 * height))
    if rng.random() < 0.5:
        leaves = _leaves(rng, int(rng.integers(5, 14)), radius * rng.uniform(2, 4))
        yield "plant", move(leaves, (0, 0, 0.85 * height))


def plant(rng):
    """A plant in a pot: arching blades, leaves on stems, or a little tree."""
    radius = rng.uniform(0.08, 0.2)
    height = radius * rng.uniform(1, 2)
    yield "pot", _pot(rng, radius, height)
    yield "pot", cylinder(0.88 * radius, 0.03, (0, 0, 0.85 * height))
    at = (0, 0, 0.85 * height)
    style = rng.choice(["blades", "stems", "tree"], p=[0.4, 0.4, 0.2])
    if style == "blades":
        leaves = _leaves(rng, int(rng.integers(8, 30)), radius * rng.uniform(2, 5))
        yield "leaves", move(leaves, at)
    elif style == "stems":
        for _ in range(int(rng.integers(1, 8))):
            tip = np.append(rng.normal(0, 1.2 * radius, 2), radius * rng.uniform(2, 6))
            path = bend((*rng.normal(0, 0.2 * radius, 2), 0), (0, 0, 0.6 * tip[2]), tip)
            yield "stem", move(tube(path, 0.06 * radius, 5), at)
            for spot in rng.uniform(0.25, 1, rng.integers(3, 9)):
                place = path[0] + (tip - path[0]) * spot if spot > 0.95 else path[int(spot * 7)]
                leaf = _blade(rng, radius * rng.uniform(0.5, 1.5), rng.uniform(0.2, 0.5))
                yield "leaves", move(leaf, place + at)
    else:
        tall, crown = radius * rng.uniform(2, 5), radius * rng.uniform(1, 2)
        yield "stem", cylinder(0.1 * radius, tall, at, 6)
        for _ in range(int(rng.integers(20, 60))):
            way = rng.normal(size=3)
            way *= crown * rng.uniform(0.5, 1) / np.linalg.norm(way)
            leaf = ellipsoid(radius * rng.uniform(0.1, 0.3, 3) * (1, 1, 0.3), sides=6)
            leaf = turn(turn(leaf, "x", rng.uniform(0, 90)), "z", rng.uniform(0, 360))
            yield "leaves", move(leaf, shifted(at + way, z=tall))


def chess(rng):
    """A chess piece, or a board with pieces."""
    kinds = ["pawn", "rook", "knight", "bishop", "queen", "king"]
    if rng.random() < 0.8:
        yield from _chess_piece(rng, rng.choice(kinds))
        return
    side, thick = 0.05, rng.uniform(0.005, 0.05)
    yield "board", box((8.5 * side, 8.5 * side, thick), (0, 0, -thick))
    full = rng.random() < 0.6
    for i in (0, 1, 6, 7) if full else (0, 1):
        for j in range(8):
            kind = "pawn" if i in (1, 6) else kinds[1 + min(j, 7 - j)]
            at = ((i - 3.5) * side, (j - 3.5) * side, 0)
            for part, solid in _chess_piece(rng, kind, sides=6):
                yield part, move(stretch(solid, 0.5), at)


def monitor(rng):
    """A flat screen, or less often a tube, on a neck and a foot."""
    width = rng.uniform(0.4, 0.75)
    height, thick = width * rng.uniform(0.45, 0.8), rng.uniform(0.02, 0.06)
    low = rng.uniform(0.06, 0.18)
    screen = box((thick, width, height), (0, 0, low))
    if rng.random() < 0.25:
        deep = rng.uniform(0.2, 0.4)
        tube_end = extrude(superellipse(height, width, sides=4), deep, top=0.5)
        screen = union([screen, move(turn(tube_end, "y", -90), (0, 0, low + height / 2))])
    else:
        inner = box((0.01, 0.93 * width, 0.9 * height), (thick / 2, 0, low + 0.05 * height))
        screen = union([screen, inner])
    yield "screen", turn(screen, "y", rng.uniform(-12, 3), (0, 0, low))
    reach = rng.uniform(0, 0.25)
    neck = box((0.03, rng.uniform(0.04, 0.15), low + reach), (-thick / 2, 0, 0))
    yield "neck", neck
    wide = width * rng.uniform(0.3, 0.6)
    outline = superellipse(rng.uniform(0.15, 0.25), wide, rng.choice([2, 4, 10]), 20)
    yield "foot", extrude(outline, rng.uniform(0.01, 0.03), top=rng.uniform(0.8, 1))


def laptop(rng):
    """A laptop, open at some angle."""
    width = rng.uniform(0.28, 0.4)
    depth, thick = width * rng.uniform(0.62, 0.78), rng.uniform(0.01, 0.035)
    yield "base", box((depth, width, thick))
    if rng.random() < 0.6:
        yield "base", box((0.4 * depth, 0.88 * width, 0.004), (-0.15 * depth, 0, thick))
        yield "base", box((0.2 * depth, 0.3 * width, 0.003), (0.3 * depth, 0, thick))
    lid = box((depth, width, 0.6 * thick), (0, 0, thick))
    if rng.random() < 0.5:
        lid = union([lid, box((0.88 * depth, 0.92 * width, 0.002), (0, 0, thick - 0.001))])
    yield "lid", turn(lid, "y", -rng.uniform(70, 140), (-depth / 2, 0, thick))


def keyboard(rng):
    """A computer keyboard: straight, rarely curved, its keys in blocks."""
    width, depth = rng.uniform(0.32, 0.5), rng.uniform(0.12, 0.19)
    thick, slope = rng.uniform(0.012, 0.03), rng.uniform(0, 0.12)
    outline = superellipse(depth, width, rng.choice([8, 20, 20]), 32)
    rows, pitch = int(rng.integers(5, 7)), rng.uniform(0.0165, 0.019)
    pitch, columns = min(pitch, 0.9 * depth / rows), int(0.94 * width / pitch)
    size, high = pitch * rng.uniform(0.7, 0.9), rng.uniform(0.004, 0.012)
    key = extrude(superellipse(size, size, sides=4), high, (0, 0, thick), top=0.8)
    # Blocks are parted by columns left out; the space bar lies in the last row.
    gaps = (int(0.68 * columns), int(0.84 * columns)) if width > 0.38 else ()
    across = ((np.arange(columns) + 0.5) / columns - 0.5) * 0.94 * width
    along = (np.arange(rows) + 0.5 - rows / 2) * pitch + rng.uniform(-0.03, 0.03) * depth
    places = [
        (along[i], across[j], 0)
        for i, j in np.ndindex(rows, columns)
        if j not in gaps and not (i == rows - 1 and 3 < j < 9)
    ]
    bar = box((size, 4.5 * pitch, high), (along[-1], across[6], thick))
    keys = union([bar, *(move(key, place) for place in places)])
    bow = rng.uniform(-1.5, 1.5) if rng.random() < 0.25 else 0
    for part, solid in (("body", extrude(outline, thick, top=0.97)), ("keys", keys)):
        vertices = solid[0].copy()
        vertices[:, 2] -= slope * vertices[:, 0]
        vertices[:, 0] += bow * vertices[:, 1] ** 2
        yield part, (vertices, solid[1])
    if rng.random() < 0.2:
        yield "body", box((0.07, 0.98 * width, 0.4 * thick), (depth / 2 + 0.02, 0, -0.06 * slope))


def guitar(rng):
    """A guitar, lying on its back: acoustic, electric with horns, or V-shaped."""
    style = rng.choice(["acoustic", "electric", "vee"], p=[0.5, 0.35, 0.15])
    long, wide = rng.uniform(0.42, 0.52), rng.uniform(0.32, 0.42)
    thick = rng.uniform(0.07, 0.12) if style == "acoustic" else rng.uniform(0.035, 0.05)
    if style == "vee":
        arm = [(0.1, 0.06), (-long, 0.75 * wide), (-long, 0.45 * wide), (0, -0.06)]
        yield "body", pair(extrude(arm, thick))
    else:
        t = np.linspace(0, 1, 16)
        bouts = np.sin(np.pi * t) ** 0.5 * (1 - rng.uniform(0.15, 0.3) * t)
        bouts -= rng.uniform(0.15, 0.32) * np.exp(-(((t - 0.58) / 0.13) ** 2))
        half = np.stack([long * (t - 0.5), 0.5 * wide * np.maximum(bouts, 0)], axis=1)
        outline = np.concatenate([half, half[::-1][1:-1] * (1, -1)])
        yield "body", extrude(outline, thick, (-long / 2, 0, 0))
    if style == "electric":
        for side, size in ((1, rng.uniform(0.08, 0.18)), (-1, rng.uniform(0, 0.12))):
            horn = [(-0.15 * long, 0.2), (0, 0.36), (size, 0.3)]
            path = [(x, side * y * wide, thick / 2) for x, y in horn]
            yield "body", tube(path, [0.06, 0.05, 0.015], 8, thick / 0.12)
    yield "body", box((0.03, 0.18, 0.012), (-0.72 * long, 0, thick))
    if style == "acoustic":
        yield "body", cylinder(0.05, 0.004, (-0.32 * long, 0, thick), 16)
    start, reach = -rng.uniform(0.05, 0.4) * long, rng.uniform(0.4, 0.6)
    size = (reach - start, rng.uniform(0.045, 0.06), 0.025)
    yield "neck", box(size, ((reach + start) / 2, 0, thick - 0.008))
    plate = superellipse(0.17, rng.uniform(0.07, 0.11), rng.choice([3, 10]), 12)
    pegs = union(ellipsoid((0.01, 0.018, 0.01), (x, 0.06, 0), 6) for x in (-0.05, 0, 0.05))
    plate = move(union([extrude(plate, 0.018), pair(pegs)]), (reach + 0.07, 0, thick - 0.005))
    yield "head", turn(plate, "y", rng.uniform(0, 15), (reach, 0, thick))


def gun(rng):
    """A pistol, a revolver or a rifle; its side is seen along y."""
    return rng.choice([_pistol, _rifle], p=[0.55, 0.45])(rng)


def _rifle(rng):
    long, thick, rake = rng.uniform(0.35, 0.7), rng.uniform(0.025, 0.035), rng.uniform(0.1, 0.5)
    yield "barrel", tube([(0.1, 0, 0.02), (0.1 + long, 0, 0.02)], rng.uniform(0.008, 0.014))
    yield "barrel", box((0.008, 0.006, 0.03), (0.08 + long, 0, 0.02))
    yield "body", box((rng.uniform(0.2, 0.35), thick, rng.uniform(0.05, 0.08)), (0, 0, -0.02))
    if rng.random() < 0.75:
        yield "body", box((0.45 * long, 1.2 * thick, 0.045), (0.1 + 0.25 * long, 0, -0.01))
    drop, end = rng.uniform(0.02, 0.09), rng.uniform(0.3, 0.42)
    stock = [(-0.08, 0.03), (-0.08, -0.02), (-end, -drop - 0.08), (-end, 0.03 - drop)]
    yield "stock", turn(extrude(stock, thick, (0, 0, -thick / 2)), "x", 90)
    if rng.random() < 0.6:
        yield "grip", lean(box((0.04, thick, 0.12), (-0.08, 0, -0.12)), rake, foot=-0.02)
    if rng.random() < 0.6:
        magazine = box((rng.uniform(0.04, 0.08), 0.8 * thick, 0.2), (0.06, 0, -0.2))
        yield "grip", lean(magazine, rake * rng.choice([1, 0, -1]))
    if rng.random() < 0.4:
        yield "barrel", tube([(-0.1, 0, 0.08), (0.12, 0, 0.08)], 0.018)
        yield "body", box((0.1, 0.01, 0.05), (0, 0, 0.03))


def _pistol(rng):
    long, thick, rake = rng.uniform(0.12, 0.2), rng.uniform(0.025, 0.035), rng.uniform(0.1, 0.5)
    if rng.random() < 0.35:
        # A revolver.
        yield "barrel", tube([(0.02, 0, 0.02), (0.04 + long, 0, 0.02)], rng.uniform(0.008, 0.013))
        drum = turn(cylinder(rng.uniform(0.019, 0.025), 0.045), "y", 90)
        yield "body", move(drum, (-0.02, 0, 0.01))
        yield "body", box((0.1, 0.6 * thick, 0.045), (-0.01, 0, -0.012))
    else:
        yield "body", box((long + 0.05, thick, 0.032), (long / 2 - 0.04, 0, 0.005))
        yield "body", box((0.8 * long, 0.85 * thick, 0.03), (0.3 * long - 0.04, 0, -0.02))
        muzzle = (long + rng.uniform(0, 0.05), 0, 0.02)
        yield "barrel", tube([(long - 0.04, 0, 0.02), muzzle], 0.009)
    tall = rng.uniform(0.08, 0.12)
    grip = box((rng.uniform(0.035, 0.05), 0.9 * thick, tall), (-0.04, 0, -tall))
    yield "grip", lean(grip, rake)
    guard = stretch(turn(ring(0.02, 0.003), "x", 90), (1.2, 1, 1))
    yield "grip", move(guard, (0.005, 0, -0.03))
    if rng.random() < 0.5:
        yield "barrel", box((0.006, 0.004, 0.008), (0.85 * long, 0, 0.035))
    if rng.random() < 0.1:
        yield "barrel", tube([(long, 0, 0.02), (1.9 * long, 0, 0.02)], 0.016)


def _hollow(profile, thick, at, sides, power=2):
    """Return a vessel: the outer wall as a profile, an inner one by a thickness within it."""
    low = profile[0][1] + 2 * thick
    inner = [(max(r - thick, 0.3 * r), max(z, low)) for r, z in profile[::-1]]
    return revolve([*profile, *inner, (0, low)], at, sides, power)


def _pot(rng, radius, height):
    """Return a hollow pot: tapering, bellied or square."""
    power, sides = (8, 24) if rng.random() < 0.15 else (2, int(rng.choice([8, 20])))
    foot, belly = rng.uniform(0.55, 1), rng.choice([0, 0, rng.uniform(0.1, 0.35)])
    t = np.linspace(0, 1, 7)
    wall = radius * (foot + (1 - foot) * t + belly * np.sin(np.pi * t))
    profile = list(zip(wall, t * height, strict=True))
    if rng.random() < 0.5:
        rim = radius * rng.uniform(1.05, 1.2)
        edge = [(radius, 0.82), (rim, 0.82), (rim, 1)]
        profile[-2:] = [(wall[-2], 0.8 * height), *((r, z * height) for r, z in edge)]
    return _hollow(profile, 0.06 * radius, (0, 0, 0), sides, power)


def _blade(rng, length, width):
    """Return a leaf that starts at the origin and arches over, in a random direction."""
    rise = rng.uniform(0.1, 1)
    end = (length * (1.1 - rise), 0, length * (rise - rng.uniform(0.2, 0.8)))
    path = bend((0, 0, 0), (0.4 * length * (1.1 - rise), 0, length * rise), end, 7)
    share = 0.5 * width * length * np.array([0.15, 0.6, 0.9, 1, 0.8, 0.5, 0.03])
    return turn(tube(path, share, 6, flat=0.06), "z", rng.uniform(0, 360))


def _leaves(rng, count, length):
    width = rng.uniform(0.06, 0.3)
    return union(_blade(rng, length * rng.uniform(0.6, 1.1), width) for _ in range(count))


def _chess_piece(rng, kind, sides=None):
    """Yield base, stem and head of a piece about 0.1 high."""
    sides = sides or int(rng.choice([8, 16, 24]))
    foot, waist = rng.uniform(0.021, 0.027), rng.uniform(0.008, 0.014)
    tall = {"pawn": 0.045, "rook": 0.05, "knight": 0.02}.get(kind, 0.065) * rng.uniform(0.85, 1.2)
    steps = [(foot, 0), (foot, 0.008), (0.8 * foot, 0.012), (0.85 * foot, 0.017), (waist, 0.024)]
    yield "base", revolve(steps, sides=sides)
    z = np.linspace(0.02, tall, 7)
    if rng.random() < 0.4:
        stem = waist * (1 + 0.5 * np.sin(np.linspace(0, rng.uniform(6, 16), 7)) ** 2)
    else:
        stem = waist * np.linspace(1.3, 0.9, 7)
    yield "stem", revolve(zip(stem, z, strict=True), sides=sides)
    collar = rng.uniform(1.3, 1.9) * waist
    yield (
        "stem",
        revolve([(waist, tall - 0.004), (collar, tall), (waist, tall + 0.004)], sides=sides),
    )
    top = (0, 0, tall)
    if kind == "pawn":
        ball = rng.uniform(1.1, 1.5) * waist
        yield "head", ellipsoid(ball, (0, 0, tall + 0.8 * ball), max(8, sides // 2 * 2))
    elif kind == "rook":
        wide = 1.5 * waist
        profile = [(wide, 0), (wide, 0.018), (0.65 * wide, 0.018), (0.65 * wide, 0.012), (0, 0.012)]
        yield "head", revolve(profile, top, sides)
        for i in range(5):
            merlon = box((0.4 * wide, 0.5 * wide, 0.006), (0.8 * wide, 0, tall + 0.018))
            yield "head", turn(merlon, "z", 72 * i)
    elif kind == "knight":
        neck = bend((-0.004, 0, 0.018), (-0.016, 0, 0.05), (0.002, 0, 0.066))
        yield "head", tube(neck, np.linspace(0.016, 0.011, 8), 8, flat=1.2)
        snout = [(-0.004, 0, 0.062), (0.01, 0, 0.058), (0.024, 0, 0.046)]
        yield "head", tube(snout, [0.012, 0.01, 0.006], 8)
        ear = [(-0.004, 0.005, 0.065), (-0.005, 0.006, 0.08)]
        yield "head", pair(tube(ear, [0.004, 0.001]))
    elif kind == "bishop":
        drop = [(0.6, 0), (1.3, 0.01), (0.9, 0.02), (0.15, 0.03)]
        yield "head", revolve([(r * waist, z) for r, z in drop], top, sides)
        yield "head", ellipsoid(0.004, (0, 0, tall + 0.032), 8)
    else:
        wide = rng.uniform(1.4, 1.8) * waist
        profile = [(0.9 * waist, 0), (wide, 0.02), (0.7 * wide, 0.022), (0.2 * wide, 0.028)]
        yield "head", revolve(profile, top, sides)
        if kind == "queen":
            yield "head", ellipsoid(0.005, (0, 0, tall + 0.03), 8)
            for i in range(8):
                point = ellipsoid(0.0035, (0.9 * wide, 0, tall + 0.021), 6)
                yield "head", turn(point, "z", 45 * i)
        else:
            yield "head", box((0.004, 0.005, 0.018), (0, 0, tall + 0.027))
            yield "head", box((0.004, 0.014, 0.005), (0, 0, tall + 0.034))


def _desk_lamp(rng, sides):
    """Yield a lamp of two arms, or one bent arm, and a tilted shade."""
    foot = rng.uniform(0.08, 0.12)
    yield "base", revolve([(foot, 0), (foot, 0.02), (0.03, 0.03)], sides=sides)
    elbow = np.array([rng.uniform(-0.25, 0.05), 0, rng.uniform(0.25, 0.45)])
    hand = shifted(elbow, rng.uniform(0.15, 0.4), 0, rng.uniform(-0.02, 0.2))
    if rng.random() < 0.5:
        yield "pole", tube(bend((0, 0, 0.02), (0, 0, 1.1 * hand[2]), hand, 12), 0.008)
    else:
        arms = [tube([(0, 0, 0.02), elbow], 0.007, 6), tube([elbow, hand], 0.007, 6)]
        yield "pole", union(arms)
        if rng.random() < 0.5:
            yield "pole", union(move(arm, (0.02, 0, 0.01)) for arm in arms)
    wide, high = rng.uniform(0.05, 0.1), rng.uniform(0.07, 0.16)
    shade = _hollow(
        [(wide, 0), (0.9 * wide, 0.3 * high), (0.35 * wide, high)], 0.003, (0, 0, 0), sides
    )
    shade = turn(move(shade, (0, 0, -0.9 * high)), "y", rng.uniform(-60, 10))
    yield "shade", move(shade, hand)
