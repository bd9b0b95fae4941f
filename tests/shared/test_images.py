"""Pictures: every format against an independent reader, colours, orientation, alpha, bands."""

import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import OpenEXR
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, ImageOps

from shared import images
from shared.assets import samples_dir
from shared.errors import ImageError

SRGB = imagecodecs.cms_profile("srgb")
ADOBE = imagecodecs.cms_profile("adobergb")
GREY_GAMMA = imagecodecs.cms_profile("gray", gamma=1.8)
ROOT = Path(images.__file__).parents[2]
DEPTHS = (np.uint8, np.uint16, np.float32)
LOSSLESS = [
    (".png", np.uint8),
    (".png", np.uint16),
    *((".tif", dtype) for dtype in DEPTHS),
]


def noise(shape, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random(shape, dtype=np.float32)
    return images.from_float(values, dtype)


def smooth(height=48, width=64):
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1)


def real_data(*parts):
    root = os.environ.get("CONVSUITE_DATA")
    if not root:
        pytest.skip("CONVSUITE_DATA is not set")
    return Path(root, *parts)


def exif_block(orientation=1, size=(7, 9)):
    exif = Image.Exif()
    exif[271], exif[274], exif[282], exif[283], exif[296] = "Maker", orientation, 300.0, 300.0, 2
    camera = exif.get_ifd(0x8769)
    camera[33437], camera[0xA002], camera[0xA003] = 2.8, *size
    exif.get_ifd(0x8825)[1] = "N"
    return exif


# ------------------------------------------------------------------------------ values


@settings(deadline=None)
@given(arrays(np.uint16, st.integers(1, 50)), st.sampled_from([np.uint8, np.uint16]))
def test_integers_survive_floats(values, dtype):
    values = values.astype(dtype)
    assert np.array_equal(images.from_float(images.to_float(values), dtype), values)


def test_from_float_clips_rounds_and_leaves_its_input_alone():
    image = np.array([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0], np.float32)
    before = image.copy()
    assert images.from_float(image, np.uint8).tolist() == [0, 0, 0, 1, 255, 255]
    assert images.from_float(image, np.float32)[-1] == 7
    assert np.array_equal(image, before)


def test_to_float_refuses_other_types():
    with pytest.raises(TypeError, match="int32"):
        images.to_float(np.zeros(3, np.int32))


# ------------------------------------------------------------ against independent readers


@pytest.mark.parametrize(("suffix", "dtype"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_what_opencv_writes(tmp_path, suffix, dtype, channels):
    stored = noise((13, 17, channels), dtype)
    path = tmp_path / f"a{suffix}"
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert cv2.imwrite(str(path), stored[..., order])
    picture = images.load(path)
    assert picture.pixels.dtype == dtype
    assert picture.grey == (channels == 1)
    assert np.array_equal(picture.pixels, np.broadcast_to(stored[..., :3], (13, 17, 3)))
    if channels == 4:
        # libtiff inside OpenCV declares no meaning for the fourth TIFF channel.
        assert (picture.alpha is None) == (suffix == ".tif")
        if suffix == ".png":
            assert np.array_equal(picture.alpha, stored[..., 3])


@pytest.mark.parametrize(("suffix", "dtype"), LOSSLESS)
@pytest.mark.parametrize("kind", ["grey", "colour", "alpha"])
def test_opencv_reads_what_we_write(tmp_path, suffix, dtype, kind):
    pixels = noise((13, 17, 3), dtype)
    if kind == "grey":
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    alpha = noise((13, 17), dtype, 1) if kind == "alpha" else None
    images.save(images.Picture(pixels, alpha, grey=kind == "grey"), path := tmp_path / f"a{suffix}")
    seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if kind == "alpha" and suffix == ".tif" and dtype is np.uint8:
        # OpenCV multiplies these colours by alpha; Pillow reads them as they are.
        seen = np.asarray(Image.open(path))[..., [2, 1, 0, 3]]
    assert seen.dtype == dtype
    if kind == "grey":
        assert np.array_equal(seen, pixels[..., 0])
    elif kind == "colour":
        assert np.array_equal(seen[..., ::-1], pixels)
    else:
        assert np.array_equal(seen[..., 2::-1], pixels)
        assert np.array_equal(seen[..., 3], alpha)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([*LOSSLESS, (".TIFF", np.uint16), (".exr", np.float32)]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_lossless_formats_give_back_what_they_got(tmp_path, kind, size, grey, with_alpha, seed):
    suffix, dtype = kind
    pixels = noise((*size, 3), dtype, seed)
    if grey:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    alpha = noise(size, dtype, seed + 1) if with_alpha else None
    path = tmp_path / f"a{suffix}"
    images.save(images.Picture(pixels, alpha, grey, linear=suffix == ".exr"), path)
    again = images.load(path)
    assert again.grey == grey
    assert again.pixels.dtype == dtype
    assert np.array_equal(again.pixels, pixels)
    assert np.array_equal(again.alpha, alpha) if with_alpha else again.alpha is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_read_as_pillow_reads_it(tmp_path, mode):
    source = Image.fromarray(images.from_float(smooth(1500, 2000), np.uint8)).convert(mode)
    source.save(tmp_path / "a.jpg")
    picture = images.load(tmp_path / "a.jpg")
    assert picture.grey == (mode == "L")
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB"))
    assert np.array_equal(picture.pixels, expected)


def test_jpeg_is_written_with_full_colour_resolution_and_the_quality_asked_for(tmp_path):
    pixels = noise((64, 64, 3))
    images.save(images.Picture(pixels), tmp_path / "a.jpg", quality=90)
    Image.fromarray(pixels).save(tmp_path / "b.jpg", quality=90, subsampling=0)
    ours, theirs = Image.open(tmp_path / "a.jpg"), Image.open(tmp_path / "b.jpg")
    assert ours.quantization == theirs.quantization
    assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    assert [layer[1:3] for layer in ours.layer] == [(1, 1)] * 3


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_grey_stays_grey_and_becomes_colour_when_it_is_no_longer_grey(tmp_path, suffix):
    grey = np.repeat(images.from_float(smooth()[..., :1], np.uint8), 3, axis=2)
    images.save(images.Picture(grey, grey=True), tmp_path / f"a{suffix}")
    tinted = grey.copy()
    tinted[..., 0] //= 2
    images.save(images.Picture(tinted, grey=True), tmp_path / f"b{suffix}")
    modes = [Image.open(tmp_path / f"{name}{suffix}").mode for name in "ab"]
    assert modes == (["RGB", "RGB"] if suffix == ".webp" else ["L", "RGB"])


def test_webp_is_read_exactly_with_colours_below_full_transparency(tmp_path):
    stored = noise((20, 30, 4))
    stored[:5, :, 3] = 0
    Image.fromarray(stored).save(tmp_path / "a.webp", lossless=True, exact=True)
    picture = images.load(tmp_path / "a.webp")
    assert np.array_equal(np.dstack([picture.pixels, picture.alpha]), stored)
    smooth_pixels = images.from_float(smooth(), np.uint8)
    clear = images.Picture(smooth_pixels, np.zeros(smooth_pixels.shape[:2], np.uint8))
    images.save(clear, tmp_path / "b.webp")
    again = images.load(tmp_path / "b.webp")
    assert not again.alpha.any()
    assert cv2.PSNR(again.pixels, smooth_pixels) > 35


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif"])
def test_pillow_modes(tmp_path, mode, suffix):
    source = Image.fromarray(images.from_float(smooth(), np.uint8)).convert(mode)
    source.save(tmp_path / f"a{suffix}")
    picture = images.load(tmp_path / f"a{suffix}")
    assert picture.grey == (mode in ("1", "L"))
    assert np.array_equal(picture.pixels, np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_png_with_a_transparent_colour(tmp_path, mode):
    source = Image.fromarray(images.from_float(smooth(), np.uint8)).convert(mode)
    key = source.getpixel((3, 4))
    source.save(tmp_path / "a.png", transparency=key)
    picture = images.load(tmp_path / "a.png")
    assert picture.grey == (mode == "L")
    assert np.array_equal(picture.pixels, np.asarray(source.convert("RGB")))
    same = np.asarray(source) == key
    assert np.array_equal(picture.alpha == 0, same.all(axis=-1) if mode == "RGB" else same)


def test_palette_png_with_alpha_per_colour(tmp_path):
    source = Image.fromarray(noise((8, 8))).convert("P")
    source.putpalette(noise(256 * 3).tobytes())
    source.save(tmp_path / "a.png", transparency=bytes(range(0, 256, 2)))
    picture = images.load(tmp_path / "a.png")
    expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
    assert np.array_equal(np.dstack([picture.pixels, picture.alpha]), expected)


def test_deep_png_with_a_transparent_colour(tmp_path):
    stored = noise((6, 7, 3), np.uint16)
    data = imagecodecs.png_encode(stored)
    body = b"tRNS" + struct.pack(">3H", *stored[2, 3])
    chunk = struct.pack(">I", 6) + body + struct.pack(">I", imagecodecs.zlib_crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    picture = images.load(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, stored)
    assert np.argwhere(picture.alpha == 0).tolist() == [[2, 3]]


# ------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_tiff_layouts(tmp_path, byteorder, planar, compression, dtype):
    stored = noise((21, 18, 3), np.float32).astype(dtype)
    if np.issubdtype(dtype, np.integer):
        stored = noise((21, 18, 3), dtype)
    layout = stored if planar == "contig" else np.moveaxis(stored, 2, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        layout,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        byteorder=byteorder,
        rowsperstrip=5,
    )
    picture = images.load(path)
    assert picture.pixels.dtype == (dtype if dtype in DEPTHS else np.float32)
    assert picture.pixels.dtype.isnative
    assert np.array_equal(picture.pixels, stored.astype(picture.pixels.dtype))


def test_tiff_white_is_zero_and_tiles(tmp_path):
    stored = noise((40, 50), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", tile=(16, 16))
    picture = images.load(tmp_path / "a.tif")
    assert picture.grey
    assert np.array_equal(picture.pixels[..., 1], 65535 - stored)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_odd_bit_depths_use_the_full_range(tmp_path, bits):
    stored = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16).reshape(8, 8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", bitspersample=bits)
    pixels = images.load(tmp_path / "a.tif").pixels[..., 0]
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, np.rint(stored * (65535 / (2**bits - 1))).astype(np.uint16))


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_tiff_extra_channel(tmp_path, dtype, kind):
    alpha = noise((9, 8), dtype, 1)
    alpha[:2] = 0
    straight = noise((9, 8, 3), dtype)
    stored = straight
    if kind == "assocalpha":
        product = images.to_float(straight) * images.to_float(alpha)[..., None]
        stored = images.from_float(product, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.dstack([stored, alpha]),
        photometric="rgb",
        planarconfig="contig",
        extrasamples=(kind,),
    )
    picture = images.load(tmp_path / "a.tif")
    if kind == "unspecified":
        assert picture.alpha is None
        assert "left out" in picture.notes[0]
    else:
        assert np.array_equal(picture.alpha, alpha)
    if kind == "assocalpha":
        error = np.abs(images.to_float(picture.pixels) - images.to_float(straight))
        step = 1e-6 if dtype is np.float32 else 1 / np.iinfo(dtype).max
        cover = images.to_float(alpha)[..., None]
        assert (error * cover <= 2 * step)[2:].all()
        assert not picture.pixels[:2].any()
    else:
        assert np.array_equal(picture.pixels, straight)


def test_tiff_float_without_finite_values_is_repaired_and_said(tmp_path):
    stored = noise((4, 5, 3), np.float32)
    stored[0, 0], stored[1, 1, 0], stored[2, 2, 1] = np.nan, np.inf, -np.inf
    stored[3, 3, 0], stored[3, 3, 1] = 7.5, -2.5
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb")
    picture = images.load(tmp_path / "a.tif")
    assert picture.notes == ("5 values that are no finite numbers replaced",)
    assert not picture.pixels[0, 0].any()
    assert picture.pixels[1, 1, 0] == 7.5
    assert picture.pixels[2, 2, 1] == -2.5
    known = np.isfinite(stored)
    assert np.array_equal(picture.pixels[known], stored[known])


def test_tiff_of_several_pages_uses_the_first_and_says_so(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for seed in range(3):
            tif.write(noise((5, 6, 3), seed=seed), photometric="rgb", metadata=None)
    picture = images.load(tmp_path / "a.tif")
    assert np.array_equal(picture.pixels, noise((5, 6, 3), seed=0))
    assert "first of 3" in picture.notes[0]


def test_tiff_with_jpeg_inside(tmp_path):
    stored = images.from_float(smooth(), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", compression="jpeg",
                     compressionargs={"level": 98})  # fmt: skip
    assert cv2.PSNR(images.load(tmp_path / "a.tif").pixels, stored) > 35


# ------------------------------------------------------------------------- HDR and EXR


def test_hdr_against_opencv(tmp_path):
    image = noise((30, 40, 3), np.float32) * 50
    assert cv2.imwrite(str(tmp_path / "a.hdr"), image[..., ::-1])
    picture = images.load(tmp_path / "a.hdr")
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR_RGB
    assert picture.linear
    assert np.array_equal(picture.pixels, cv2.imread(str(tmp_path / "a.hdr"), flags))
    images.write(tmp_path / "b.hdr", image)
    seen = cv2.imread(str(tmp_path / "b.hdr"), flags)
    assert np.all(np.abs(seen - image) <= image.max(axis=2, keepdims=True) / 128)
    images.write(tmp_path / "c.hdr", np.float32([[[-3, 0.5, 1], [-1, -1, -1]]]))
    assert images.read(tmp_path / "c.hdr").tolist() == [[[0, 0.5, 1], [0, 0, 0]]]


@pytest.mark.parametrize("names", [("Y",), ("G",), ("Y", "A"), ("R", "G", "B")])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_exr_channels(tmp_path, names, dtype):
    planes = {
        name: noise((8, 9), np.float32, seed).astype(dtype) * 9 - 2
        for seed, name in enumerate(names)
    }
    header = {"compression": OpenEXR.PIZ_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, dict(planes)).write(str(tmp_path / "a.exr"))
    picture = images.load(tmp_path / "a.exr")
    assert picture.linear
    assert picture.grey == ("R" not in names)
    for channel, name in enumerate(names[:3]):
        if name == "A":
            assert np.array_equal(picture.alpha, planes["A"])
        else:
            assert np.array_equal(picture.pixels[..., channel], planes[name])
    assert picture.pixels.min() < 0


def test_exr_written_is_read_by_the_reference_library(tmp_path):
    pixels, alpha = noise((8, 9, 3), np.float32) * 1e6 - 5, noise((8, 9), np.float32)
    images.save(images.Picture(pixels, alpha, linear=True), tmp_path / "a.exr")
    stored = OpenEXR.File(str(tmp_path / "a.exr")).channels()["RGBA"].pixels
    assert np.array_equal(stored, np.dstack([pixels, alpha]))


def test_exr_of_other_kinds_is_refused_clearly(tmp_path):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    plane = np.ones((4, 4), np.float16)
    for names, reason in ((("Y", "RY", "BY"), "luminance"), (("u", "v"), "channels u, v")):
        OpenEXR.File(header, dict.fromkeys(names, plane)).write(str(tmp_path / "a.exr"))
        with pytest.raises(ImageError, match=reason):
            images.load(tmp_path / "a.exr")


def test_exr_with_other_primaries_is_noted(tmp_path):
    header = {
        "type": OpenEXR.scanlineimage,
        "chromaticities": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    }
    planes = dict.fromkeys("RGB", np.ones((4, 4), np.float32))
    OpenEXR.File(header, planes).write(str(tmp_path / "a.exr"))
    assert "primaries" in images.load(tmp_path / "a.exr").notes[0]


def test_real_exr_files():
    folder = real_data("hdr", "exr_openexr")
    expected = json.loads((folder / "reference_values.json").read_text())
    for name, facts in expected.items():
        picture = images.load(folder / f"{name}.exr")
        assert list(picture.pixels.shape) == facts["shape"]
        assert picture.pixels.max() == facts["max"]
        assert picture.pixels[100, 200].tolist() == facts["pixel_100_200"]
        assert np.allclose(picture.pixels.mean((0, 1)), facts["mean_rgb"], rtol=3e-3)
    assert images.load(folder / "Garden.exr").grey
    assert "replaced" in images.load(folder / "BrightRingsNanInf.exr").notes[0]
    assert images.load(folder / "WideFloatRange.exr").pixels.max() > 1e38
    assert images.load(folder / "CandleGlass.exr").alpha is not None


def test_real_hdr_files_against_opencv():
    for path in sorted(real_data("hdr", "polyhaven").glob("*.hdr")):
        seen = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(images.load(path).pixels, seen)


def test_linear_light_and_srgb_are_converted_as_the_format_needs(tmp_path):
    linear = np.repeat(np.array([[0, 0.002, 0.18, 0.5, 1, 3]], np.float32)[..., None], 3, axis=2)
    srgb = [0, 0.02584, 0.46136, 0.73536, 1, 1]  # IEC 61966-2-1, the last one clipped
    images.save(images.Picture(linear, linear=True), tmp_path / "a.png")
    encoded = images.load(tmp_path / "a.png")
    assert encoded.pixels.dtype == np.uint16
    assert np.allclose(images.to_float(encoded.pixels)[0, :, 0], srgb, atol=2e-5)
    images.save(images.Picture(linear, linear=True), tmp_path / "a.tif")
    images.save(images.load(tmp_path / "a.tif"), tmp_path / "b.exr")
    assert np.allclose(images.load(tmp_path / "b.exr").pixels, linear, rtol=1e-5)


# ------------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".tif", "16 bit .png", "16 bit .tif"])
def test_orientation_is_applied_and_reset(tmp_path, orientation, kind):
    stored = images.from_float(smooth(5, 8), np.uint8)
    exif = exif_block(orientation, (8, 5))
    path = tmp_path / f"a{kind[-5:].strip()}"
    deep = kind.startswith("16")
    if deep and kind.endswith(".tif"):
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric="rgb",
                         extratags=[(274, "H", 1, orientation, True)])  # fmt: skip
    elif deep:
        images.save(images.Picture(stored.astype(np.uint16) * 257), path)
        block = b"eXIf" + exif.tobytes()[6:]
        chunk = struct.pack(">I", len(block) - 4) + block
        chunk += struct.pack(">I", imagecodecs.zlib_crc32(block))
        data = path.read_bytes()
        path.write_bytes(data[:-12] + chunk + data[-12:])  # after the pixels, as is allowed
    else:
        Image.fromarray(stored).save(path, exif=exif, **({"lossless": True}
                                     if kind == ".webp" else {}))  # fmt: skip
    picture = images.load(path)
    shown = Image.open(path)
    if deep:
        shown = Image.fromarray(stored)
        shown.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(shown))
    assert picture.pixels.shape == expected.shape
    assert np.array_equal(picture.pixels, expected.astype(np.uint16) * 257 if deep else expected)
    images.save(picture, tmp_path / "out.png")
    again = Image.open(tmp_path / "out.png")
    assert again.getexif().get(274, 1) == 1
    camera = again.getexif().get_ifd(0x8769)
    assert camera.get(0xA002, again.width) == again.width
    assert camera.get(0xA003, again.height) == again.height


def test_alpha_turns_with_the_picture(tmp_path):
    stored = noise((5, 8, 4))
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif_block(6))
    picture = images.load(tmp_path / "a.png")
    turned = np.rot90(stored, -1)
    assert np.array_equal(np.dstack([picture.pixels, picture.alpha]), turned)


@pytest.mark.parametrize("target", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("source", [".jpg", ".png", ".webp", ".tif"])
def test_exif_travels_between_formats(tmp_path, source, target):
    images.save(
        images.Picture(noise((7, 9, 3)), exif=exif_block(1).tobytes()), tmp_path / f"a{source}"
    )
    images.save(images.load(tmp_path / f"a{source}"), tmp_path / f"b{target}")
    exif = Image.open(tmp_path / f"b{target}").getexif()
    assert exif[271] == "Maker"
    assert exif[282] == 300
    assert exif.get(274, 1) == 1
    assert float(exif.get_ifd(0x8769)[33437]) == pytest.approx(2.8)
    assert exif.get_ifd(0x8769)[0xA002] == 9
    assert exif.get_ifd(0x8825)[1] == "N"


def test_exif_written_by_pillow_into_a_tiff_is_found(tmp_path):
    Image.fromarray(noise((7, 9, 3))).save(tmp_path / "a.tif", exif=exif_block(1, (9, 7)).tobytes())
    exif = Image.Exif()
    exif.load(images.load(tmp_path / "a.tif").exif)
    assert exif[271] == "Maker"
    assert float(exif.get_ifd(0x8769)[33437]) == pytest.approx(2.8)
    assert not {256, 257, 273, 279} & set(exif)


def test_exif_too_long_for_a_jpeg_is_left_out(tmp_path):
    exif = exif_block()
    exif.get_ifd(0x8769)[37500] = bytes(70000)
    picture = images.Picture(noise((7, 9, 3)), exif=exif.tobytes())
    images.save(picture, tmp_path / "a.jpg")
    images.save(picture, tmp_path / "a.png")
    assert images.load(tmp_path / "a.jpg").exif is None
    assert len(images.load(tmp_path / "a.png").exif) > 70000


def test_damaged_exif_costs_no_picture_and_no_warning(tmp_path):
    block = exif_block(6).tobytes()
    path = tmp_path / "a.jpg"
    Image.fromarray(noise((5, 8, 3))).save(path, exif=block[: len(block) // 2])
    with pytest.warns(UserWarning, match="Truncated"), Image.open(path):
        pass  # what Pillow says of it
    code = f"from shared import images; print(images.load({str(path)!r}).pixels.size)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["120"]
    assert done.stderr == ""


# ---------------------------------------------------------------------------- profiles


def littlecms(pixels, profile, target=SRGB):
    source, sink = (ImageCms.ImageCmsProfile(io.BytesIO(icc)) for icc in (profile, target))
    return np.asarray(ImageCms.profileToProfile(Image.fromarray(pixels), source, sink,
                                                renderingIntent=1))  # fmt: skip


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_profile_is_applied_and_embedded_again(tmp_path, suffix):
    stored = images.from_float(0.2 + 0.5 * smooth(), np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(stored).save(path, icc_profile=ADOBE)
    raw = np.asarray(Image.open(path).convert("RGB"))
    picture = images.load(path)
    assert "Adobe" in picture.notes[0] or "converted to sRGB" in picture.notes[0]
    assert np.abs(picture.pixels.astype(int) - littlecms(raw, ADOBE)).max() <= 1
    assert np.abs(picture.pixels.astype(int) - raw).max() > 5
    images.save(picture, tmp_path / "b.png")
    again = Image.open(tmp_path / "b.png")
    assert again.info["icc_profile"] == ADOBE
    inside = (picture.pixels > 0).all(axis=-1) & (picture.pixels < 255).all(axis=-1)
    assert inside.mean() > 0.8
    assert np.abs(np.asarray(again).astype(int) - raw)[inside].max() <= 2


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_profile_conversion_keeps_the_depth(tmp_path, dtype):
    """Against the formulas of the two colour spaces, down to the deep shadows."""
    linear = 0.9 * smooth().astype(np.float64) ** 4 + 1e-4
    to_adobe = np.array(
        [[0.71512, 0.28488, 0.0], [0.0, 1.0, 0.0], [0.0, 0.04117, 0.95883]]
    )  # both spaces have the same white, green and blue hue lines; only red and green move
    adobe = (linear @ to_adobe.T) ** (1 / 2.19921875)
    stored = images.from_float(adobe.astype(np.float32), dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", iccprofile=ADOBE)
    pixels = images.to_float(images.load(tmp_path / "a.tif").pixels)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(pixels - srgb).max() < 2e-3
    images.save(images.load(tmp_path / "a.tif"), tmp_path / "b.tif")
    back = images.to_float(tifffile.imread(tmp_path / "b.tif"))
    assert np.abs(back - images.to_float(stored)).max() < 2e-4


def test_srgb_profile_changes_nothing_and_stays(tmp_path):
    described = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stored = noise((9, 9, 3))
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=described)
    picture = images.load(tmp_path / "a.png")
    assert np.array_equal(picture.pixels, stored)
    assert picture.notes == ()
    images.save(picture, tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").info["icc_profile"] == described
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), stored)


def test_grey_profile_goes_there_and_back(tmp_path):
    stored = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", iccprofile=GREY_GAMMA)
    picture = images.load(tmp_path / "a.tif")
    assert picture.grey
    linear = (stored / 65535) ** 1.8
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(images.to_float(picture.pixels[..., 0]) - srgb).max() < 1e-3
    images.save(picture, tmp_path / "b.png")
    again = Image.open(tmp_path / "b.png")
    assert again.info["icc_profile"] == GREY_GAMMA
    back = imagecodecs.png_decode((tmp_path / "b.png").read_bytes()).astype(int)
    assert np.abs(back - stored)[2:].max() < 65
    tinted = picture.pixels.copy()
    tinted[..., 0] //= 2
    images.save(images.Picture(tinted, grey=True, icc=GREY_GAMMA), tmp_path / "c.png")
    assert "icc_profile" not in Image.open(tmp_path / "c.png").info


@pytest.mark.parametrize("icc", [b"junk" * 50, ADOBE[:200], GREY_GAMMA, ADOBE[:16] + b"CMYK"])
def test_unusable_profile_is_ignored_and_said(tmp_path, icc):
    stored = noise((9, 9, 3))
    Image.fromarray(stored).save(tmp_path / "a.jpg", icc_profile=icc, quality=100)
    picture = images.load(tmp_path / "a.jpg")
    assert np.array_equal(picture.pixels, np.asarray(Image.open(tmp_path / "a.jpg")))
    assert picture.icc is None
    assert "profile" in picture.notes[0]
    assert "ignored" in picture.notes[0]


def test_formats_without_a_profile_keep_srgb_colours(tmp_path):
    Image.fromarray(images.from_float(smooth(), np.uint8)).save(
        tmp_path / "a.png", icc_profile=ADOBE
    )
    picture = images.load(tmp_path / "a.png")
    images.save(picture, tmp_path / "a.bmp")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.bmp")), picture.pixels)


def cmyk_profile():
    """A CMYK profile whose table turns ink into Lab: lightness falls with K, a* rises with M."""
    corners = [
        (round(255 * (1 - k) * (1 - 0.3 * (c + m + y) / 3)), 128 + 60 * m - 50 * c, 128 + 70 * y)
        for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)
    ]  # fmt: skip
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4
    table += bytes(value for corner in corners for value in corner) + bytes(range(256)) * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = b"", b""
    for name, data in ((b"A2B0", table), (b"wtpt", white)):
        data += bytes(-len(data) % 4)
        tags += name + struct.pack(">II", 128 + 4 + 24 + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", 128 + 4 + 24 + len(body), b"lcms", 0x02400000, b"prtr",
                         b"CMYK", b"Lab ")  # fmt: skip
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", 2) + tags + body


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    source = Image.fromarray(images.from_float(smooth(), np.uint8)).convert("CMYK")
    source.save(tmp_path / f"a{suffix}")  # Pillow writes JPEG inks inverted, as Adobe does
    picture = images.load(tmp_path / f"a{suffix}")
    expected = np.asarray(Image.open(tmp_path / f"a{suffix}").convert("RGB")).astype(int)
    assert np.abs(picture.pixels - expected).max() <= 1
    assert "CMYK converted to RGB" in picture.notes[0]
    assert not picture.grey


def test_cmyk_with_its_profile(tmp_path):
    icc = cmyk_profile()
    source = Image.fromarray(images.from_float(smooth(), np.uint8)).convert("CMYK")
    source.save(tmp_path / "a.tif", icc_profile=icc)
    picture = images.load(tmp_path / "a.tif")
    profile, srgb = (ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (icc, SRGB))
    expected = ImageCms.profileToProfile(
        source, profile, srgb, renderingIntent=1, outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )  # fmt: skip
    assert np.abs(picture.pixels.astype(int) - np.asarray(expected)).max() <= 1
    assert picture.icc is None
    assert "by its colour profile" in picture.notes[0]
    naive = np.asarray(source.convert("RGB")).astype(int)
    assert np.abs(picture.pixels - naive).max() > 20


# ---------------------------------------------------------------------- what is reduced


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_deep_pictures_are_reduced_and_losses_are_named(tmp_path, suffix):
    picture = images.Picture(
        images.from_float(smooth(), np.uint16), noise((48, 64), np.uint16), notes=()
    )
    images.save(picture, tmp_path / f"a{suffix}")
    again = images.load(tmp_path / f"a{suffix}")
    assert again.pixels.dtype == np.uint8
    assert cv2.PSNR(again.pixels, images.from_float(smooth(), np.uint8)) > 35
    found = " ".join(images.losses(picture, tmp_path / f"a{suffix}"))
    assert "16 bit" in found
    assert ("transparency" in found) == (suffix != ".webp") == (again.alpha is None)
    assert images.losses(picture, "a.png") == ()


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".jpg", np.uint8), (".tif", np.float32), (".exr", np.float32)],
)
def test_write_chooses_the_depth(tmp_path, suffix, dtype):
    image = smooth().astype(np.float64)
    images.write(tmp_path / f"a{suffix}", image)
    assert images.load(tmp_path / f"a{suffix}").pixels.dtype == dtype
    assert np.abs(images.read(tmp_path / f"a{suffix}") - image).max() < 0.03


def test_write_keeps_integers_and_grey(tmp_path):
    stored = noise((5, 6), np.uint16)
    images.write(tmp_path / "a.png", stored)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), stored)
    with pytest.raises(ValueError, match="height, width"):
        images.write(tmp_path / "a.png", np.zeros((2, 3, 5)))


# --------------------------------------------------------------------------- big TIFFs


@pytest.mark.parametrize("dtype", DEPTHS)
def test_big_tiff_comes_as_a_memory_map_and_leaves_in_bands(tmp_path, dtype):
    stored = noise((150, 100, 3), dtype)
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, stored, photometric="rgb", rowsperstrip=7, iccprofile=ADOBE)
    picture = images.load(source, max_megapixels=0.01)
    assert isinstance(picture.pixels, np.memmap)
    assert picture.pixels.flags.writeable is False
    assert picture.pixels.dtype == dtype
    bands = ((row, 1 - picture.pixels[row : row + 32]) for row in (96, 0, 64, 32, 128))
    images.save_bands(picture, target := tmp_path / "out" / "b.TIF", bands)
    assert np.array_equal(tifffile.imread(target), 1 - stored)
    assert images.load(target).icc == ADOBE
    assert not isinstance(images.load(source, max_megapixels=1).pixels, np.memmap)


def test_bands_of_a_converted_picture_go_back_to_its_profile(tmp_path):
    Image.fromarray(images.from_float(smooth(), np.uint8)).save(
        tmp_path / "a.tif", icc_profile=ADOBE
    )
    picture = images.load(tmp_path / "a.tif")
    images.save(picture, tmp_path / "whole.tif")
    bands = [(row, picture.pixels[row : row + 10]) for row in range(0, 48, 10)]
    images.save_bands(picture, tmp_path / "bands.tif", bands)
    assert np.array_equal(tifffile.imread(tmp_path / "bands.tif"),
                          tifffile.imread(tmp_path / "whole.tif"))  # fmt: skip


@pytest.mark.parametrize("change", ["compressed", "grey", "swapped", "planar", "turned", "jpeg"])
def test_other_big_pictures_meet_the_limit(tmp_path, change):
    stored = noise((150, 100, 3), np.uint16)
    path = tmp_path / ("a.jpg" if change == "jpeg" else "a.tif")
    options = {
        "compressed": {"compression": "zlib"},
        "swapped": {"byteorder": ">"},
        "planar": {"planarconfig": "separate"},
        "turned": {"extratags": [(274, "H", 1, 3, True)]},
    }.get(change, {})
    if change == "jpeg":
        images.write(path, smooth(150, 100))
    elif change == "grey":
        tifffile.imwrite(path, stored[..., 0], photometric="minisblack")
    else:
        layout = np.moveaxis(stored, 2, 0) if change == "planar" else stored
        tifffile.imwrite(path, layout, photometric="rgb", **options)
    with pytest.raises(ImageError, match=r"limit of 0\.01 megapixels; raise it with"):
        images.load(path, max_megapixels=0.01)


def test_read_never_maps(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((150, 100, 3)), photometric="rgb")
    with pytest.raises(ImageError, match="--max-megapixels"):
        images.read(tmp_path / "a.tif", max_megapixels=0.01)


@pytest.mark.parametrize("bands", [[(0, 40)], [(0, 150), (0, 1)]])
def test_bands_that_do_not_cover_leave_no_file(tmp_path, bands):
    picture = images.Picture(noise((150, 100, 3)))
    with pytest.raises(ValueError, match="of 150 rows"):
        images.save_bands(picture, tmp_path / "b.tif",
                          ((row, picture.pixels[:count]) for row, count in bands))  # fmt: skip
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("suffix", sorted(images.READABLE))
def test_every_readable_suffix_is_written_in_upper_case_too(tmp_path, suffix):
    path = tmp_path / "new folder" / f"ünï côde{suffix.upper()}"
    images.write(path, smooth())
    assert images.load(path).source == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", sorted(images.READABLE))
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("grey", [True, False])
def test_one_pixel_wide_cuts_of_larger_arrays(tmp_path, suffix, size, grey):
    large = np.full((20, 30, 3), (90, 90, 90) if grey else (90, 120, 60), np.uint8)
    cut = large[3 : 3 + size[0], 5 : 5 + size[1]]
    icc = GREY_GAMMA if grey else ADOBE
    for picture in (images.Picture(cut, grey=grey), images.Picture(cut, grey=grey, icc=icc)):
        images.save(picture, tmp_path / f"a{suffix}")
        again = images.to_float(images.load(tmp_path / f"a{suffix}").pixels)
        if suffix in (".hdr", ".exr"):
            again = 1.055 * again ** (1 / 2.4) - 0.055
        assert np.abs(again - cut / 255).max() < 0.02


def test_unknown_suffix_lists_the_known_ones(tmp_path):
    with pytest.raises(ImageError, match=r"a\.gif.*\.png, \.jpg.*\.exr"):
        images.write(tmp_path / "a.gif", smooth())
    with pytest.raises(ImageError, match=r"\.tif"):
        images.save_bands(images.Picture(noise((4, 4, 3))), tmp_path / "a.png", [])


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_sides_beyond_the_format(tmp_path, suffix):
    with pytest.raises(ImageError, match=r"70000 x 1; choose \.png"):
        images.write(tmp_path / f"a{suffix}", np.zeros((1, 70000), np.uint8))


@pytest.mark.parametrize("suffix", sorted(images.READABLE))
def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(ImageError, match=rf"a{suffix} cannot be written: No space left"):
        images.write(path, smooth())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_nothing(tmp_path):
    def bands():
        yield 0, np.zeros((1, 4, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.save_bands(images.Picture(noise((4, 4, 3))), tmp_path / "a.tif", bands())
    assert list(tmp_path.iterdir()) == []


def test_target_that_is_a_folder_or_below_a_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "a.png", tmp_path / "file" / "b.png"):
        with pytest.raises(ImageError, match="cannot be written"):
            images.write(path, smooth())


# ------------------------------------------------------------------------------ samples


def test_samples_are_described_and_load():
    readme = (samples_dir() / "README.md").read_text(encoding="utf-8")
    files = [p for p in samples_dir().iterdir() if p.suffix in images.READABLE]
    assert len(files) >= 8
    for path in files:
        assert path.name in readme
        assert path.stat().st_size <= 400_000
        assert images.load(path).notes == ()


def test_rotated_sample_stands_upright():
    path = samples_dir() / "rotated-rocket.jpg"
    stored = Image.open(path)
    assert stored.getexif()[274] == 6
    picture = images.load(path)
    assert picture.pixels.shape[:2] == (stored.width, stored.height)
    assert stored.width > stored.height
    upright = images.load(samples_dir() / "rocket.jpg").pixels
    column = (upright.shape[1] - picture.pixels.shape[1]) // 2
    same = upright[:, column : column + picture.pixels.shape[1]]
    assert cv2.PSNR(same, picture.pixels) > 30


def test_deep_sample_has_more_than_eight_bits_and_alpha():
    picture = images.load(samples_dir() / "coffee-16bit-alpha.png")
    assert picture.pixels.dtype == np.uint16
    assert len(np.unique(picture.pixels)) > 5000
    assert picture.alpha.min() == 0
    assert picture.alpha.max() == 65535


def test_noise_that_grows_under_run_length_coding_is_written_too(tmp_path, rng):
    noise = np.exp(rng.normal(0, 2, (64, 128, 3))).astype("float32")
    images.write(tmp_path / "noise.hdr", noise)
    found = images.read(tmp_path / "noise.hdr")
    assert np.abs(found - noise).max() < 0.01 * noise.max()
