"""Vector files of every format, read alike; hostile ones, refused in one line each."""

import gzip
import importlib.metadata
import pickle
import struct
import sys
import tracemalloc
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.textcnn import vectors
from apps.textcnn.text import UNKNOWN, Vocabulary
from apps.textcnn.vectors import Vectors
from shared.errors import DataError, DependencyError

WIDTH = 7


def made(count=1000, seed=0):
    """Return words of many kinds, and vectors."""
    rng = np.random.default_rng(seed)
    odd = [". . .", "at name@domain.com", "a\x85b", "字", "😀", "x\u00a0y", "3.5", "-1"]
    words = odd + [f"word{number}" for number in range(count - len(odd))]
    return words, rng.normal(0, 0.7, (count, WIDTH)).astype(np.float32)


def text_lines(words, array):
    return [
        f"{word} {' '.join(f'{value:.9g}' for value in row)}\n"
        for word, row in zip(words, array, strict=True)
    ]


def glove(words, array):
    return "".join(text_lines(words, array)).encode()


def word2vec(words, array, end=""):
    lines = "".join(line.replace("\n", end + "\n") for line in text_lines(words, array))
    return f"{len(words)} {WIDTH}\n{lines}".encode()


def binary(words, array, end=b"\n"):
    # Words with spaces have no place in this format.
    rows = [
        word.replace(" ", "_").encode() + b" " + struct.pack(f"<{WIDTH}f", *row) + end
        for word, row in zip(words, array, strict=True)
    ]
    return f"{len(words)} {WIDTH}\n".encode() + b"".join(rows)


def npz(path, words, array, **more):
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez(path, words=text, vectors=array, **more)


def zipped(path, data, names=("vectors.txt",)):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same thousand words in every format."""
    folder, (words, array) = tmp_path_factory.mktemp("vectors"), made()
    plain = {
        "glove.txt": glove(words, array),
        "word2vec.txt": word2vec(words, array),
        "trailing.vec": word2vec(words, array, end=" "),
        "ends.bin": binary(words, array),
        "runs.bin": binary(words, array, end=b""),
    }
    for name, data in plain.items():
        (folder / name).write_bytes(data)
    (folder / "packed.vec.gz").write_bytes(gzip.compress(plain["trailing.vec"]))
    (folder / "packed.bin.gz").write_bytes(gzip.compress(plain["runs.bin"]))
    zipped(folder / "packed.zip", plain["glove.txt"])
    npz(folder / "bytes.npz", words, array)
    np.savez(folder / "unicode.npz", words=np.array(words), vectors=array)
    return folder


FILES = [
    "glove.txt",
    "word2vec.txt",
    "trailing.vec",
    "ends.bin",
    "runs.bin",
    "packed.vec.gz",
    "packed.bin.gz",
    "packed.zip",
    "bytes.npz",
    "unicode.npz",
]


@pytest.mark.parametrize("name", FILES)
def test_every_format_holds_the_same(folder, name):
    words, array = made()
    if ".bin" in name:
        words = [word.replace(" ", "_") for word in words]
    found = vectors.read(folder / name)
    assert found.words == tuple(words)
    np.testing.assert_array_equal(found.array, array)
    assert found.array.dtype == np.float32
    some = vectors.read(folder / name, {"word7", "😀", "a\x85b", "absent"}, most_frequent=2)
    places = [words.index(word) for word in some.words]
    assert places == [0, 1, 2, 4, words.index("word7")]
    np.testing.assert_array_equal(some.array, array[places])


@pytest.mark.parametrize("name", FILES)
def test_summary(folder, name):
    words, array = made()
    found = vectors.summary(folder / name)
    assert (found["rows"], found["dim"], found["duplicates"]) == (1000, WIDTH, 0)
    assert found["std"] == pytest.approx(array.std(), rel=1e-5)
    assert found["first"][3] == words[3]
    kinds = {"ends": "word2vec binary", "glove": "GloVe text", "trailing": "word2vec text"}
    assert found["format"] == kinds.get(name.split(".")[0], found["format"])


@pytest.mark.parametrize("name", ["w.txt", "runs.bin", "ends.bin"])
def test_agrees_with_gensim(folder, name):
    models = pytest.importorskip("gensim.models", reason="gensim is not installed")
    words, array = made()
    # gensim cannot read words with spaces.
    (folder / "w.txt").write_bytes(word2vec(words[2:], array[2:]))
    theirs = models.KeyedVectors.load_word2vec_format(folder / name, binary=name.endswith("bin"))
    found = vectors.read(folder / name, {"word7", "字", "a\x85b"})
    assert len(found.words) == 3
    for word, row in zip(found.words, found.array, strict=True):
        np.testing.assert_array_equal(theirs[word], row)


def test_the_first_of_equal_words_counts(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2\nb 3 4\na 5 6\n")
    assert vectors.read(path).array.tolist() == [[1, 2], [3, 4]]
    assert vectors.summary(path)["duplicates"] == 1


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6))
def test_names_in_binary_files_may_hold_any_bytes(tmp_path_factory, names):
    names = [b"w" + name.replace(b" ", b"") for name in names]
    path = tmp_path_factory.mktemp("any") / "v.bin"
    rows = [name + b" " + struct.pack("<2f", place, 32) for place, name in enumerate(names)]
    path.write_bytes(f"{len(names)} 2\n".encode() + b"\n".join(rows))
    expected = {}
    for place, name in enumerate(names):
        word = name.decode("utf-8", "replace")
        if "\n" not in word:
            expected.setdefault(word, [place, 32])
    if not expected:
        with pytest.raises(DataError):
            vectors.read(path)
        return
    found = vectors.read(path)
    assert dict(zip(found.words, found.array.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("v.txt", b"", "is empty"),
        ("v.txt", b"hello\nworld\n", "line 1 is no word followed by numbers"),
        ("v.txt", b"a 1 2\nb 3 x\n", "line 2 holds something that is no number"),
        ("v.txt", b"1000 2\na 1 2\nb 3 4\n", "promises 1000 rows; it holds 2"),
        ("v.txt", b"1 2\na 1 2\nb 3 4\n", "promises 1 rows; it holds 2"),
        ("v.txt", b"3 2\na 1 2\nb 3\nc 1 2\n", "line 3 holds 1 numbers, the lines before 2"),
        ("v.txt", b"a 1 nan\nb 3 4\n", "row 1, 'a', holds numbers that are not finite"),
        ("v.txt", b"a 1 1e99\nb 3 4\n", "not finite"),
        ("v.txt", b"2 99999999\na 1\n", "promises vectors of 99999999 numbers"),
        ("v.txt", b"a 1 2\n" + b"x" * (1 << 20), "line 2 is longer than"),
        ("v.txt", pickle.dumps({"a": [1.0]}), "is a pickle, which could run code; refused"),
        ("v.npz", pickle.dumps({"a": [1.0]}), "no NumPy archive, whatever its name says"),
        ("v.bin", binary(["a", "b"], np.ones((2, WIDTH)))[:-9], "cut off in row 2; .* promises 2"),
        ("v.bin", b"1000000000000 2\na \0\0\0\0\0\0\0\0", "cut off in row 2; .*1000000000000"),
        ("v.bin", b"1 2\na \0\0\x80\x3f\0\0\xc0\x7f", "row 1, 'a', holds numbers that are not"),
        ("v.bin", b"1 2\na " + bytes(8) + b"rest", "goes on behind the 1 rows"),
        ("v.bin", b"2 2\n" + bytes(1 << 17), "row 1 has no space behind its word"),
        (
            "v.gz",
            gzip.compress(b"a 1 2\n" * 9, mtime=0)[:-12],
            "not a readable file of word vectors",
        ),
        ("v.gz", b"\x1f\x8b\x08\x00garbage", "not a readable file of word vectors"),
        ("v.zip", b"PK\x03\x04garbage", "not a readable file of word vectors"),
        ("v.npy", b"\x93NUMPY\x01\x00garbage", "an array without its words"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        vectors.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError):
        vectors.summary(path)


def test_hostile_archives(tmp_path):
    words, array = ["a", "b"], np.ones((2, 3), np.float32)
    path = tmp_path / "v.npz"
    objects = np.array(["a", {"b": 1}], object)
    for arrays, message in (
        ({"words": objects, "vectors": array}, "`words` holds pickled objects"),
        ({"words": np.array(words), "vectors": np.array([[objects]])}, "pickled objects"),
        ({"words": np.array(words)}, "no arrays `words` and `vectors`"),
        ({"words": np.array(words), "vectors": array[0]}, "no table of numbers"),
        ({"words": np.array(["a"]), "vectors": array}, "1 words and 2 vectors"),
        ({"words": np.ones(2), "vectors": array}, "neither text nor UTF-8"),
        ({"words": np.array(words), "vectors": array * np.nan}, "not finite"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            vectors.read(path)
    np.savez_compressed(path, words=np.array(words), vectors=np.zeros((2, 3_000_000), np.float32))
    with pytest.raises(DataError, match="unpacks to an absurd size"):
        vectors.read(path)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000000000000), }\n"
    claim = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words.npy", claim)
        archive.writestr("vectors.npy", claim)
    with pytest.raises(DataError, match="more than it holds"):
        vectors.read(path)
    zipped(path, b"a 1 2\n", ("one.txt", "two.txt"))
    with pytest.raises(DataError, match="holds 2 files; unpack"):
        vectors.read(path)


def test_a_missing_file_and_a_file_of_another_language(tmp_path):
    with pytest.raises(DataError, match=r"No such file"):
        vectors.read(tmp_path / "none.txt")
    (tmp_path / "v.txt").write_text("a 1 2\n")
    with pytest.raises(DataError, match="none of the wanted words"):
        vectors.read(tmp_path / "v.txt", {"字"})


def test_memory_follows_the_wanted_words_and_not_the_file(tmp_path):
    path, width, count = tmp_path / "big.bin", 300, 20_000
    row = np.ones(width, "<f4").tobytes()
    with path.open("wb") as file:
        file.write(f"{count} {width}\n".encode())
        for number in range(count):
            file.write(b"w%d " % number + row)
    wanted = {f"w{number}" for number in range(0, count, 100)}
    tracemalloc.start()
    found = vectors.read(path, wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.words) == 200
    # 24 MB in the file, 0.2 MB kept.
    assert peak < 6e6


def test_embedding():
    vocabulary = Vocabulary(("a", "b", "c", "d"))
    rng = np.random.default_rng(0)
    array = rng.normal(2, 0.7, (3, 50)).astype(np.float32)
    given_vectors = Vectors(("d", "x", "a"), array, "made", "CC0")
    table = vectors.matrix(vocabulary, given_vectors, 50, np.random.default_rng(1))
    assert table.shape == (6, 50)
    assert table.dtype == np.float32
    assert not table[0].any()
    known = table[[5, 2]]
    # Only those of the vocabulary decide the scale.
    assert known.std() == pytest.approx(0.25, rel=1e-5)
    np.testing.assert_allclose(known / array[[0, 2]], 0.25 / array[[0, 2]].std(), rtol=1e-5)
    drawn = table[[UNKNOWN, 3, 4]]
    assert 0.2 < np.abs(drawn).max() <= 0.25
    plain = vectors.matrix(vocabulary, given_vectors, 50, rng, rescale=None)
    np.testing.assert_array_equal(plain[[5, 2]], array[[0, 2]])
    alone = vectors.matrix(vocabulary, None, 9, np.random.default_rng(1))
    assert alone.shape == (6, 9)
    assert not alone[0].any()
    assert np.abs(alone[1:]).max() <= 0.25
    with pytest.raises(DataError, match="have 50 numbers; 300 are needed"):
        vectors.matrix(vocabulary, given_vectors, 300, rng)


@pytest.mark.parametrize("name", ["v.npz", "v.txt", "v.vec"])
def test_writes_what_it_reads(tmp_path, name):
    words, array = made(20)
    vectors.write(tmp_path / name, Vectors(tuple(words), array, "made up", "CC0"))
    found = vectors.read(tmp_path / name)
    assert found.words == tuple(words)
    np.testing.assert_array_equal(found.array, array)
    if name == "v.npz":
        assert (found.source, found.licence) == ("made up", "CC0")


def test_refuses_to_write(tmp_path):
    one = Vectors(("a",), np.ones((1, 2), np.float32), "", "")
    with pytest.raises(DataError, match=r"as \.npz, \.txt or \.vec"):
        vectors.write(tmp_path / "v.pkl", one)
    with pytest.raises(DataError, match="cannot be written"):
        vectors.write(tmp_path / "none" / "v.npz", one)
    with pytest.raises(DataError, match="line end"):
        vectors.write(tmp_path / "v.txt", Vectors(("a\nb",), one.array, "", ""))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Files as those of the package, found as an installed one."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    words, array = made(30)
    path = tmp_path / "glove_6B_50d_emb.npy"
    np.save(path, array)
    parquet.write_table(pyarrow.table({"index": words}), tmp_path / "glove_6B_index.parquet")
    file = SimpleNamespace(as_posix=lambda: vectors._PACKAGE_VECTORS, locate=lambda: path)
    monkeypatch.setattr(importlib.metadata, "files", lambda name: [file])
    return path


def test_installed_package(package, monkeypatch):
    words, array = made(30)
    assert vectors.installed() == package
    found = vectors.find("auto", {"字"}, most_frequent=1)
    assert found.words == (words[0], "字")
    np.testing.assert_array_equal(found.array, array[[0, 3]])
    assert found.licence == "PDDL-1.0"
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match=r"convsuite\[vectors\]"):
        vectors.find("auto")


def test_package_that_is_missing(monkeypatch, folder):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    assert vectors.installed() is None
    with pytest.raises(DependencyError, match=r"pip install 'convsuite\[vectors\]'"):
        vectors.find("auto")
    assert len(vectors.find(str(folder / "glove.txt")).words) == 1000


def test_real_glove(data):
    path = data / "text" / "vectors" / "glove6B_50d_subset.npz"
    found = vectors.read(path, {"film", "movie", "theorem"})
    film, movie, theorem = (found.array[found.words.index(word)] for word in
                            ("film", "movie", "theorem"))  # fmt: skip

    def cosine(a, b):
        return a @ b / np.sqrt((a @ a) * (b @ b))

    assert cosine(film, movie) > 0.8 > 0.4 > cosine(film, theorem)
