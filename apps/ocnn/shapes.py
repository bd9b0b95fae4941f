"""Made-up shapes with part labels, for training and tests where real ones are scarce or not free.

Every shape is a union of boxes, surfaces of revolution, extruded outlines and tubes, drawn from
ranges of sizes. `EASY` are prototypes and easily told apart; `HARD` adds families that resemble one
another (chests of drawers, tables and desks, seats, vessels), drawn from ranges that overlap, and
`hard=True` damages shapes as polygon soup from the web is damaged. Right answers on made-up shapes
say little about real ones.

Example:
    >>> mesh = generate("chair", np.random.default_rng(0))
    >>> PARTS["chair"][mesh.labels[0]]
    'seat'
    >>> write_set("shapes", EASY, count=40, seed=0)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.errors import DataError

from . import meshes, primitives
from . import shapes_beings as beings
from . import shapes_furniture as furniture
from . import shapes_things as things
from . import shapes_vehicles as vehicles
from .meshes import Mesh

_SEAT = ("seat", "back", "arms", "legs")
_CABINET = ("body", "front", "legs")
_BUILDERS = {
    "chair": (furniture.chair, _SEAT),
    "table": (furniture.table, ("top", "legs")),
    "stool": (furniture.stool, ("seat", "legs")),
    "bed": (furniture.bed, ("mattress", "base", "headboard", "pillows")),
    "sofa": (furniture.sofa, _SEAT),
    "bookshelf": (furniture.bookshelf, ("sides", "shelves", "back")),
    "lamp": (things.lamp, ("base", "pole", "shade")),
    "bottle": (things.bottle, ("body", "neck", "cap")),
    "vase": (things.vase, ("body", "handles")),
    "cup": (things.cup, ("body", "handle")),
    "monitor": (things.monitor, ("screen", "neck", "foot")),
    "laptop": (things.laptop, ("base", "lid")),
    "airplane": (vehicles.airplane, ("fuselage", "wings", "tail", "engines")),
    "night_stand": (furniture.night_stand, _CABINET),
    "dresser": (furniture.dresser, _CABINET),
    "wardrobe": (furniture.wardrobe, _CABINET),
    "tv_stand": (furniture.tv_stand, _CABINET),
    "desk": (furniture.desk, ("top", "legs", "drawers")),
    "bench": (furniture.bench, _SEAT),
    "goblet": (things.goblet, ("body", "foot")),
    "bowl": (things.bowl, ("body", "foot")),
    "flower_pot": (things.flower_pot, ("pot", "plant")),
    "bench_sofa": (furniture.bench_sofa, _SEAT),
    "car": (vehicles.car, ("body", "cabin", "wheels")),
    "chess": (things.chess, ("base", "stem", "head", "board")),
    "door": (furniture.door, ("leaf", "frame", "handle")),
    "guitar": (things.guitar, ("body", "neck", "head")),
    "gun": (things.gun, ("barrel", "body", "grip", "stock")),
    "head": (beings.head, ("skull", "face", "neck")),
    "helicopter": (vehicles.helicopter, ("body", "tail", "rotor", "gear")),
    "insect": (beings.insect, ("body", "legs", "wings")),
    "keyboard": (things.keyboard, ("body", "keys")),
    "person": (beings.person, ("head", "torso", "arms", "legs")),
    "piano": (furniture.piano, ("body", "lid", "keys", "legs")),
    "plant": (things.plant, ("pot", "stem", "leaves")),
    "quadruped": (beings.quadruped, ("body", "head", "legs", "tail")),
    "ship": (vehicles.ship, ("hull", "deck", "mast")),
}
_NAMES = tuple(_BUILDERS)

PARTS: dict[str, tuple[str, ...]] = {name: parts for name, (_, parts) in _BUILDERS.items()}
"""Names of the parts of every class; the label of a face is an index into them."""
EASY = _NAMES[: _NAMES.index("airplane") + 1]
"""Prototypes that are easily told apart."""
HARD = _NAMES[: _NAMES.index("flower_pot") + 1]
"""Those, and families that resemble them."""
EXTRA = _NAMES[len(HARD) :]
"""Further classes, among them vehicles, beings and instruments; they have no hard family."""

# Of hard shapes: factors of the axes, noise as a share of the size, shares of faces.
_STRETCH = (0.7, 1.4)
_JITTER = (0.001, 0.004)
_MISSING = (0.02, 0.12)
_TURNED_OVER = (0.2, 0.5)


def generate(name: str, rng: np.random.Generator, hard: bool = False) -> Mesh:
    """Make up a shape.

    Args:
        name: A class, one of `PARTS`.
        rng: Where its sizes come from; shapes from equal states are equal.
        hard: Stretch the axes, jitter the vertices, turn over a share of the faces, leave out
            another, and add a small foreign piece of label -1.

    Returns:
        The shape, z up, standing on z = 0, turned at random about z, sizes about those of the
        thing in metres. Unless it is hard its parts are closed and wound outward.

    Raises:
        DataError: There is no such class.
    """
    builder, parts = _class(name)
    pieces = list(builder(rng))
    labels = [np.full(len(faces), parts.index(part)) for part, (_, faces) in pieces]
    labels = np.concatenate(labels).astype(np.int32)
    vertices, faces = primitives.union(solid for _, solid in pieces)
    vertices, _ = primitives.turn((vertices, faces), "z", rng.uniform(0, 360))
    vertices[:, 2] -= vertices[:, 2].min()
    mesh = Mesh(vertices, faces.astype(np.int32), labels)
    return _damaged(mesh, rng) if hard else mesh


def write_set(
    folder: str | Path,
    names: Sequence[str],
    count: int,
    seed: int,
    hard: bool = False,
    test_share: float = 0.2,
) -> None:
    """Write shapes as `folder/<class>/{train,test}/<class>_NNNN.ply`.

    A shape depends on the seed, its class and its number alone, and so does its side of the split:
    a larger set begins with the smaller one.

    Args:
        folder: Where they go; what is there under the same names is replaced.
        names: Classes, of `PARTS`.
        count: Shapes of each class.
        seed: 0 or more.
        hard: As in `generate`.
        test_share: Share of the test shapes, 0..1; they are spread evenly over the numbers.

    Raises:
        DataError: An argument is out of its range, or a file cannot be written.
    """
    if count < 1 or seed < 0 or not 0 <= test_share <= 1:
        raise DataError(
            f"A set of {count} shapes with seed {seed} and a test share of {test_share} cannot be "
            "made; give at least 1 shape, a seed from 0 and a share from 0 to 1."
        )
    for name in names:
        _class(name)

    def tests(number):
        # A share of 0.29 makes 28.999999999999996 of 100.
        return int(number * test_share + 1e-9)

    for name in names:
        for number in range(count):
            # A seed of bytes, since Python's hash of a name changes from run to run.
            rng = np.random.default_rng([seed, number, int(hard), *name.encode()])
            mesh = generate(name, rng, hard)
            side = "test" if tests(number + 1) > tests(number) else "train"
            meshes.write(Path(folder) / name / side / f"{name}_{number:04d}.ply", mesh)


def _class(name):
    if name not in _BUILDERS:
        names = ", ".join(PARTS)
        raise DataError(f"{name!r} is no class that can be made up; choose from {names}.")
    return _BUILDERS[name]


def _damaged(mesh, rng):
    """Return a mesh as bad as those found in the wild."""
    vertices = mesh.vertices * rng.uniform(*_STRETCH, 3)
    extent = np.ptp(vertices, axis=0)
    size = extent.max()
    vertices = vertices + rng.normal(0, size * rng.uniform(*_JITTER), vertices.shape)
    faces = mesh.faces.copy()
    over = rng.random(len(faces)) < rng.uniform(*_TURNED_OVER)
    faces[over] = faces[over, ::-1]
    kept = rng.random(len(faces)) >= rng.uniform(*_MISSING)
    place = rng.uniform(0, 1, 3) * extent + vertices.min(axis=0)
    small = size * rng.uniform(0.03, 0.12, 3)
    foreign = primitives.ellipsoid(small, place, 8)
    if rng.random() < 0.5:
        foreign = primitives.box(2 * small, place)
    vertices, faces = primitives.union([(vertices, faces[kept]), foreign])
    labels = np.concatenate([mesh.labels[kept], np.full(len(foreign[1]), -1)])
    return Mesh(vertices, faces.astype(np.int32), labels.astype(np.int32))
