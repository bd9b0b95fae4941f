"""Exports give the same pictures: by a short NumPy reader, by other runtimes, as a table."""

import numpy as np
import pytest

from apps.enhance import export
from apps.enhance.enhancer import open_look
from apps.enhance.lut import apply_lut, read_cube
from apps.enhance.thumbnail import thumbnail
from shared import metrics
from shared.errors import DataError, WeightsError


def read_and_apply(path, image):
    """The reader of the README: NumPy only."""
    from pathlib import Path

    text = Path(export.__file__).with_name("README.md").read_text()
    code = text.split("```python\nimport numpy")[1].split("```")[0]
    names = {}
    exec("import numpy" + code, names)  # our own README
    return names["enhance"](path, image)


def test_grid_and_the_reader_of_the_readme(tmp_path, photo):
    look = open_look("clahe")
    export.export_grid(look, photo, tmp_path / "g.npz")
    with np.load(tmp_path / "g.npz", allow_pickle=False) as arrays:
        assert arrays["grid"].shape == (16, 16, 8, 3, 4)
    found = read_and_apply(tmp_path / "g.npz", photo)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - look(photo)).max() <= 1


@pytest.mark.parametrize(("format", "suffix"), [("onnx", ".onnx"), ("litert", ".tflite")])
def test_coefficient_network(tmp_path, photo, format, suffix):
    look = open_look("clahe")
    path = tmp_path / f"net{suffix}"
    assert export.export_network(look, path, format) <= 1e-4
    assert 1.8e6 < path.stat().st_size < 2.1e6
    if format == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path)
        name = session.get_inputs()[0].name
        (grid,) = session.run(None, {name: thumbnail(photo)[None]})
        np.testing.assert_allclose(grid[0], look.coefficients(photo), atol=1e-4)


def test_table_of_a_network_needs_to_be_asked_for(tmp_path, photo):
    look = open_look("clahe")
    with pytest.raises(WeightsError, match="--global"):
        export.export_table(look, tmp_path / "x.cube", mean=False)
    assert not (tmp_path / "x.cube").exists()
    loss = export.export_table(look, tmp_path / "x.cube", mean=True)
    assert 15 < loss < 40
    table = read_cube(tmp_path / "x.cube")
    image = (photo / 255).astype("float32")
    assert metrics.psnr(apply_lut(image, table), look(image)) > 15


def test_tables_are_written_as_they_are(tmp_path, photo):
    look = open_look("warm")
    assert export.export_table(look, tmp_path / "x.cube", mean=False) is None
    difference = apply_lut(photo, read_cube(tmp_path / "x.cube")).astype(int) - look(photo)
    assert np.abs(difference).max() <= 1


def test_wrong_name_of_a_grid(tmp_path, photo):
    with pytest.raises(DataError, match=r"\.npz"):
        export.export_grid(open_look("clahe"), photo, tmp_path / "g.txt")


def test_inspection_draws_every_slice(photo):
    figure = export.inspection(open_look("clahe"), photo)
    pictures = [axis for axis in figure.get_axes() if axis.images]
    assert len(pictures) == 3 + 8 + 8
