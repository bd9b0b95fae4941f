"""Small folders of shapes that need no scanner, and networks trained on them in seconds."""

import contextlib
import dataclasses
import logging

import numpy as np
import pytest

from apps.ocnn import meshes
from apps.ocnn.data import Form, Poses
from apps.ocnn.meshes import Cloud
from shared import backend

NAMES = ("ball", "pole", "slab")


def made_cloud(name, rng, count=600):
    """Return points of a ball, a pole or a slab, standing upright; the upper half is part 1."""
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    size = {"ball": [1, 1, 1], "pole": [0.2, 0.2, 1], "slab": [1, 0.8, 0.1]}[name]
    size = np.array(size) * rng.uniform(0.8, 1.2, 3)
    points = normals * size
    normals = normals / size
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    labels = (points[:, 2] > 0).astype(np.int32)
    return Cloud(points * 7 + 3, normals.astype(np.float32), labels)


@pytest.fixture(scope="session")
def clouds(tmp_path_factory):
    """A folder of three classes, eight to learn from and two held out of each."""
    folder = tmp_path_factory.mktemp("clouds")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for number in range(10):
            side = "train" if number < 8 else "test"
            meshes.write(folder / name / side / f"{name}{number}.npz", made_cloud(name, rng))
    return folder


@pytest.fixture(scope="session")
def recipe():
    """Sizes that train in seconds."""
    from apps.ocnn.train import Recipe

    return Recipe(
        form=Form(depth=3), poses=Poses(4, stretch=0.1, tilt=3), steps=40, batch=8, votes=3
    )


@contextlib.contextmanager
def compilations():
    """Gather what JAX says it compiles; nothing on other backends."""
    messages = []
    if backend.name() != "jax":
        yield messages
        return
    import jax

    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("jax").addHandler(handler)
    with jax.log_compiles():
        yield messages
    logging.getLogger("jax").removeHandler(handler)


@pytest.fixture(scope="session")
def training_and_messages(clouds, recipe, tmp_path_factory):
    from apps.ocnn.train import train_classes

    folder = tmp_path_factory.mktemp("trained")
    with compilations() as messages:
        trained = train_classes(
            clouds, folder / "three.keras", recipe, cache=folder / "cache", quiet=True
        )
    return trained, messages


@pytest.fixture(scope="session")
def trained(training_and_messages):
    """A network for the three classes."""
    return training_and_messages[0]


@pytest.fixture(scope="session")
def trained_parts(clouds, recipe, tmp_path_factory):
    """A network for the upper and the lower half of poles."""
    from apps.ocnn.train import train_parts

    folder = tmp_path_factory.mktemp("parts")
    recipe = dataclasses.replace(recipe, network="segnet", options={"skips": True}, batch=4)
    return train_parts(
        clouds / "pole",
        folder / "halves.keras",
        recipe,
        ("lower", "upper"),
        cache=folder / "cache",
        quiet=True,
    )
