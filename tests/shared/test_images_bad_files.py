"""Pictures that are missing, damaged, hostile or none at all: one sentence, never a traceback."""

import os
import re
import struct
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import OpenEXR
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared import images
from shared.errors import ImageError
from shared.images import read_common

KINDS = (".png", "deep.png", ".jpg", ".webp", ".bmp", ".tif", "plain.tif", ".hdr", ".exr")


def failure(path, **options):
    """Return the reason of a failed load; one line that names the file."""
    with pytest.raises(ImageError) as caught:
        images.load(path, **options)
    reason = str(caught.value)
    assert str(path) in reason
    assert "\n" not in reason
    return reason


def good_file(folder, kind):
    rng = np.random.default_rng(0)
    image = rng.random((40, 50, 3), dtype=np.float32)
    path = folder / f"a{kind}"
    if kind == "plain.tif":
        tifffile.imwrite(path, images.from_float(image, np.uint16), photometric="rgb")
    elif kind == ".tif":
        images.write(path, images.from_float(image, np.uint8))
    elif kind == "deep.png":
        images.write(path, images.from_float(image, np.uint16))
    else:
        images.write(path, image)
    return path


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claim_png(width, height, depth=8):
    header = png_chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


def claim_jpeg(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return (
        b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame
        + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\0\x3f\0" + bytes(100) + b"\xff\xd9"
    )  # fmt: skip


def claim_bmp(width, height):
    return (
        b"BM" + struct.pack("<IHHI", 154, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 100, 0, 0, 0, 0) + bytes(100)
    )  # fmt: skip


def claim_webp(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + b"VP8 " + bytes(40)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def claim_webp_lossy(width, height):
    body = b"WEBPVP8 " + struct.pack("<I", 40) + b"\x10\0\0\x9d\x01\x2a"
    body += struct.pack("<HH", width, height) + bytes(30)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def claim_webp_lossless(width, height):
    bits = (width - 1) | (height - 1) << 14
    body = b"WEBPVP8L" + struct.pack("<I", 40) + b"\x2f" + struct.pack("<I", bits) + bytes(35)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def claim_tiff(width, height):
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, max(height, 1)),
        (279, 4, 1, min(width * height * 3, 2**32 - 1)),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(104)


def claim_hdr(width, height):
    return b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + bytes(100)


def claim_exr(width, height):
    pixels = np.zeros((2, 2, 3), np.float32)
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
    target = Path(os.environ["PYTEST_CLAIM_EXR"])
    OpenEXR.File(header, {"RGB": pixels}).write(str(target))
    window = struct.pack("<4i", 0, 0, 1, 1)
    return target.read_bytes().replace(window, struct.pack("<4i", 0, 0, width - 1, height - 1))


CLAIMS = {
    "png": claim_png,
    "deep.png": lambda width, height: claim_png(width, height, 16),
    "jpg": claim_jpeg,
    "bmp": claim_bmp,
    "webp": claim_webp,
    "lossy.webp": claim_webp_lossy,
    "lossless.webp": claim_webp_lossless,
    "tif": claim_tiff,
    "hdr": claim_hdr,
    "exr": claim_exr,
}


@pytest.fixture(autouse=True)
def place_for_exr_templates(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PYTEST_CLAIM_EXR", str(tmp_path_factory.mktemp("exr") / "t.exr"))


# ------------------------------------------------------------------- not even a picture


def test_missing_empty_folder_and_pipe(tmp_path):
    assert "does not exist" in failure(tmp_path / "none.jpg")
    (tmp_path / "empty.jpg").touch()
    assert "is empty" in failure(tmp_path / "empty.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert "is a folder" in failure(tmp_path / "folder.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in failure(tmp_path / "pipe.jpg")


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(5, "Input/output error")])
def test_unreadable(tmp_path, monkeypatch, error):
    path = good_file(tmp_path, ".jpg")

    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    expected = "permission denied" if isinstance(error, PermissionError) else "Input/output error"
    assert f"cannot be read: {expected}" in failure(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"These are notes, no picture.\n", "text file"),
        (("grüße " * 900).encode(), "text file"),
        (b"BM stands for many things", "text file"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"%PDF-1.7\n" + bytes(20), "PDF"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "heic"),
        (bytes(5000), "not a picture"),
        (b"\xff", "not a picture"),
    ],
)
def test_something_else_named_jpg(tmp_path, data, reason):
    (tmp_path / "a.jpg").write_bytes(data)
    assert reason in failure(tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_decides_not_the_name(tmp_path, kind):
    path = good_file(tmp_path, kind)
    pixels = images.load(path).pixels
    assert np.array_equal(images.load(path.rename(tmp_path / "b.jpg")).pixels, pixels)


# ------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated(tmp_path, kind, share, capfd):
    path = good_file(tmp_path, kind)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    reason = failure(path)
    # A PNG or TIFF may lose its directory with its end and then looks damaged as a whole.
    assert re.search("truncated|damaged", reason)
    assert ("truncated" in reason) or kind == ".tif"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_bytes(tmp_path, kind):
    path = good_file(tmp_path, kind)
    data = path.read_bytes()
    for length in (1, 2, 4, 8, 12, 20, 30):
        path.write_bytes(data[:length])
        failure(path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.booleans(),
)
@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_give_a_picture_or_a_reason(tmp_path, kind, changes, in_head):
    path = good_file(tmp_path, kind)
    data = bytearray(path.read_bytes())
    reach = min(len(data), 400) if in_head else len(data)
    for place, value in changes:
        data[int(place * (reach - 1))] = value
    path.write_bytes(data)
    reason = None
    try:
        picture = images.load(path, max_megapixels=1)
    except ImageError as error:
        reason = str(error)
    if reason is None:
        assert picture.pixels.shape[2] == 3
        assert np.isfinite(picture.pixels).all()
    else:
        assert str(path) in reason


# -------------------------------------------------------------------------- the claims


@pytest.mark.parametrize("kind", CLAIMS)
def test_huge_claim_is_refused_from_the_header(tmp_path, kind, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("decoding started")

    monkeypatch.setattr(Image.Image, "convert", never)
    monkeypatch.setattr(imagecodecs, "png_decode", never)
    monkeypatch.setattr(imagecodecs, "rgbe_decode", never)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", never)
    monkeypatch.setattr(np, "empty", never)
    path = tmp_path / f"a.{kind}"
    path.write_bytes(CLAIMS[kind](16000, 15000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reason = failure(path)
    assert "16000 x 15000 pixels" in reason
    assert "limit of 150 megapixels" in reason
    assert "--max-megapixels 240" in reason


@pytest.mark.parametrize("kind", CLAIMS)
def test_allowed_claim_without_the_pixels_is_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(CLAIMS[kind](300, 200))
    failure(path)


@pytest.mark.parametrize("kind", [kind for kind in CLAIMS if "webp" not in kind])
def test_empty_claim(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(CLAIMS[kind](0, 0))
    reason = failure(path)
    assert "size is 0" in reason or kind == "exr"


@pytest.mark.parametrize("kind", [".png", "deep.png", ".jpg", ".webp", ".bmp"])
def test_the_pixel_limit_of_pillow_never_surfaces(tmp_path, kind, monkeypatch):
    path = good_file(tmp_path, kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # an error from 600 on
    monkeypatch.setattr(read_common, "_BAND_PIXELS", 250)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = images.load(path)
    assert picture.pixels.shape == (40, 50, 3)


def test_png_with_a_bomb_in_its_texts(tmp_path):
    data = good_file(tmp_path, ".png").read_bytes()
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    (tmp_path / "b.png").write_bytes(data[:33] + text + data[33:])
    assert "cannot be decoded" in failure(tmp_path / "b.png")


# ------------------------------------------------------------- TIFFs that are no photograph


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"dtype": np.int16}, "int16 samples"),
        ({"dtype": np.uint32}, "uint32 samples"),
        ({"dtype": np.complex64}, "complex64 samples"),
        ({"channels": 12}, "12 channels"),
        ({"photometric": "cfa"}, "camera raw"),
        ({"photometric": "cielab", "channels": 3}, "CIELAB colours"),
    ],
)
def test_tiff_kinds_that_are_refused(tmp_path, options, reason):
    channels = options.get("channels", 1)
    shape = (20, 30, channels) if channels > 1 else (20, 30)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros(shape, options.get("dtype", np.uint8)),
        photometric=options.get("photometric", "minisblack"),
        **({"planarconfig": "contig"} if channels > 1 else {}),
    )
    assert reason in failure(tmp_path / "a.tif")


def test_mapped_tiff_that_ends_too_early(tmp_path):
    path = good_file(tmp_path, "plain.tif")
    path.write_bytes(path.read_bytes()[:-500])
    assert "truncated" in failure(path, max_megapixels=0.001)
