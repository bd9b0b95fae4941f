"""Readers of digits and of labelled pictures: real files, broken files, hostile files."""

import contextlib
import gzip
import io
import struct
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import images
from shared.datasets import hold_out, load_digits, load_labelled, read_idx
from shared.errors import DataError


def idx(array, kind=0x08):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(rng):
    return rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)


def write_mnist(folder, pictures, labels, *, pack=gzip.compress, dot="-", end=".gz"):
    folder.mkdir(exist_ok=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images{dot}idx3-ubyte{end}").write_bytes(pack(idx(pictures)))
        (folder / f"{part}-labels{dot}idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    return folder


# IDX files


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (2, 1, 3, 2), (0,)])
def test_idx_round_trip(tmp_path, rng, pack, shape):
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "x").write_bytes(pack(idx(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), array)


def broken_files():
    whole = idx(np.zeros((4, 28, 28), np.uint8))
    yield "empty", b"", "no IDX file.*nothing"
    yield "text", b"hello world", "no IDX file"
    yield "picture", b"\x89PNG\r\n\x1a\n", "no IDX file"
    yield "floats", idx(np.zeros(4), kind=0x0D), "type 0xd"
    yield "no dimensions", bytes([0, 0, 8, 0]), "0 dimensions"
    yield "200 dimensions", bytes([0, 0, 8, 200]) + bytes(900), "200 dimensions"
    yield "half a header", whole[:9], "cut off within its header"
    yield "half the values", whole[:1000], "cut off: it claims 4 x 28 x 28 values and holds 984"
    yield "too many values", whole + b"\0", "more than the 4 x 28 x 28"
    huge = struct.pack(">BBBB3I", 0, 0, 8, 3, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    yield "huge claim", huge + bytes(100), "claims 4294967295 x .*more than"
    yield "large claim", struct.pack(">BBBB1I", 0, 0, 8, 1, 1 << 28) + bytes(100), "cut off"


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
@pytest.mark.parametrize(("content", "message"), [case[1:] for case in broken_files()])
def test_broken_idx_files(tmp_path, content, message, pack):
    (tmp_path / "file.gz").write_bytes(pack(content))
    with pytest.raises(DataError, match=message) as error:
        read_idx(tmp_path / "file.gz")
    assert "file.gz" in str(error.value)


def test_broken_compression(tmp_path):
    packed = gzip.compress(idx(np.arange(240, dtype=np.uint8)))
    for name, content in {
        "cut": packed[: len(packed) // 2],
        "cut in the check": packed[:-4],
        "wrong check": packed[:-8] + bytes(8),
        "damaged": packed[:20] + bytes([packed[20] ^ 0xFF]) + packed[21:],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_idx(tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    # 512 MB of zeros behind a header that claims 4 bytes: one byte too many is enough to know.
    content = idx(np.zeros(4, np.uint8)) + bytes(1 << 29)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(content, 1))
    with pytest.raises(DataError, match="more than the 4"):
        read_idx(tmp_path / "bomb.gz")


@settings(max_examples=150)
@given(place=st.integers(0, 40), value=st.integers(0, 255), length=st.integers(0, 40))
def test_any_damage_gives_an_array_or_a_data_error(place, value, length):
    content = bytearray(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))[:length])
    if place < len(content):
        content[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert read_idx(path).dtype == np.uint8


# Digits


def test_real_digits(data):
    digits = load_digits(data / "digits")
    assert digits.train_images.shape == (24_000, 28, 28)
    assert digits.test_images.shape == (10_000, 28, 28)
    assert list(digits.train_labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert list(digits.test_labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert "24,000" in digits.source


def test_bundled_digits_say_what_they_are():
    digits = load_digits()
    assert len(digits.train_labels) + len(digits.test_labels) == 1_797
    assert digits.train_images.shape[1:] == digits.test_images.shape[1:] == (28, 28)
    assert digits.train_images.max() == 255
    assert not digits.train_images[:, :4].any()
    assert "scikit-learn" in digits.source
    # Enlarged, not scrambled: shrinking gives back the original.
    from sklearn.datasets import load_digits as bundled

    back = np.stack(
        [cv2.resize(i[4:24, 4:24], (8, 8), interpolation=3) for i in digits.test_images]
    )
    original = bundled().images[-len(back) :] * (255 / 16)
    assert np.corrcoef(back.ravel(), original.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    "form", [{}, {"pack": bytes, "end": ""}, {"pack": bytes, "dot": ".", "end": ""}]
)
def test_names_of_digit_files(tmp_path, small, form):
    labels = np.arange(5, dtype=np.uint8)
    digits = load_digits(write_mnist(tmp_path / "d", small, labels, **form))
    np.testing.assert_array_equal(digits.train_images, small)
    np.testing.assert_array_equal(digits.test_labels, labels)


def test_digit_files_that_do_not_fit(tmp_path, small):
    labels = np.arange(5, dtype=np.uint8)
    cases = [
        (small[:4], labels, "4 train pictures and 5 labels"),
        (small[:, :20], labels, r"\(5, 20, 28\)"),
        (small, labels + 8, "label is 12"),
        (small[:0], labels[:0], "0 train pictures"),
        (labels, labels, "shape"),
    ]
    for pictures, classes, message in cases:
        with pytest.raises(DataError, match=message):
            load_digits(write_mnist(tmp_path / "d", pictures, classes))
    with pytest.raises(DataError, match="holds no train-images-idx3-ubyte"):
        load_digits(tmp_path)


# Labelled pictures


@pytest.fixture
def coloured(tmp_path):
    """Three classes of four pictures each, of one colour, of several sizes and kinds."""
    root = tmp_path / "pictures"
    for label, colour in {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}.items():
        for i, (size, end) in enumerate([((20, 30), "png"), ((8, 8), "png"), ((40, 16), "bmp")]):
            (root / "train" / label).mkdir(parents=True, exist_ok=True)
            picture = np.broadcast_to(np.float32(colour), (*size, 3))
            images.write(root / "train" / label / f"{i}.{end}", picture)
    return root


def zipped(folder, target, change=None):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
        if change:
            change(archive)
    return target


def test_folder_and_zip_give_the_same(coloured, tmp_path):
    from_folder = load_labelled(coloured, 16)
    from_zip = load_labelled(zipped(coloured, tmp_path / "p.zip"), 16)
    assert from_folder.classes == from_zip.classes == ("blue", "green", "red")
    for data in (from_folder, from_zip):
        assert data.images.shape == (9, 16, 16, 3)
        assert data.skipped == ()
        assert list(data.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        for image, label in zip(data.images, data.labels, strict=True):
            assert (image == np.uint8(255) * np.eye(3, dtype=np.uint8)[2 - label]).all()
    np.testing.assert_array_equal(from_folder.images, from_zip.images)


def test_the_middle_is_kept(tmp_path):
    picture = np.zeros((10, 30, 3), np.float32)
    picture[:, 10:20] = 1
    for label in "ab":
        (tmp_path / label).mkdir()
        images.write(tmp_path / label / "wide.png", picture)
    assert (load_labelled(tmp_path, 10).images == 255).all()


def test_real_archive(data):
    found = load_labelled(data / "cifar" / "cifar10_test_2k.zip", 32)
    assert found.images.shape == (2_000, 32, 32, 3)
    assert list(np.bincount(found.labels)) == [200] * 10
    assert found.classes[0] == "airplane"
    assert not found.skipped
    with zipfile.ZipFile(data / "cifar" / "cifar10_test_2k.zip") as archive:
        raw = np.frombuffer(archive.read("test/airplane/0000.jpg"), np.uint8)
    expected = cv2.imdecode(raw, cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(found.images[0] - expected).max() <= 2


def test_pictures_of_other_kinds_and_bad_ones(coloured):
    folder = coloured / "train" / "red"
    images.write(folder / "deep.png", np.ones((9, 9, 3), np.float32))
    cv2.imwrite(str(folder / "deep.png"), np.full((9, 9), 65535, np.uint16))
    cv2.imwrite(str(folder / "alpha.png"), np.full((9, 9, 4), 255, np.uint8))
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:50])
    (folder / "void.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.png").write_bytes(b"x")
    found = load_labelled(coloured, 16)
    assert len(found) == 11
    assert (found.images == 255).all((1, 2, 3)).sum() == 2
    assert len(found.skipped) == 2
    assert any("cut.png" in sentence for sentence in found.skipped)
    assert any("void.jpg" in sentence for sentence in found.skipped)
    again = load_labelled(zipped(coloured, coloured / "p.zip"), 16)
    np.testing.assert_array_equal(again.images, found.images)
    assert all(s.startswith("train/red/") for s in again.skipped)


def test_classes_of_test_pictures(coloured):
    found = load_labelled(coloured, 8, ("red", "yellow", "green", "blue"))
    assert list(found.labels) == [3, 3, 3, 2, 2, 2, 0, 0, 0]
    with pytest.raises(DataError, match="class green"):
        load_labelled(coloured, 8, ("red", "blue"))


def test_sources_without_classes(coloured, tmp_path):
    for source, message in [
        (coloured / "train" / "red", "no pictures in folders"),
        (tmp_path / "nowhere", "neither a folder nor a zip"),
        (coloured / "train" / "red" / "0.png", "not a readable zip"),
    ]:
        with pytest.raises(DataError, match=message):
            load_labelled(source, 8)
    for label in ("green", "blue"):
        for file in (coloured / "train" / label).iterdir():
            file.unlink()
    with pytest.raises(DataError, match="one class only, red"):
        load_labelled(coloured, 8)
    for file in (coloured / "train" / "red").iterdir():
        file.write_bytes(b"broken")
    (coloured / "train" / "green" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="no readable picture"):
        load_labelled(coloured, 8)


@pytest.mark.parametrize(
    "name", ["../a/evil.png", "/a/evil.png", "a/../../evil.png", "C:\\a\\e.png"]
)
def test_members_that_point_outside(coloured, tmp_path, name):
    hostile = zipped(coloured, tmp_path / "p.zip", lambda z: z.writestr(name, b"x"))
    with pytest.raises(DataError, match="points outside"):
        load_labelled(hostile, 8)
    assert not (tmp_path.parent / "evil.png").exists()


def test_bombs_and_damage(coloured, tmp_path):
    bomb = zipped(
        coloured, tmp_path / "bomb.zip", lambda z: z.writestr("train/red/b.png", bytes(1 << 23))
    )
    with pytest.raises(DataError, match="bomb"):
        load_labelled(bomb, 8)
    whole = zipped(coloured, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable zip"):
        load_labelled(tmp_path / "cut.zip", 8)
    # One bit of the first picture's data: that picture alone is left out.
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        first = archive.infolist()[0]
    place = first.header_offset + 30 + len(first.filename) + first.compress_size // 2
    (tmp_path / "bit.zip").write_bytes(
        whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
    )
    found = load_labelled(tmp_path / "bit.zip", 8)
    assert len(found) == 8
    assert first.filename in found.skipped[0]


def test_a_member_larger_than_it_claims(coloured, tmp_path):
    """The sizes in the directory are a claim; what is read never exceeds it."""
    target = zipped(coloured, tmp_path / "p.zip")
    content = target.read_bytes()
    with zipfile.ZipFile(target) as archive:
        member = archive.infolist()[0]
    entry = content.index(b"PK\x01\x02")
    assert content[entry + 24 : entry + 28] == struct.pack("<I", member.file_size)
    lied = content[: entry + 24] + struct.pack("<I", 10) + content[entry + 28 :]
    target.write_bytes(lied)
    found = load_labelled(target, 8)
    assert len(found) == 8
    assert member.filename in found.skipped[0]


def test_encrypted_archives(coloured, tmp_path):
    content = bytearray(zipped(coloured, tmp_path / "p.zip").read_bytes())
    place = 0
    while (place := content.find(b"PK\x01\x02", place)) >= 0:
        content[place + 8] |= 1
        place += 4
    (tmp_path / "p.zip").write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        load_labelled(tmp_path / "p.zip", 8)


def test_hold_out_takes_its_share_of_every_class(rng):
    from shared.datasets import Labelled

    labels = np.repeat([0, 1, 2], [40, 25, 7])
    rng.shuffle(labels)
    pictures = np.arange(72, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, -1)
    rest, held = hold_out(Labelled(pictures, labels, ("a", "b", "c"), ()), every=5)
    assert list(np.bincount(held.labels, minlength=3)) == [8, 5, 1]
    both = np.concatenate([rest.images, held.images])[:, 0, 0, 0]
    assert sorted(both) == list(range(72))
    assert (labels[held.images[:, 0, 0, 0]] == held.labels).all()


def test_bytes_behind_an_archive_do_not_matter(coloured, tmp_path):
    packed = io.BytesIO(zipped(coloured, tmp_path / "p.zip").read_bytes())
    (tmp_path / "shifted.zip").write_bytes(b"#!/bin/sh\n" + packed.getvalue())
    assert len(load_labelled(tmp_path / "shifted.zip", 8)) == 9
