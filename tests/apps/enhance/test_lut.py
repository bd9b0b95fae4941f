import os
import threading
from pathlib import Path

import colour
import cv2
import numpy as np
import pillow_lut
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFilter
from scipy.interpolate import RegularGridInterpolator
from skimage import data

from apps.enhance.lut import (
    LOOKS,
    Lut,
    apply_lut,
    fit_lut,
    identity_lut,
    make_look,
    read_cube,
    write_cube,
)
from shared.errors import DataError

DATA = os.environ.get("CONVSUITE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="CONVSUITE_DATA is not set")
TYPES = [np.uint8, np.uint16, np.float32]
SMALL_TABLE = "0 0 0\n1 0 0\n0 1 0\n1 1 0\n0 0 1\n1 0 1\n0 1 1\n1 1 1\n"


def random_lut(size=7, seed=0, **domain):
    table = np.random.default_rng(seed).random((size, size, size, 3), np.float32)
    return Lut(table, **domain)


def random_pixels(dtype, shape=(31, 45, 3), seed=1):
    values = np.random.default_rng(seed).random(shape)
    return values.astype(dtype) if dtype == np.float32 else full_scale(values, dtype)


def full_scale(values, dtype):
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)


def white(dtype):
    return 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)


def reference(pixels, lut):
    """Trilinear interpolation by SciPy, float64, 0..1."""
    axes = np.linspace(lut.domain_min, lut.domain_max, lut.size).T
    position = np.clip(pixels / white(pixels.dtype), lut.domain_min, lut.domain_max)
    return RegularGridInterpolator(tuple(axes), lut.table.astype(np.float64))(position)


def tolerance(dtype):
    """Half a level of rounding and float32 arithmetic."""
    return {np.uint8: 0.502, np.uint16: 0.6, np.float32: 1e-5}[dtype] / white(dtype)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(np.float64) - b) ** 2), 1e-9))


# Applying


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [2, 3, 17, 33])
def test_apply_equals_scipy(dtype, size):
    lut = random_lut(size)
    pixels = random_pixels(dtype)
    pixels[0, :8] = white(dtype) * np.array(list(np.ndindex(2, 2, 2)))
    result = apply_lut(pixels, lut)
    assert result.dtype == dtype
    assert result.shape == pixels.shape
    error = np.abs(result / white(dtype) - reference(pixels, lut)).max()
    assert error < tolerance(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_apply_respects_the_domain(dtype):
    lut = random_lut(5, domain_min=(0.1, -0.5, 0.0), domain_max=(0.7, 1.5, 0.9))
    pixels = random_pixels(dtype)
    error = np.abs(apply_lut(pixels, lut) / white(dtype) - reference(pixels, lut)).max()
    assert error < tolerance(dtype)


def test_stretched_table_equals_the_table_on_stretched_pixels():
    lut, pixels = random_lut(6), random_pixels(np.float32)
    stretched = np.clip((pixels - 0.2) / 0.5, 0, 1)
    np.testing.assert_allclose(
        apply_lut(pixels, lut.stretched(0.2, 0.7)), apply_lut(stretched, lut), atol=1e-5
    )


def test_apply_equals_pillow_within_a_level():
    lut = make_look("warm", 33)
    photo = data.astronaut()
    peer = ImageFilter.Color3DLUT(33, lut.table.transpose(2, 1, 0, 3).ravel().tolist())
    expected = np.asarray(Image.fromarray(photo).filter(peer)).astype(int)
    assert np.abs(apply_lut(photo, lut) - expected).max() <= 1


def test_axes_are_red_green_blue():
    table = np.zeros((2, 2, 2, 3), np.float32)
    table[1, 0, 0] = [0.25, 0.5, 0.75]
    result = apply_lut(np.eye(3, dtype=np.float32), Lut(table))
    np.testing.assert_allclose(result, [[0.25, 0.5, 0.75], [0, 0, 0], [0, 0, 0]])


@given(
    dtype=st.sampled_from(TYPES),
    shape=st.tuples(st.integers(0, 6), st.integers(1, 9), st.just(3)),
    size=st.integers(2, 20),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_identity_and_strength_zero(dtype, shape, size, seed):
    pixels = random_pixels(dtype, shape, seed)
    untouched = apply_lut(pixels, random_lut(3), strength=0)
    assert untouched.tobytes() == pixels.tobytes()
    assert not np.shares_memory(untouched, pixels)
    same = apply_lut(pixels, identity_lut(size))
    level = 1e-5 if dtype == np.float32 else 1
    assert np.abs(same.astype(np.float64) - pixels).max(initial=0) <= level


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.7])
def test_strength_is_linear(strength):
    lut, pixels = random_lut(9), random_pixels(np.float32)
    full = apply_lut(pixels, lut).astype(np.float64)
    np.testing.assert_allclose(
        apply_lut(pixels, lut, strength), pixels + strength * (full - pixels), atol=1e-5
    )


def test_integers_are_clipped_and_floats_are_not():
    lut = Lut(identity_lut(4).table * 3 - 1)
    ends = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    np.testing.assert_array_equal(apply_lut(ends, lut), ends)
    result = apply_lut(ends.astype(np.float32) / 255, lut)
    np.testing.assert_allclose(result, [[-1] * 3, [2] * 3], atol=1e-5)


def test_hostile_floats_stay_inside_the_table():
    hostile = np.array([[np.nan, np.inf, -np.inf], [1e38, -1e38, 0.5]], np.float32)
    np.testing.assert_allclose(
        apply_lut(hostile, identity_lut(17)), [[0, 1, 0], [1, 0, 0.5]], atol=1e-6
    )


def test_any_memory_layout(tmp_path):
    lut = random_lut(5)
    base = random_pixels(np.uint8, (40, 60, 3))
    expected = apply_lut(base, lut)
    np.testing.assert_array_equal(apply_lut(base[::-2, 5::3], lut), expected[::-2, 5::3])
    np.testing.assert_array_equal(apply_lut(base.reshape(-1, 3), lut), expected.reshape(-1, 3))
    base.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=base.shape)
    np.testing.assert_array_equal(apply_lut(mapped, lut), expected)
    with pytest.raises(ValueError, match="three channels"):
        apply_lut(np.zeros((3, 4), np.uint8), lut)


def test_many_threads_at_once():
    lut, pixels = random_lut(9), random_pixels(np.uint8, (300, 400, 3))
    expected, results = apply_lut(pixels, lut), []
    threads = [
        threading.Thread(target=lambda: results.append(apply_lut(pixels, lut))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(np.array_equal(result, expected) for result in results)


# Files


@given(
    table=st.integers(2, 5).flatmap(
        lambda n: hnp.arrays(np.float32, (n, n, n, 3), elements=st.floats(-4, 4, width=32))
    ),
    title=st.text(max_size=40),
    low=st.tuples(*[st.floats(-2, 0.25)] * 3),
    high=st.tuples(*[st.floats(0.5, 3)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_write_read_round_trip(tmp_path_factory, table, title, low, high):
    path = tmp_path_factory.mktemp("cube") / "look.cube"
    write_cube(Lut(table, low, high, title), path)
    back = read_cube(path)
    np.testing.assert_allclose(back.table, table, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose([back.domain_min, back.domain_max], [low, high], rtol=1e-8)
    assert "\n" not in back.title
    assert list(path.parent.iterdir()) == [path]


def test_colour_science_reads_our_file(tmp_path):
    lut = random_lut(6, domain_min=(0.0, 0.1, 0.0), domain_max=(1.0, 0.9, 2.0), title="a title")
    write_cube(lut, tmp_path / "look.cube")
    peer = colour.read_LUT(str(tmp_path / "look.cube"))
    np.testing.assert_allclose(peer.table, lut.table, atol=1e-6)
    np.testing.assert_allclose(peer.domain, [lut.domain_min, lut.domain_max])
    assert peer.name == "a title"


def test_we_read_colour_sciences_file(tmp_path):
    table = random_lut(5).table.astype(np.float64)
    domain = np.array([[-0.5, 0, 0.25], [1, 2, 3]])
    peer = colour.LUT3D(table, "theirs", domain, comments=["one", "two"])
    colour.write_LUT(peer, str(tmp_path / "look.cube"))
    lut = read_cube(tmp_path / "look.cube")
    np.testing.assert_allclose(lut.table, table, atol=1e-6)
    np.testing.assert_allclose([lut.domain_min, lut.domain_max], domain)
    assert lut.title == "theirs"


def test_peers_apply_our_file_alike(tmp_path):
    lut = make_look("cool", 17)
    path = tmp_path / "look.cube"
    write_cube(lut, path)
    photo = data.astronaut()
    ours = apply_lut(photo, read_cube(path)).astype(int)
    pillow = Image.fromarray(photo).filter(pillow_lut.load_cube_file(str(path)))
    assert np.abs(ours - np.asarray(pillow)).max() <= 1
    science = colour.read_LUT(str(path)).apply(
        photo / 255, interpolator=colour.algebra.table_interpolation_trilinear
    )
    assert np.abs(ours - science * 255).max() <= 1


def test_dialects_of_the_format(tmp_path):
    path = tmp_path / "look.cube"
    path.write_bytes(
        b'\xef\xbb\xbf# made by "x"\r\n\r\nTITLE\t"Caf\xe9"\r\nLUT_3D_SIZE\t2\r\n'
        b"LUT_3D_INPUT_RANGE 0.0 2.0\r\n# table\r\n"
        + SMALL_TABLE.replace("\n", " \r\n").replace(" ", "\t").encode()
        + b"# end\r\n"
    )
    lut = read_cube(path)
    np.testing.assert_array_equal(lut.table, identity_lut(2).table)
    assert lut.domain_max == (2.0, 2.0, 2.0)
    assert lut.title.startswith("Caf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 0: ends without LUT_3D_SIZE"),
        ("# only a comment\n", "line 1: ends without LUT_3D_SIZE"),
        (SMALL_TABLE, "line 1: has a colour before LUT_3D_SIZE"),
        ("LUT_1D_SIZE 4\n0 0 0\n", "line 1: announces a 1D table"),
        ("LUT_3D_SIZE 1\n0 0 0\n", 'line 1: has the table size "1"'),
        ("LUT_3D_SIZE 130\n", 'line 1: has the table size "130"'),
        ("LUT_3D_SIZE -3\n", "table size"),
        ("LUT_3D_SIZE 2.5\n", "table size"),
        ("LUT_3D_SIZE\n", "table size"),
        ("LUT_3D_SIZE 99999999999999999999\n", "table size"),
        ("LUT_3D_SIZE ²\n", "table size"),
        ("LUT_3D_SIZE 2\n" + SMALL_TABLE[:-6], "line 8: ends after 7 of 8 colours"),
        ("LUT_3D_SIZE 2\n" + SMALL_TABLE + "0 0 0\n", "line 10: follows a full table"),
        ("LUT_3D_SIZE 2\n0 0\n", "line 2: holds 2 numbers"),
        ("LUT_3D_SIZE 2\n0 0 0 0\n", "line 2: holds 4 numbers"),
        ("LUT_3D_SIZE 2\n0 nan 0\n", "line 2: holds a value that is not finite"),
        ("LUT_3D_SIZE 2\n0 -inf 0\n", "line 2: holds a value that is not finite"),
        ("LUT_3D_SIZE 2\n0 1e39 0\n", "line 2: holds a value that is not finite"),
        ("LUT_3D_SIZE 2\n0 0 0\n0 x 0\n", "line 3: interrupts the table"),
        ("LUT_3D_SIZE 2\n0 0 0\nLUT_3D_SIZE 3\n", "line 3: interrupts the table"),
        ("LUT_IN_VIDEO_RANGE\n", 'starts with "LUT_IN_VIDEO_RANGE"'),
        ("DOMAIN_MIN 0 0\n", "line 1: needs 3 numbers after DOMAIN_MIN"),
        ("DOMAIN_MAX 1 1 nan\n", "line 1: needs 3 numbers after DOMAIN_MAX"),
        ("LUT_3D_INPUT_RANGE x y\n", "needs 2 numbers"),
        ("DOMAIN_MIN 0 1 0\nLUT_3D_SIZE 2\n" + SMALL_TABLE, "empty domain"),
        ("PK\x03\x04\0\0\0\n", "line 1: is not text"),
        ("LUT_3D_SIZE 2\n" + "0 " * 5000, "line 2: is not text"),
    ],
)
def test_damaged_files_are_named_with_their_line(tmp_path, text, message):
    path = tmp_path / "bad.cube"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_cube(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
@settings(max_examples=150, deadline=None)
def test_no_bytes_break_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("cube") / "noise.cube"
    path.write_bytes(b"LUT_3D_SIZE 2\n" + content)
    with pytest.raises(DataError):
        read_cube(path)


def test_missing_file_folder_and_huge_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.cube"):
        read_cube(tmp_path / "none.cube")
    with pytest.raises(DataError, match="cannot be read"):
        read_cube(tmp_path)
    huge = tmp_path / "huge.cube"
    with huge.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DataError, match="larger than 256 MiB"):
        read_cube(huge)


def test_writing_where_one_cannot_leaves_nothing(tmp_path):
    (tmp_path / "look.cube").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        write_cube(identity_lut(2), tmp_path / "look.cube")
    assert [path.name for path in tmp_path.iterdir()] == ["look.cube"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": np.zeros((2, 2, 3, 3))}, "shape"),
        ({"table": np.zeros((1, 1, 1, 3))}, "from 2 to 129"),
        ({"table": np.zeros(())}, "shape"),
        ({"table": np.full((2, 2, 2, 3), np.nan)}, "not finite"),
        ({"table": np.zeros((2, 2, 2, 3)), "domain_min": (0, 1, 0)}, "empty"),
        ({"table": np.zeros((2, 2, 2, 3)), "domain_max": (1, np.inf, 1)}, "domain"),
    ],
)
def test_impossible_tables_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Lut(**arguments)


@pytest.mark.parametrize("size", [-1, 1, 130])
def test_identity_refuses_impossible_sizes(size):
    with pytest.raises(DataError, match="grid points"):
        identity_lut(size)


# Fitting


def test_fit_recovers_a_table_seen_everywhere():
    wanted = Lut(np.clip(identity_lut(9).table ** 1.3 @ (0.8 * np.eye(3) + 0.06), 0, 1))
    colours = random_pixels(np.float32, (60_000, 3))
    fitted = fit_lut(colours, apply_lut(colours, wanted), size=9, smoothness=0.01)
    np.testing.assert_allclose(fitted.table, wanted.table, atol=2e-3)


def test_fit_solves_its_least_squares_problem():
    rng = np.random.default_rng(3)
    colours, targets = rng.random((2, 200, 3)).astype(np.float32)
    size, smoothness = 3, 2.0
    weights = np.zeros((200, size**3))
    for corner in range(size**3):
        hat = np.eye(size**3)[corner].reshape(size, size, size)
        weights[:, corner] = RegularGridInterpolator((np.linspace(0, 1, size),) * 3, hat)(colours)
    steps = []
    for axis in range(3):
        cells = np.arange(size**3).reshape((size,) * 3)
        low, high = (
            np.take(cells, ends, axis).ravel() for ends in (range(size - 1), range(1, size))
        )
        rows = np.zeros((len(low), size**3))
        rows[np.arange(len(low)), low], rows[np.arange(len(low)), high] = -1, 1
        steps.append(rows * np.sqrt(smoothness))
    expected = np.linalg.lstsq(
        np.concatenate([weights, *steps]),
        np.concatenate([targets - colours, np.zeros((sum(map(len, steps)), 3))]),
        rcond=None,
    )[0]
    fitted = fit_lut(colours, targets, size, smoothness).table - identity_lut(size).table
    np.testing.assert_allclose(fitted.reshape(-1, 3), expected, atol=1e-4)


def test_unseen_colours_follow_their_neighbours():
    colours = random_pixels(np.float32, (20_000, 3)) * np.float32(0.4)
    fitted = fit_lut(colours, colours + np.float32(0.1), size=9)
    np.testing.assert_allclose(fitted.table, identity_lut(9).table + 0.1, atol=1e-3)


def test_fit_to_one_sample_moves_everything_alike():
    fitted = fit_lut(np.array([[0.2, 0.4, 0.6]]), np.array([[0.3, 0.3, 0.6]]), size=5)
    deviation = fitted.table - identity_lut(5).table
    np.testing.assert_allclose(
        deviation, np.broadcast_to([0.1, -0.1, 0], deviation.shape), atol=1e-3
    )


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), {}, "no samples"),
        (np.zeros((4, 3)), np.zeros((5, 3)), {}, "same shape"),
        (np.zeros((4, 4)), np.zeros((4, 4)), {}, "same shape"),
        (np.zeros((4, 3)), np.full((4, 3), np.nan), {}, "not finite"),
        (np.zeros((4, 3)), np.zeros((4, 3)), {"smoothness": 0}, "above 0"),
        (np.zeros((4, 3)), np.zeros((4, 3)), {"smoothness": np.nan}, "above 0"),
        (np.zeros((4, 3)), np.zeros((4, 3)), {"size": 1}, "grid points"),
    ],
)
def test_impossible_fits_are_refused(before, after, options, message):
    with pytest.raises(DataError, match=message):
        fit_lut(before, after, **options)


@needs_data
def test_ten_photo_pairs_recover_lut01():
    look = read_cube(Path(DATA) / "enhance" / "lut" / "LUT01.cube")
    assert look.size == 33
    folder = Path(DATA) / "photos" / "bsds500" / "train"
    photos = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob("*.jpg"))[::6]]
    learn, other = photos[:10], photos[10:30]
    rng = np.random.default_rng(0)
    before = np.concatenate([photo.reshape(-1, 3) for photo in learn])
    before = before[rng.choice(len(before), 500_000, replace=False)]
    after = apply_lut(before, look)
    white = np.float32(255)
    fitted = fit_lut(before / white, after / white)
    scores = [psnr(apply_lut(photo, fitted), apply_lut(photo, look)) for photo in other]
    assert np.mean([psnr(photo, apply_lut(photo, look)) for photo in other]) < 30
    assert np.mean(scores) >= 45


@needs_data
def test_lut01_equals_what_colour_science_reads():
    path = Path(DATA) / "enhance" / "lut" / "LUT01.cube"
    np.testing.assert_allclose(read_cube(path).table, colour.read_LUT(str(path)).table, atol=1e-6)


# Looks


@pytest.mark.parametrize("name", LOOKS)
def test_looks_are_smooth_monotone_and_in_range(name):
    table = make_look(name).table
    assert table.min() >= 0
    assert table.max() <= 1
    greys = table[np.arange(33), np.arange(33), np.arange(33)]
    assert (np.diff(greys, axis=0) >= 0).all()
    assert max(np.abs(np.diff(table, axis=axis)).max() for axis in range(3)) < 0.1
    assert np.abs(table - identity_lut(33).table).mean() > 0.02


def test_looks_do_what_their_names_say():
    photo = data.astronaut()
    before = photo.mean(axis=(0, 1))

    def balance(name):
        red, _, blue = apply_lut(photo, make_look(name)).mean(axis=(0, 1)) - before
        return red - blue

    assert balance("warm") > 10
    assert balance("cool") < -10
    noir = apply_lut(photo, make_look("noir")).astype(int)
    assert np.ptp(noir, axis=2).max() <= 1
    assert make_look("fade").table[0, 0, 0].min() > 0.05


def test_unknown_look_lists_the_known_ones():
    with pytest.raises(DataError, match="warm, cool, fade, noir"):
        make_look("sepia")
