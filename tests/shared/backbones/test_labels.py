"""Names of classes."""

import numpy as np
import pytest

from shared.assets import labels_dir
from shared.backbones import spec
from shared.backbones.labels import as_probabilities, decode, load_labels
from shared.errors import ConvsuiteError, DataError


def test_the_shipped_names_are_those_of_imagenet():
    names = load_labels(None, 1000)
    assert len(names) == 1000
    places = {0: "tench", 285: "Egyptian cat", 281: "tabby", 967: "espresso", 999: "toilet tissue"}
    for place, name in places.items():
        assert names[place].startswith(name)
    lines = (labels_dir() / "imagenet.txt").read_text(encoding="utf-8").splitlines()
    ids = [line.split(" ", 1)[0] for line in lines]
    assert ids == sorted(set(ids))
    assert (labels_dir() / "LICENSE.txt").read_text(encoding="utf-8").count("WordNet") > 3


def test_the_order_is_that_of_published_weights(data):
    file = data / "backbones" / "squeezenet_v1.1" / "imagenet_synset_words.txt"
    theirs = file.read_text(encoding="utf-8").splitlines()
    ours = (labels_dir() / "imagenet.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in ours] == [line.split()[0] for line in theirs]
    assert load_labels(file, 1000) == load_labels(None, 1000)


def test_the_likeliest_come_first():
    probabilities = np.float32([0.1, 0.4, 0.1, 0.4])
    assert decode(probabilities, 3, ["a", "b", "c", "d"]) == [
        ("b", pytest.approx(0.4)),
        ("d", pytest.approx(0.4)),
        ("a", pytest.approx(0.1)),
    ]
    assert [name for name, _ in decode(probabilities)] == ["1", "3", "0", "2"]
    assert decode(np.eye(1000, dtype=np.float32)[285], 1) == [("Egyptian cat", 1.0)]
    assert type(decode(probabilities)[0][1]) is float


def test_what_cannot_be_decoded():
    with pytest.raises(ConvsuiteError, match=r"\(1, 4\)"):
        decode(np.ones((1, 4)))
    with pytest.raises(ConvsuiteError, match="2 labels for 4 classes"):
        decode(np.ones(4), labels=["a", "b"])


def test_a_file_of_labels(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffKäfer\r\nn02124075 Egyptian cat\r\n  bee \r\n\r\n".encode())
    assert load_labels(file, 3) == ["Käfer", "Egyptian cat", "bee"]
    with pytest.raises(DataError, match="3 labels, but the network has 10 classes"):
        load_labels(file, 10)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x01", b""])
def test_files_that_are_no_labels(tmp_path, content):
    file = tmp_path / "labels.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.txt"):
        load_labels(file, 3)


def test_a_huge_file_is_not_read(tmp_path):
    file = tmp_path / "labels.txt"
    with file.open("wb") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(DataError, match="too large"):
        load_labels(file, 3)


def test_names_of_a_card_stand_before_numbers_and_behind_a_file(tmp_path):
    (tmp_path / "labels.txt").write_text("x\ny\n")
    assert load_labels(None, 2, ["a", "b"]) == ["a", "b"]
    assert load_labels(tmp_path / "labels.txt", 2, ["a", "b"]) == ["x", "y"]


def test_outputs_of_squared_error_become_probabilities():
    targets = np.float32([[-1, -1, 1], [-1.3, 0.4, 1.08], [-1.2, -1.1, -1.5]])
    found = as_probabilities(targets, spec("lecun1989"))
    expected = [[0, 0, 1], [0, 0.7 / 1.74, 1.04 / 1.74], [1 / 3] * 3]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    assert as_probabilities(targets, spec("lenet5")) is targets
