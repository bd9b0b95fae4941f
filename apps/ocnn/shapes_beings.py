"""Made-up people, heads and animals: each function yields parts; they look toward +x."""

import numpy as np

from .primitives import (
    bend,
    box,
    cylinder,
    ellipsoid,
    loft,
    pair,
    shifted,
    superellipse,
    tube,
    turn,
    union,
)


def person(rng):
    """A standing, walking or gesturing person, dressed one way or another."""
    height, child = rng.uniform(1.5, 1.95), rng.random() < 0.15
    build = rng.uniform(0.8, 1.3)
    size = height * rng.uniform(0.06, 0.075) * (1.6 if child else 1)
    hip = height * rng.uniform(0.46, 0.53) * (0.9 if child else 1)
    shoulder = height * (0.7 if child else 0.81)
    broad, hips = 0.115 * height * build, 0.085 * height * build

    levels = np.linspace(hip - 0.06 * height, shoulder + 0.02 * height, 6)
    widths = [0.9 * hips, hips, hips * rng.uniform(0.75, 1.1), broad, 0.4 * broad]
    widths = np.interp(np.arange(6), [0, 1, 2.5, 4.3, 5], widths)
    yield "torso", _stack(levels, widths, rng.uniform(0.55, 0.75), 2.5)
    if rng.random() < 0.2:
        hem, flare = hip - rng.uniform(0.3, 0.95) * hip, rng.uniform(1.2, 2.6)
        yield "torso", _stack([hem, hip + 0.06 * height], [flare * hips, 1.05 * hips], 0.85)
    if rng.random() < 0.15:
        yield "torso", box((0.15, 0.3, 0.45), (-1.2 * broad - 0.02, 0, shoulder - 0.45))

    middle = height - 1.25 * size
    yield "head", ellipsoid((1.05 * size, 0.85 * size, 1.25 * size), (0.01, 0, middle))
    yield "head", tube([(0, 0, shoulder - 0.02), (0.01, 0, middle)], 0.5 * size)
    if rng.random() < 0.4:
        long = rng.uniform(0, 1.2) * size
        hair = (size, 1.05 * size, 1.1 * size + long)
        yield "head", ellipsoid(hair, (-0.3 * size, 0, middle - 0.7 * long))
    if rng.random() < 0.2:
        brim = (0, 0, middle + 0.5 * size)
        yield "head", union([cylinder(1.7 * size, 0.02, brim), cylinder(size, size, brim)])

    limb, alike, spread = 0.028 * height * build, rng.random() < 0.6, rng.uniform(0, 0.13)
    stride = np.radians(rng.uniform(0, 30) * (rng.random() < 0.4))
    pose = _pose(rng)
    for side in (1, -1):
        if not alike:
            pose = _pose(rng)
        upper, lower = (0.17 * height * _way(*angles) * (1, side, 1) for angles in pose)
        joint = np.array([0, side * broad, shoulder - 0.01 * height])
        elbow, wrist = joint + upper, joint + upper + lower
        yield "arms", tube([joint, elbow, wrist], [1.1 * limb, 0.85 * limb, 0.6 * limb])
        yield "arms", ellipsoid((0.9 * limb, 0.7 * limb, 1.3 * limb), wrist + 0.12 * lower)
        joint = np.array([0, side * 0.55 * hips, hip])
        swing, out = side * stride, side * spread * hip / 2
        knee = shifted(joint, 0.5 * hip * np.sin(swing), out / 2, -0.5 * hip * np.cos(swing))
        ahead = hip * np.sin(swing) * (0.3 if swing > 0 else 0.25)
        ankle = np.array([knee[0] + ahead, knee[1] + out / 2, 0.04 * height])
        yield "legs", tube([joint, knee, ankle], [1.75 * limb, 1.2 * limb, 0.8 * limb])
        foot = np.array([0.075, 0.03, 0.025]) * height
        yield "legs", ellipsoid(foot, shifted(ankle, 0.03 * height, 0, -0.015 * height))


def head(rng):
    """A human head, with or without neck, ears, hair and shoulders."""
    skull = np.array([0.1, 0.078, 0.105]) * rng.uniform(0.9, 1.1, 3)
    sides = int(rng.choice([10, 14, 20]))
    yield "skull", ellipsoid(skull, sides=sides)
    jaw = np.array([0.065, 0.058, 0.075]) * rng.uniform(0.85, 1.15, 3)
    yield "face", ellipsoid(jaw, (0.03, 0, rng.uniform(-0.085, -0.06)), sides)
    nose = [(0.085, 0, 0.01), (0.107, 0, -0.04), (0.085, 0, -0.05)]
    yield "face", tube(nose, [0.006, 0.016, 0.01], 6)
    yield "face", pair(ellipsoid((0.012, 0.018, 0.008), (0.085, 0.033, 0.005), 8))
    yield "face", ellipsoid((0.012, 0.025, 0.012), (0.086, 0, -0.08), 8)
    if rng.random() < 0.75:
        size = np.array([0.022, 0.009, 0.034]) * rng.uniform(0.8, 1.4, 3)
        ear = ellipsoid(size, (-0.005, skull[1], -0.03), 10)
        yield "face", pair(turn(ear, "z", rng.uniform(0, 20), (0, skull[1], 0)))
    if rng.random() < 0.85:
        long, wide = rng.uniform(0.1, 0.2), rng.uniform(0.048, 0.065)
        path = [(-0.01, 0, -0.04), (-0.025, 0, -0.06 - 0.5 * long), (-0.03, 0, -0.06 - long)]
        yield "neck", tube(path, [wide, 0.95 * wide, wide * rng.uniform(1, 1.5)], 14)
        if rng.random() < 0.3:
            shoulders = (0.11, rng.uniform(0.15, 0.22), 0.06)
            yield "neck", ellipsoid(shoulders, (-0.04, 0, -0.08 - long), 14)
    if rng.random() < 0.45:
        hair = skull * rng.uniform(1.04, 1.25, 3)
        yield "skull", ellipsoid(hair, (rng.uniform(-0.035, -0.015), 0, 0.02), sides)
        if rng.random() < 0.4:
            yield "skull", ellipsoid((0.06, 0.095, 0.14), (-0.055, 0, -0.06), 10)


def quadruped(rng):
    """A four-legged animal one long, from hippopotamus over dog to giraffe."""
    girth = rng.uniform(0.12, 0.3)
    leg = rng.uniform(0.3, 0.95) * (1 if girth < 0.22 else 0.6)
    thin, top = girth * rng.uniform(0.17, 0.35), leg + 0.6 * girth
    t = np.linspace(0, 1, 7)
    sag = 0.06 * np.sin(np.pi * t) * rng.choice([1, -1])
    path = np.stack([0.5 - t, 0 * t, top + sag], axis=1)
    waist = [0.55, 1, rng.uniform(0.7, 1.05), 0.95, 0.5]
    radii = girth * np.interp(t, [0, 0.15, 0.6, 0.9, 1], waist)
    yield "body", tube(path, radii, 10, flat=rng.uniform(0.9, 1.3))

    neck = rng.uniform(0.15, 0.5) if rng.random() < 0.8 else rng.uniform(0.5, 1)
    steep, size = np.radians(rng.uniform(0, 75)), rng.uniform(0.08, 0.14) + 0.15 * girth
    root = np.array([0.42, 0, top + 0.2 * girth])
    poll = shifted(root, neck * np.cos(steep), 0, neck * np.sin(steep))
    path = bend(root, shifted(root, 0.5 * neck, 0, 0.2 * neck), poll, 6)
    yield "head", tube(path, np.linspace(0.65, rng.uniform(0.3, 0.5), 6) * girth)
    yield "head", ellipsoid((1.1 * size, 0.8 * size, 0.9 * size), poll)
    snout, drop = size * rng.uniform(1.2, 2.6), np.radians(rng.uniform(0, 50))
    nose = shifted(poll, snout * np.cos(drop), 0, -snout * np.sin(drop))
    yield "head", tube([poll, nose], [0.75 * size, rng.uniform(0.35, 0.6) * size])
    ear = size * rng.uniform(0.5, 1.3) * (1 if rng.random() < 0.85 else 2.5)
    root = shifted(poll, 0, 0.5 * size, 0.4 * size)
    tip = shifted(root, rng.uniform(-0.5, 0.3) * ear, 0.1 * size + 0.2 * ear, ear)
    middle = shifted((root + tip) / 2, 0, 0.05 * size)
    yield "head", pair(tube([root, middle, tip], np.array([0.25, 0.3, 0.05]) * size, 6, 0.5))
    if rng.random() < 0.15:
        tip = shifted(poll, 0.3 * size, 1.2 * size, 2.5 * size)
        horn = bend(root, shifted(poll, -0.3 * size, size, 1.5 * size), tip)
        yield "head", pair(tube(horn, np.linspace(0.15, 0.03, 8) * size, 6))

    stride = rng.uniform(0, 0.35) * leg
    for x, bow in ((0.36, 0.08), (-0.38, -0.15)):
        for side in (1, -1):
            step, y = stride * rng.uniform(-1, 1), side * 0.65 * girth
            joint = (x, 0.9 * y, top - 0.1 * girth)
            knee = (x + step / 2 + bow * leg * rng.uniform(0, 1.2), y, 0.5 * leg)
            foot = (x + step, y, 0.03)
            yield "legs", tube([joint, knee, foot], [1.8 * thin, thin, 0.8 * thin])
            yield "legs", ellipsoid((1.5 * thin, thin, 0.04), shifted(foot, 0.5 * thin), 8)
    if rng.random() < 0.85:
        long, curl = rng.uniform(0.15, 0.7), rng.uniform(-0.8, 0.8)
        root = np.array([-0.47, 0, top + 0.4 * girth])
        path = bend(root, shifted(root, -0.5 * long), shifted(root, -0.7 * long, 0, curl * long))
        yield "tail", tube(path, np.linspace(0.2, rng.uniform(0.07, 0.2), 8) * girth)


def insect(rng):
    """An ant, a spider, a beetle, or something with wings."""
    style = rng.choice(["ant", "spider", "beetle", "winged"], p=[0.3, 0.35, 0.1, 0.25])
    front, lift = rng.uniform(0.12, 0.2), rng.uniform(0.1, 0.35)
    chest, long = np.array([0, 0, lift]), rng.uniform(0.2, 0.35)
    wide = 0.12 if style == "winged" else long * rng.uniform(0.6, 1)
    rear = shifted(chest, -1.2 * front - 0.9 * long, 0, rng.uniform(-0.05, 0.15))
    yield "body", ellipsoid((1.3 * front, 0.8 * front, 0.7 * front), chest)
    yield "body", ellipsoid((long, wide, wide * rng.uniform(0.7, 1.1)), rear)
    yield "body", tube([chest, rear], 0.04)
    if style == "beetle":
        yield "body", ellipsoid((0.45, 0.28, 0.2), shifted(chest, -0.25))
    if style == "spider":
        feeler = [(front, 0.05, lift), (1.9 * front, 0.08, lift), (2.2 * front, 0.05, lift - 0.08)]
        yield "legs", pair(tube(feeler, 0.03, 6))
    else:
        face = shifted(chest, 1.3 * front + 0.1, 0, rng.uniform(-0.03, 0.08))
        yield "body", ellipsoid(np.array([0.12, 0.11, 0.09]) * rng.uniform(0.8, 1.4), face)
        out, ahead = rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.5)
        feeler = bend(face, shifted(face, 0.15, out, 0.25), shifted(face, ahead, out, 0.05), 5)
        yield "legs", pair(tube(feeler, 0.012, 5))

    pairs = 4 if style == "spider" else 3
    reach, rise, thick = rng.uniform(0.5, 1.1), rng.uniform(0.1, 0.6), rng.uniform(0.012, 0.03)
    angles = np.linspace(rng.uniform(25, 50), rng.uniform(120, 155), pairs)
    for i, angle in enumerate(np.radians(angles)):
        root = shifted(chest, (0.6 - 1.2 * i / (pairs - 1)) * front, 0.5 * front)
        span = reach * rng.uniform(0.85, 1.15) * np.array([np.cos(angle), np.sin(angle), 0])
        knee = shifted(root + 0.45 * span, z=rise)
        ankle, foot = root + 0.85 * span, root + span
        ankle[2], foot[2] = 0.1 * lift, 0
        radii = thick * np.array([1, 1, 0.8, 0.5])
        yield "legs", pair(tube([root, knee, ankle, foot], radii, 5))
    if style == "winged":
        big, up = rng.random() < 0.5, rng.uniform(0, 70)
        outline = np.array([0.15, 0.55, 0.85, 1, 0.95, 0.7, 0.2]) / 2
        for x, span, wide in ((0.12, 1, 0.6), (-0.1, 0.75, 0.55)):
            span, wide = span * rng.uniform(0.7, 1), wide * (1 if big else 0.4)
            path = [(x, 0.05 + span * t, lift + 0.1) for t in np.linspace(0, 1, 7)]
            sail = turn(tube(path, wide * outline, 8, flat=0.05), "z", rng.uniform(-10, 40))
            yield "wings", pair(turn(sail, "x", up, (0, 0, lift + 0.1)))


def _stack(levels, widths, deep, power=2):
    """Return a body of upright rings: half widths along y at levels, `deep` times that along x."""
    outlines = (superellipse(2 * deep * w, 2 * w, power, 14) for w in widths)
    rings = [np.insert(o, 2, z, axis=1) for o, z in zip(outlines, levels, strict=True)]
    return loft(np.stack(rings))


def _pose(rng):
    """Return how an arm is held: swing and lift of the upper, then of the lower arm, in degrees."""
    low, high = [(3, 20), (20, 60), (70, 100)][rng.choice(3, p=[0.55, 0.25, 0.2])]
    lift, swing = rng.uniform(low, high), rng.uniform(-15, 20)
    bent = rng.choice([0, rng.uniform(0, 90)])
    return (swing, lift), (swing + bent, lift * rng.uniform(0.8, 1.1))


def _way(swing, lift):
    """Return a direction: down, swung forward, lifted to the side."""
    swing, lift = np.radians(swing), np.radians(lift)
    return np.array([np.sin(swing) * np.cos(lift), np.sin(lift), -np.cos(swing) * np.cos(lift)])
