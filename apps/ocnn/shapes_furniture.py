"""Made-up furniture: each function yields the parts of one piece, facing +x, sizes in metres."""

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
    superellipse,
    tube,
    turn,
    union,
)


def chair(rng):
    """A chair on four legs or, as in offices, on a pedestal."""
    width, depth = rng.uniform(0.42, 0.55, 2)
    height, thick, office = rng.uniform(0.4, 0.5), rng.uniform(0.03, 0.08), rng.random() < 0.2
    if rng.random() < 0.1:
        height *= 1.5
    yield "seat", _slab(rng, depth, width, thick, height)
    if office:
        yield "legs", _pedestal(rng, 0.6 * width, height)
    else:
        yield "legs", _legs(rng, depth, width, height)
    tall = rng.uniform(0.35, 0.6) if rng.random() < 0.85 else rng.uniform(0.6, 0.9)
    back = _upright(rng, width * rng.uniform(0.8, 1), tall, rng.uniform(0.02, 0.06))
    gap = rng.uniform(0.05, 0.15) if office else 0
    back = move(lean(back, rng.uniform(-0.3, 0)), (0.03 - depth / 2, 0, height + thick + gap))
    if gap:
        post = tube([(0, 0, height), (0.02 - depth / 2, 0, height + thick + gap + 0.1)], 0.03)
        back = union([back, post])
    yield "back", back
    if rng.random() < 0.4:
        yield "arms", _arms(rng, depth, width, height + thick, rng.uniform(0.15, 0.28))


def stool(rng):
    """A stool, low or as tall as at a bar, sometimes as wide as a small table."""
    width, height = rng.uniform(0.28, 0.5), rng.uniform(0.35, 0.85)
    depth, thick = width * rng.uniform(0.7, 1), rng.uniform(0.02, 0.1)
    if rng.random() < 0.65:
        depth = width
        seat = extrude(superellipse(width, width, sides=24), thick, (0, 0, height))
    else:
        seat = _slab(rng, width, depth, thick, height)
    yield "seat", seat
    if rng.random() < 0.3:
        yield "legs", _pedestal(rng, 0.5 * width, height)
    elif rng.random() < 0.5:
        yield "legs", _spread_legs(rng, 0.35 * width, height, int(rng.integers(3, 5)))
    else:
        yield "legs", _legs(rng, 0.75 * width, 0.75 * depth, height)


def table(rng):
    """A table: rectangular or round; legs, trestles, a pedestal; low or high."""
    width, depth = rng.uniform(0.5, 0.95), rng.uniform(0.6, 1.9)
    height = rng.uniform(0.35, 0.55) if rng.random() < 0.3 else rng.uniform(0.65, 0.8)
    thick = rng.uniform(0.02, 0.06)
    if rng.random() < 0.3:
        width *= 1.3
        outline = superellipse(width, width * rng.uniform(0.75, 1), sides=int(rng.choice([8, 24])))
        yield "top", extrude(outline, thick, (0, 0, height))
        if rng.random() < 0.6:
            yield "legs", _pedestal(rng, 0.35 * width, height)
        else:
            yield "legs", _spread_legs(rng, 0.3 * width, height, int(rng.integers(3, 7)))
        return
    yield "top", _slab(rng, width, depth, thick, height)
    if rng.random() < 0.15:
        side = box((0.8 * width, rng.uniform(0.03, 0.1), height), (0, 0.4 * depth, 0))
        beam = box((0.04, 0.8 * depth, 0.1), (0, 0, rng.uniform(0.2, 0.8) * height))
        yield "legs", union([pair(side), beam])
        return
    yield "legs", _legs(rng, width * rng.uniform(0.8, 1), depth * rng.uniform(0.8, 1), height)
    if rng.random() < 0.3:
        low = height - rng.uniform(0.05, 0.15)
        yield "legs", box((0.9 * width, 0.9 * depth, height - low), (0, 0, low))
    if rng.random() < 0.2:
        yield "top", box((0.85 * width, 0.85 * depth, 0.02), (0, 0, rng.uniform(0.1, 0.4) * height))


def desk(rng):
    """A desk: a table with drawers under it, sometimes a back panel or a hutch."""
    width, depth, height = rng.uniform(0.5, 0.85), rng.uniform(0.9, 1.8), rng.uniform(0.65, 0.8)
    thick, chest = rng.uniform(0.02, 0.05), rng.uniform(0.28, 0.45)
    yield "top", box((width, depth, thick), (0, 0, height))
    tall = height if rng.random() < 0.6 else rng.uniform(0.3, 0.7) * height
    places = [1, -1] if rng.random() < 0.4 else [rng.choice([1, -1])]
    for side in places:
        at = (0, side * (depth - chest) / 2, height - tall)
        yield "drawers", box((0.9 * width, chest, tall), at)
        fronts = _fronts(rng, chest, tall, int(rng.integers(2, 5)), 1)
        yield "drawers", move(fronts, (0.45 * width, *at[1:]))
    if tall < height or rng.random() < 0.3:
        yield "legs", _legs(rng, width, depth, height)
    elif len(places) == 1:
        yield "legs", box((0.9 * width, thick, height), (0, -places[0] * (depth - thick) / 2, 0))
    if rng.random() < 0.5:
        low = rng.uniform(0, 0.6) * height
        yield "legs", box((0.02, 0.95 * depth, height - low), (-0.4 * width, 0, low))
    if rng.random() < 0.2:
        rack = _grid(0.3, depth, rng.uniform(0.3, 0.5), 2, int(rng.integers(2, 4)), 0.02)
        yield "top", move(rack, (0.15 - width / 2, 0, height + thick))


def bed(rng):
    """A bed with a headboard, often a footboard, pillows, rarely a canopy."""
    length, width = rng.uniform(1.8, 2.1), rng.uniform(0.8, 1.9)
    low, base, soft = rng.uniform(0.05, 0.35), rng.uniform(0.08, 0.25), rng.uniform(0.12, 0.3)
    yield "base", box((length, width, base), (0, 0, low))
    yield "base", _legs(rng, length, width, low + 0.01)
    mattress = superellipse(0.97 * length, 0.96 * width, 12, 24)
    yield "mattress", extrude(mattress, soft, (0, 0, low + base))
    top = low + base + soft
    tall, thick = rng.uniform(0.6, 1.3), rng.uniform(0.03, 0.1)
    head = _upright(rng, width * rng.uniform(1, 1.1), tall, thick)
    yield "headboard", move(head, (-length / 2 - thick / 2, 0, 0))
    if rng.random() < 0.45:
        foot = _upright(rng, width, tall * rng.uniform(0.4, 1), thick)
        yield "headboard", move(foot, (length / 2 + thick / 2, 0, 0))
    if rng.random() < 0.12:
        posts = [cylinder(0.04, 2, (x, y, 0), 8) for x, y in _corners(length / 2, width / 2)]
        rails = [
            pair(box((length, 0.04, 0.04), (0, width / 2, 1.95))),
            pair(box((0.04, width, 0.04), (length / 2, 0, 1.95)), 0),
        ]
        yield "headboard", union(posts + rails)
    if rng.random() < 0.85:
        count = 1 if width < 1.2 else 2
        for i in range(count):
            at = (0.28 - length / 2, ((i + 0.5) / count - 0.5) * 0.9 * width, top)
            yield "pillows", ellipsoid((0.2, 0.38 * width / count, 0.08), at)
    if rng.random() < 0.3:
        cover = superellipse(0.6 * length, 1.05 * width, 10, 24)
        yield "mattress", extrude(cover, 0.4 * soft + 0.02, (0.2 * length, 0, top - 0.4 * soft))


def sofa(rng):
    """A sofa of one to four seats, sometimes with an L."""
    seats = int(rng.integers(1, 5))
    width = rng.uniform(0.55, 0.7) * seats + 0.15
    depth, height, arm = rng.uniform(0.75, 1), rng.uniform(0.32, 0.48), rng.uniform(0.08, 0.25)
    low = rng.uniform(0.05, 0.15) if rng.random() < 0.5 else 0
    yield "seat", box((depth, width, height - low), (0, 0, low))
    for i in range(seats):
        outline = superellipse(0.75 * depth, 0.96 * width / seats, 8, 20)
        at = (0.12 * depth, ((i + 0.5) / seats - 0.5) * width, height)
        yield "seat", extrude(outline, rng.uniform(0.05, 0.15), at, top=0.95)
    tall, thick = rng.uniform(0.3, 0.55), rng.uniform(0.12, 0.28)
    back = box((thick, width, tall), (thick / 2 - depth / 2, 0, height))
    yield "back", lean(back, rng.uniform(-0.25, 0), foot=height)
    if rng.random() < 0.85:
        tall_arm = height + rng.uniform(0.05, 0.3)
        side = box((depth, arm, tall_arm), (0, (width + arm) / 2, 0))
        yield "arms", pair(side)
        if rng.random() < 0.35:
            roll = turn(cylinder(0.6 * arm, depth, sides=12), "y", 90)
            roll = move(roll, (-depth / 2, (width + arm) / 2, tall_arm))
            yield "arms", pair(roll)
    if low:
        yield "legs", _legs(rng, depth, width, low)
    if rng.random() < 0.15:
        wide, long = width / seats, rng.uniform(0.4, 0.8)
        at = (depth / 2 + long / 2, rng.choice([1, -1]) * (width - wide) / 2, low)
        yield "seat", box((long, wide, height - low), at)


def bench(rng):
    """A bench: slats or a slab, with or without back and arms."""
    width, depth = rng.uniform(0.9, 2.2), rng.uniform(0.3, 0.6)
    height, thick = rng.uniform(0.38, 0.5), rng.uniform(0.02, 0.07)
    if rng.random() < 0.5:
        count = int(rng.integers(3, 7))
        slat = 0.8 * depth / count
        rows = (np.arange(count) + 0.5) / count * depth - depth / 2
        yield "seat", union(box((slat, width, thick), (x, 0, height)) for x in rows)
    else:
        yield "seat", _slab(rng, depth, width, thick, height)
    if rng.random() < 0.25:
        side = box((0.9 * depth, rng.uniform(0.03, 0.15), height), (0, 0.42 * width, 0))
        yield "legs", pair(side)
    else:
        yield "legs", _legs(rng, depth, 0.95 * width, height)
    if rng.random() < 0.7:
        back = _upright(rng, width, rng.uniform(0.3, 0.55), rng.uniform(0.02, 0.05))
        back = move(lean(back, rng.uniform(-0.3, 0)), (0.02 - depth / 2, 0, height + thick))
        yield "back", back
        if rng.random() < 0.65:
            yield "arms", _arms(rng, depth, width, height + thick, rng.uniform(0.15, 0.25))


def bench_sofa(rng):
    """A seat for several: a bench or a sofa."""
    return (bench if rng.random() < 0.55 else sofa)(rng)


def bookshelf(rng):
    """A shelf with or without a back and dividers."""
    depth, width, height = rng.uniform(0.2, 0.45), rng.uniform(0.5, 2), rng.uniform(0.9, 2.2)
    rows, thick = int(rng.integers(3, 8)), rng.uniform(0.015, 0.05)
    columns = int(rng.integers(2, 6)) if rng.random() < 0.35 else 1
    if rng.random() < 0.15:
        posts = _corners(depth / 2 - thick / 2, width / 2 - thick / 2)
        yield "sides", union(box((thick, thick, height), (x, y, 0)) for x, y in posts)
    else:
        places = np.linspace(-1, 1, columns + 1) * (width - thick) / 2
        yield "sides", union(box((depth, thick, height), (0, y, 0)) for y in places)
    floors = np.linspace(rng.uniform(0, 0.1), height - thick, rows)
    yield "shelves", union(box((depth, width, thick), (0, 0, z)) for z in floors)
    if rng.random() < 0.7:
        yield "back", box((0.01, width, height), (0.005 - depth / 2, 0, 0))
    if rng.random() < 0.25:
        yield "sides", box((depth, width, floors[1]), (0, 0, 0))
    if rng.random() < 0.3:
        eaves = box((1.15 * depth, width + 0.1, 0.05), (0, 0, height))
        yield "sides", union([eaves, box((1.1 * depth, width + 0.06, 0.07))])
    if rng.random() < 0.3:
        for z, gap in zip(floors[:-1], np.diff(floors), strict=True):
            size = (0.7 * depth, rng.uniform(0.2, 0.9) * width, rng.uniform(0.5, 0.85) * gap)
            yield "shelves", box(size, (0, (size[1] - width) / 2 + thick, z))


def night_stand(rng):
    """A night stand: a small chest, often open or on legs."""
    return _cabinet(rng, (0.35, 0.7), (0.3, 0.5), (0.4, 0.85), rows=(1, 4), columns=(1, 2), doors=0)


def dresser(rng):
    """A dresser: a chest of many drawers."""
    return _cabinet(rng, (0.6, 1.7), (0.4, 0.6), (0.6, 1.4), rows=(2, 6), columns=(1, 4), doors=0.1)


def wardrobe(rng):
    """A wardrobe: a tall cabinet with doors."""
    return _cabinet(rng, (0.6, 2), (0.45, 0.7), (1.2, 2.3), rows=(1, 3), columns=(1, 4), doors=0.9)


def tv_stand(rng):
    """A television stand: low and wide, in part open."""
    return _cabinet(rng, (0.7, 2), (0.35, 0.6), (0.3, 0.8), rows=(1, 3), columns=(1, 4), doors=0.3)


def door(rng):
    """A door of one or two leaves, shut or ajar, in a frame."""
    width, height, thick = rng.uniform(0.65, 1.1), rng.uniform(1.9, 2.4), rng.uniform(0.03, 0.08)
    leaf = [box((thick, width, height))]
    rows, columns = rng.integers(1, 5, 2)
    relief = thick * rng.choice([-0.4, 1.3, 1.6])
    if relief > 0:
        for i, j in np.ndindex(int(rows), int(columns)):
            at = (0, ((j + 0.5) / columns - 0.5) * width, (i + 0.12) / rows * height)
            leaf.append(box((relief, 0.7 * width / columns, 0.75 * height / rows), at))
    double = rng.random() < 0.3
    ajar = rng.uniform(10, 100) if rng.random() < 0.3 else 0
    hinge = (0, width / 2, 0)
    knob = pair(ellipsoid(0.035, (thick / 2 + 0.05, 0.08 - width / 2, 0.45 * height)), 0)
    if rng.random() < 0.5:
        bar = box((0.02, 0.14, 0.02), (thick / 2 + 0.05, 0.14 - width / 2, 0.45 * height))
        knob = union([bar, box((thick + 0.1, 0.02, 0.02), (0, 0.08 - width / 2, 0.45 * height))])
    for part, solid in (("leaf", union(leaf)), ("handle", knob)):
        solid = move(turn(solid, "z", -ajar, hinge), (0, width / 2 * double, 0))
        yield part, pair(solid) if double else solid
    if rng.random() < 0.7:
        opening, bar = width * (1 + double), rng.uniform(0.05, 0.15)
        deep = thick * rng.uniform(1.2, 4)
        jamb = box((deep, bar, height), (0, (opening + bar) / 2, 0))
        lintel = box((deep, opening + 2 * bar, bar * rng.uniform(1, 4)), (0, 0, height))
        yield "frame", union([pair(jamb), lintel])


def piano(rng):
    """A grand piano, its lid shut or raised; now and then an upright one."""
    width = rng.uniform(1.4, 1.6)
    if rng.random() < 0.08:
        depth, height = rng.uniform(0.4, 0.55), rng.uniform(1.05, 1.35)
        yield "body", box((depth, width, height))
        yield "lid", box((1.1 * depth, 1.03 * width, 0.03), (0, 0, height))
        yield "keys", box((0.3, 0.9 * width, 0.06), (depth / 2 + 0.15, 0, 0.68))
        yield "legs", pair(box((0.08, 0.08, 0.68), (depth / 2 + 0.25, 0.43 * width, 0)))
        return
    length, rim, low = rng.uniform(1.2, 2.7), rng.uniform(0.2, 0.38), rng.uniform(0.55, 0.72)
    outline = _grand(length, width, rng.uniform(0.36, 0.5))
    yield "body", extrude(outline, rim, (0, 0, low))
    lid = move(extrude(outline, 0.025), (0, 0, low + rim))
    hinge = (0, -width / 2, low + rim)
    if rng.random() < 0.65:
        slope = rng.uniform(15, 38)
        lid = turn(lid, "x", slope, hinge)
        reach = 0.8 * width
        prop = (-0.4 * length, reach * np.cos(np.radians(slope)) - width / 2)
        up = reach * np.sin(np.radians(slope)) + low + rim
        yield "lid", tube([(prop[0], 0.25 * width, low + rim), (*prop, up)], 0.012, 6)
    yield "lid", lid
    deep = rng.uniform(0.2, 0.35)
    yield "body", box((deep, width, 0.5 * rim), (deep / 2, 0, low))
    yield "keys", box((0.16, 0.85 * width, 0.04), (0.6 * deep, 0, low + 0.5 * rim))
    yield "body", pair(box((deep, 0.06, 0.8 * rim), (deep / 2, width / 2 - 0.03, low)))
    radius = rng.uniform(0.04, 0.08)
    feet = [(0, 0.42 * width), (0, -0.42 * width), (-0.82 * length, -0.2 * width)]
    profile = [(0.6 * radius, 0), (0.6 * radius, 0.1), (radius, low)]
    yield "legs", union(revolve(profile, (x, y, 0), int(rng.choice([4, 10]))) for x, y in feet)
    if rng.random() < 0.6:
        lyre = box((0.04, 0.25, low), (-0.1, 0, 0))
        yield "legs", union([lyre, box((0.2, 0.2, 0.02), (0, 0, 0.05))])
    if rng.random() < 0.6:
        stand = lean(box((0.02, 0.5 * width, 0.25), (0, 0, low + rim)), -0.4, foot=low + rim)
        yield "lid", move(stand, (-0.12, 0, 0))


def _corners(x, y):
    return [(side * x, other * y) for side in (1, -1) for other in (1, -1)]


def _slab(rng, width, depth, thick, at):
    """Return a plate with corners sharp or round, its underside at a height."""
    if rng.random() < 0.5:
        return box((width, depth, thick), (0, 0, at))
    outline = superellipse(width, depth, rng.uniform(2.5, 10), 24)
    return extrude(outline, thick, (0, 0, at), top=rng.uniform(0.92, 1))


def _legs(rng, width, depth, height):
    """Return four legs below a rectangle: straight, turned, tapering or splayed."""
    thick = rng.uniform(0.03, 0.06) * (1 if rng.random() < 0.8 else 1.6)
    sides, foot = int(rng.choice([4, 4, 8])), rng.uniform(0.5, 1)
    splay = 1 + (rng.uniform(0.05, 0.3) if rng.random() < 0.3 else 0)
    turned = rng.random() < 0.2
    waves = 1 + 0.35 * np.sin(np.linspace(0, rng.uniform(6, 14), 10))
    x, y = max(width / 2 - thick / 2, 0.01), max(depth / 2 - thick / 2, 0.01)
    solids = []
    for a, b in _corners(x, y):
        if turned:
            heights = np.linspace(0, height, 10)
            profile = zip(0.5 * thick * waves, heights, strict=True)
            solids.append(revolve(profile, (a, b, 0), 8))
        else:
            ends = [(splay * a, splay * b, 0), (a, b, height)]
            solids.append(tube(ends, [foot * thick / 2, thick / 2], sides))
    if rng.random() < 0.3:
        z, bar = rng.uniform(0.15, 0.5) * height, 0.35 * thick
        solids.append(pair(tube([(-x, y, z), (x, y, z)], bar, 6)))
        solids.append(pair(tube([(x, -y, z), (x, y, z)], bar, 6), 0))
    return union(solids)


def _spread_legs(rng, reach, height, count):
    """Return legs on a circle, spread or crossing, now and then with a ring."""
    foot, twist = rng.uniform(0.9, 1.5) * reach, rng.choice([0, 0, rng.uniform(1, 3)])
    radius, sides = rng.uniform(0.012, 0.03), int(rng.choice([4, 8]))
    angles = np.arange(count) * (2 * np.pi / count) + 0.5
    solids = []
    for angle in angles:
        low, high = foot * _unit(angle + twist), reach * _unit(angle)
        solids.append(tube([(*low, 0), (*high, height)], radius, sides))
    if rng.random() < 0.5 and not twist:
        at = rng.uniform(0.25, 0.6)
        solids.append(ring(foot + at * (reach - foot), 0.01, (0, 0, at * height)))
    return union(solids)


def _pedestal(rng, reach, height):
    """Return a column on a disc, or on a star of feet."""
    pole = rng.uniform(0.02, 0.06)
    solids = [cylinder(pole, height, sides=10)]
    if rng.random() < 0.4:
        profile = [(reach, 0), (reach, 0.02), (pole, rng.uniform(0.04, 0.15))]
        return union([*solids, revolve(profile, sides=24)])
    count, up = int(rng.integers(3, 6)), rng.uniform(0.06, 0.2)
    wheels = rng.random() < 0.5
    for angle in np.arange(count) * (2 * np.pi / count):
        foot = reach * _unit(angle)
        solids.append(tube([(*foot, 0.04), (0, 0, up)], [0.015, 0.03], 6))
        if wheels:
            solids.append(ellipsoid(0.03, (*foot, 0.03), 8))
    return union(solids)


def _unit(angle):
    return np.array([np.cos(angle), np.sin(angle)])


def _upright(rng, width, height, thick):
    """Return an upright panel in the plane x = 0: slab, slats, rungs, or a bow with spindles."""
    style = rng.choice(["slab", "round", "slats", "rungs", "bow"])
    bar = rng.uniform(0.02, 0.05)
    if style == "slab":
        return box((thick, width, height))
    if style == "round":
        outline = superellipse(height, width, rng.uniform(2.2, 8), 24)
        return move(turn(extrude(outline, thick), "y", -90), (thick / 2, 0, height / 2))
    count = int(rng.integers(3, 7)) + int(4 * max(width - 0.8, 0))
    if style == "bow":
        arch = bend((0, -width / 2, 0), (0, 0, 2 * height), (0, width / 2, 0), 12)
        rows = np.linspace(-0.4, 0.4, count) * width
        tops = height * (1 - (2 * rows / width) ** 2)
        paths = [[(0, y, 0), (0, y, z)] for y, z in zip(rows, tops, strict=True)]
        return union([tube(arch, 0.5 * bar), *(tube(path, 0.4 * bar, 6) for path in paths)])
    posts = pair(box((thick, bar, height), (0, (width - bar) / 2, 0)))
    if style == "rungs":
        tall = rng.uniform(0.3, 0.7) * height / count
        levels = np.linspace(0.15, 1, count) * (height - tall)
        return union([posts, *(box((0.7 * thick, width, tall), (0, 0, z)) for z in levels)])
    rail = box((thick, width, 2 * bar), (0, 0, height - 2 * bar))
    rows = np.linspace(-1, 1, count + 2)[1:-1] * width / 2
    slat = rng.uniform(0.2, 0.6) * width / count
    return union([posts, rail, *(box((0.6 * thick, slat, height), (0, y, 0)) for y in rows)])


def _arms(rng, depth, width, at, height):
    """Return two arm rests above a height: rests on posts, or bows."""
    y, wide = width / 2, rng.uniform(0.03, 0.07)
    if rng.random() < 0.25:
        bow = bend((-0.45 * depth, y, at), (0.2 * depth, y, at + 2 * height), (0.4 * depth, y, at))
        return pair(tube(bow, wide / 3))
    front = rng.uniform(0.1, 0.45) * depth
    rest = box((depth / 2 + front + 0.03, wide, 0.03), ((front - depth / 2) / 2, y, at + height))
    feet = [(x, y, at - 0.03) for x in (front, 0.1 - depth / 2)]
    posts = [tube([foot, (foot[0], y, at + height)], 0.02, 4) for foot in feet]
    return pair(union([rest, *posts]))


def _grid(depth, width, height, rows, columns, thick):
    """Return an open rack of boards, its bottom at z = 0."""
    sides = np.linspace(-1, 1, columns + 1) * (width - thick) / 2
    floors = np.linspace(0, height - thick, rows + 1)
    boards = [box((depth, thick, height), (0, y, 0)) for y in sides]
    return union(boards + [box((depth, width, thick), (0, 0, z)) for z in floors])


def _fronts(rng, width, height, rows, columns):
    """Return the fronts of drawers or doors in the plane x = 0, with handles."""
    out, knobs = rng.uniform(0.008, 0.03), rng.random() < 0.5
    solids = []
    for i, j in np.ndindex(rows, columns):
        size = width / columns, height / rows
        y, z = ((j + 0.5) / columns - 0.5) * width, i * size[1]
        solids.append(box((2 * out, 0.93 * size[0], 0.9 * size[1]), (0, y, z + 0.05 * size[1])))
        if size[1] > 1.2 * size[0]:
            at = (out, y + (0.36 if j % 2 else -0.36) * size[0], z + 0.5 * size[1])
        else:
            at = (out, y, z + 0.55 * size[1])
        long = 0.05 if knobs else rng.uniform(0.2, 0.4) * size[0]
        solids.append(box((0.06, long, 0.025), at))
    return union(solids)


def _cabinet(rng, widths, depths, heights, rows, columns, doors):
    """Yield a body, fronts of drawers or doors or open bays, and perhaps legs or a plinth."""
    width, depth, height = rng.uniform(*widths), rng.uniform(*depths), rng.uniform(*heights)
    rows, columns = int(rng.integers(*rows)), int(rng.integers(*columns))
    if rng.random() < doors:
        rows = 1
    low = rng.uniform(0.05, 0.4) * min(height, 0.6) if rng.random() < 0.45 else 0
    tall, thick, at = height - low, rng.uniform(0.015, 0.04), (depth / 2, 0, low)
    if rng.random() < 0.3:
        # Open bays above closed ones.
        share = rng.uniform(0.3, 0.7) if rows > 1 or rng.random() < 0.5 else 0
        rack = _grid(depth, width, tall * (1 - share), rows, columns, thick)
        yield "body", move(rack, (0, 0, low + share * tall))
        yield "body", box((0.01, width, tall), (0.005 - depth / 2, 0, low))
        if share:
            yield "body", box((depth, width, share * tall), (0, 0, low))
            yield "front", move(_fronts(rng, width, share * tall, 1, columns), at)
    else:
        yield "body", box((depth, width, tall), (0, 0, low))
        yield "front", move(_fronts(rng, width, tall, rows, columns), at)
    if rng.random() < 0.5:
        over = rng.uniform(1, 1.12)
        yield "body", box((over * depth, over * width, thick), (0, 0, height))
    if low:
        yield "legs", _legs(rng, depth, width, low)
    if rng.random() < 0.12:
        mirror = extrude(superellipse(0.6 * height, 0.6 * width, rng.uniform(2, 9), 20), 0.02)
        mirror = turn(mirror, "y", -90)
        yield "body", move(mirror, (0.03 - depth / 2, 0, height + 0.3 * height))


def _grand(length, width, tail):
    """Return the outline of a grand piano; the keyboard is at x = 0, the tail at -x."""
    t = np.linspace(0, 1, 12)
    fall = np.clip((t - 0.2) / 0.75, 0, 1)
    curve = width * (1 - (1 - tail) * fall**2 * (3 - 2 * fall))
    treble = np.stack([-length * t, curve - width / 2], axis=1)
    bass = np.stack([-length * t[::-1], np.full(12, -width / 2)], axis=1)
    return np.concatenate([treble, bass])
