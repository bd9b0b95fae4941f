"""The tab of 3D shape analysis on the page of `convsuite web`."""

import functools
import threading
from pathlib import Path

import gradio
import numpy as np

from shared import images, web
from shared import weights as installed

from . import meshes, render, shapes
from .batch import labelled
from .data import Cache
from .tasks import APP, Classifier, Index, Segmenter, card_names

TITLE = "Shapes"
_CLASSIFIER = "objects24"
_SAMPLES = ("chair", "lamp", "airplane", "table", "bottle", "cup", "bed", "bookshelf")
_EACH = 3
_FOUND = 6
_NO_PARTS = "none"
_LOOKING = threading.Lock()


def build() -> None:
    """Add upload, the likeliest classes, the nearest made-up shapes, and parts in colours."""
    samples = _samples()
    parts = sorted(
        card.name for card in installed.cards(APP) if card.settings.get("task") == "parts"
    )
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            file = gradio.File(
                label="Mesh or point cloud",
                file_types=sorted(meshes.READABLE),
                # Empty at first: whoever came for another tab need not wait for the index.
                height=130,
            )
            examples = gradio.Dataset(
                label="Or one of these, which are made up",
                components=["textbox"],
                samples=[[Path(sample).stem] for sample in samples[::_EACH]],
                type="index",
                samples_per_page=len(samples),
            )
            up = gradio.Radio(label="Axis that points up", choices=["x", "y", "z"], value="z")
            network = gradio.Dropdown(
                label="Parts, as named by", choices=[_NO_PARTS, *parts], value=_NO_PARTS
            )
            names = gradio.Label(label="What it is", num_top_classes=5)
        with gradio.Column(scale=2, min_width=320):
            views = gradio.Gallery(label="The shape", columns=3, height=300, object_fit="contain")
            legend = gradio.Markdown()
            found = gradio.Gallery(
                label="Most like it, among made-up shapes", columns=3, object_fit="contain"
            )
    gradio.on(
        fn=_update,
        inputs=[file, up, network],
        outputs=[names, views, legend, found],
        trigger_mode="always_last",
        show_progress="minimal",
    )
    examples.click(lambda index: samples[index * _EACH], examples, file, show_progress="hidden")


def _samples() -> list[str]:
    """Return made-up shapes, some of each class; they lie in the cache."""
    folder = Cache().folder / "samples"
    shapes.write_set(folder, _SAMPLES, _EACH, seed=3, test_share=0)
    return [str(file) for name in _SAMPLES for file in sorted(folder.glob(f"{name}/train/*.ply"))]


@functools.cache
def _classifier() -> Classifier:
    """Open the network, which starts the framework, when the first shape arrives."""
    return Classifier.from_weights(_CLASSIFIER)


@functools.cache
def _index() -> Index:
    files = _samples()
    looks = [_classifier().look(_classifier().of_file(file)) for file in files]
    probabilities, features = (np.stack(column) for column in zip(*looks, strict=True))
    return Index(files, features, probabilities, list(_classifier().names), "")


@functools.cache
def _segmenter(name: str) -> Segmenter:
    return Segmenter.from_weights(name)


@web.shows_errors
def _update(path: str | None, up: str, network: str) -> tuple:
    """Return the values of the names, the views, the legend and what was found."""
    if path is None:
        return None, None, "", None
    shape = meshes.read(path)
    with _LOOKING:
        probabilities, features = _classifier().look(_classifier().of_file(path, up))
        hits = _index().search(features, probabilities, _FOUND)
        colours, legend = None, ""
        if network != _NO_PARTS:
            shape = labelled(shape, _segmenter(network)(shape, up).labels)
            colours = render.part_colours(shape.labels)
            legend = _legend(card_names(network, "parts"))
    folder = web.result_folder()
    views = []
    for number, azimuth in enumerate((-60, 60, 180)):
        views.append(folder / f"view{number}.png")
        images.write(views[-1], render.picture(_standing(shape, up), colours, azimuth=azimuth))
    near = []
    for number, hit in enumerate(hits):
        target = folder / f"near{number}.png"
        images.write(target, render.picture(meshes.read(hit.file)))
        near.append((target, f"{Path(hit.file).stem}, distance {hit.distance:.2f}"))
    return (
        dict(zip(_classifier().names, map(float, probabilities), strict=True)),
        views,
        legend,
        near,
    )


def _standing(shape, up):
    """Return the shape with z up, as pictures have it."""
    shift = "xyz".index("z") - "xyz".index(up)
    if isinstance(shape, meshes.Mesh):
        return meshes.Mesh(np.roll(shape.vertices, shift, axis=1), shape.faces, shape.labels)
    normals = None if shape.normals is None else np.roll(shape.normals, shift, axis=1)
    return meshes.Cloud(np.roll(shape.points, shift, axis=1), normals, shape.labels)


def _legend(names) -> str:
    """Return the colours of parts with their names, as HTML."""
    colours = (render.part_colours(np.arange(len(names))) * 255).round().astype(int)
    marks = [
        f'<span style="color: rgb({r}, {g}, {b})">■</span> {name}'
        for name, (r, g, b) in zip(names, colours, strict=True)
    ]
    return " &nbsp; ".join(marks)
