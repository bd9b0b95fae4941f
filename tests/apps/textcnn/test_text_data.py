"""Readers of labelled texts and of streams: every format alike, faults in one line each."""

import gzip
import io
import json
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.textcnn import data as texts
from apps.textcnn.data import Rows
from shared.errors import DataError

# No format that has one line a text can hold a line end.
TEXTS = ("a fine film", "dull\x85and long", "=1+1, a <b>cell</b>", "很好 😀", "", 'so "good"')
LABELS = ("pos", "neg", "neg", "pos", "neg", "pos")


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


MADE = {
    "csv": "id,Review,label\n"
    + "".join(f"7,{quoted(t)},{c}\n" for t, c in zip(TEXTS, LABELS, strict=True)),
    "tsv": "sentence\ty\n" + "".join(f"{t}\t{c}\n" for t, c in zip(TEXTS, LABELS, strict=True)),
    "jsonl": "".join(
        json.dumps({"class": c, "text": t}) + "\n" for t, c in zip(TEXTS, LABELS, strict=True)
    ),
    "txt": "".join(f"__label__{c} {t}\n" for t, c in zip(TEXTS, LABELS, strict=True)),
}


@pytest.mark.parametrize("form", ["plain", "gz", "bom", "crlf"])
@pytest.mark.parametrize("suffix", MADE)
def test_every_format_holds_the_same(tmp_path, suffix, form):
    content = MADE[suffix].encode()
    path = tmp_path / f"data.{suffix}"
    if form == "gz":
        path, content = tmp_path / f"data.{suffix}.gz", gzip.compress(content)
    elif form == "bom":
        content = b"\xef\xbb\xbf" + content
    elif form == "crlf":
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    rows = texts.read(path)
    assert rows.texts == TEXTS
    assert rows.labels == LABELS
    assert len(rows) == 6
    assert "read as" in rows.notes[0]
    unlabelled = texts.read(path, labelled=False)
    assert unlabelled.texts == TEXTS
    assert unlabelled.labels == ()


def test_columns_are_named_or_guessed_and_the_guess_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("title,body,kind,label\nx,one,A,1\ny,two,B,2\n")
    rows = texts.read(path, text="body", label="kind")
    assert (rows.texts, rows.labels) == (("one", "two"), ("A", "B"))
    with pytest.raises(DataError, match="no column text or review or sentence"):
        texts.read(path)
    with pytest.raises(DataError, match="no column 'genre'; its columns are 'title'"):
        texts.read(path, text="body", label="genre")
    assert texts.read(path, text="title").labels == ("1", "2")
    assert texts.read(path, text="title").notes[-1] == (
        "a.csv: texts from column 'title', labels from column 'label'."
    )
    path.write_text("text;label\na,b;1\nc;2\n")
    assert texts.read(path).texts == ("a,b", "c")
    path.write_text("anything\none\ntwo\n")
    assert texts.read(path, labelled=False).texts == ("one", "two")


def test_lines_inside_quotes(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\r\n"two\r\nlines",a\r\n"x",b\r\n')
    assert texts.read(path).texts == ("two\r\nlines", "x")


def test_json_labels(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b\ud800", "label": 3}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = texts.read(path)
    assert found.labels == ("x;y", "3")
    assert found.texts == ("a", "b?")


def test_folders_and_files_of_classes(tmp_path):
    for name, content in (("pos/1.txt", "good\n"), ("neg/1.txt", "bad"), ("neg/2.txt", "so bad")):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(content)
    rows = texts.read(tmp_path / "tree")
    assert (rows.texts, rows.labels) == (("bad", "so bad", "good"), ("neg", "neg", "pos"))
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "mr.pos").write_text("good\x85film\n\nfine\n", encoding="utf-8")
    (flat / "mr.neg.gz").write_bytes(gzip.compress(b"bad\n", mtime=0))
    for source in (flat, flat / "mr"):
        rows = texts.read(source)
        assert (rows.texts, rows.labels) == (("bad", "good\x85film", "fine"), ("neg", "pos", "pos"))
    (flat / "mr.pos").rename(flat / "mr.train")
    (flat / "mr.neg.gz").rename(flat / "mr.test")
    with pytest.raises(DataError, match="name the file"):
        texts.read(flat)


def test_research_formats(tmp_path):
    path = tmp_path / "a"
    path.write_text("DESC:manner How ?\nNUM:date When ?\n")
    assert texts.read(path).labels == ("DESC", "NUM")
    assert texts.read(path, format="trec-fine").labels == ("DESC:manner", "NUM:date")
    path.write_text("(3 (2 It) (4 works))\n(1 (2 It) (0 fails))\n")
    assert texts.read(path).texts == ("It works", "It fails")
    assert texts.read(path, format="sst2").labels == ("1", "0")
    assert len(texts.read(path, format="sst-phrases")) == 5
    assert len(texts.read(path, format="sst2-phrases")) == 4
    path.with_suffix(".tsv").write_text("一\t0\n二\t1\n", encoding="utf-8")
    assert texts.read(path.with_suffix(".tsv")).labels == ("0", "1")
    path.write_text("plain\nlines\n")
    assert texts.read(path, labelled=False).texts == ("plain", "lines")
    with pytest.raises(DataError, match="its first line is neither"):
        texts.read(path)


def test_real_files(data):
    folder = data / "text"
    with pytest.raises(DataError, match=r"rt-polarity\.\w+, line \d+: is not utf-8 .*latin-1"):
        texts.read(folder / "mr")
    assert len(texts.read(folder / "mr", encoding="latin-1")) == 10_662
    hotel = texts.read(folder / "zh_hotel" / "ChnSentiCorp_htl_all.csv")
    assert Counter(hotel.labels) == {"1": 5322, "0": 2444}
    train, test = (texts.read(folder / "zh_news" / f"{side}.tsv") for side in ("train", "test"))
    assert len(set(train.labels)) == 10
    assert "game" in train.labels
    assert texts.duplicates(train, test) == 8
    assert len(texts.read(folder / "sst" / "test.trees.txt")) == 2210


BAD = [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"text,label\n", "holds no texts"),
    ("a.csv", b"text,label\nx,1\ny,1\n", "one class only, '1'"),
    ("a.csv", b"text,label\nx,1\ny\n", "line 3: has 1 fields, the header has 2"),
    ("a.csv", b"text,label\nx,\ny,1\n", "line 2: has no label"),
    ("a.csv", b"text,text\nx,1\n", "line 1: has the column 'text' twice"),
    ("a.csv", b'text,label\nx,1\n"a\nb",2\n"open,1\ny,2\n', "line 5: a quote opens there"),
    ("a.csv", b'text,note,label\n"a\nb",c,1\n"d\ne","open,1\ny,2\n', "line 5: a quote opens"),
    ("a.csv", b"text,label\nx,1\ny,1.0\n", "labels '1' and '1.0'"),
    ("a.csv", b"text,label\nx,1\ny\0,2\n", "line 3: holds a NUL byte"),
    ("a.csv", "text,label\nx,1\n".encode("utf-16"), "is UTF-16; give the encoding utf-16"),
    ("a.csv", "text,label\nx,1\n".encode("utf-16-le"), "line 1: holds a NUL byte.*utf-16"),
    ("a.csv", b"text,label\nx,1\ncaf\xe9,2\n", r"line 3: is not utf-8 \(byte 0xe9\).*latin-1"),
    (
        "a.csv",
        "text,label\nx,1\n很好的酒店,2\n".encode("gb18030"),
        "line 3: is not utf-8.*gb18030",
    ),
    (
        "a.csv",
        "text,label\nçéäö,1\n".encode() + b"caf\xe9,2\n",
        "line 3: is not utf-8.*mostly UTF-8, so mend this line",
    ),
    (
        "a.jsonl",
        b'{"text": "x", "label": "a"}\n' * 16 + b'{"text": "x", "lab\n',
        "line 17: is no JSON",
    ),
    ("a.jsonl", b"[1]\n", "line 1: is JSON, but no object"),
    ("a.jsonl", b"[" * 100_000, "line 1: is no JSON"),
    ("a.jsonl", b'{"text": "x", "label": "a"}\n{"text": "x"}\n', "line 2: has no column label"),
    ("a.jsonl", b'{"text": 7, "label": "a"}\n', "line 1: the text in 'text' is no text"),
    ("a.jsonl", b'{"text": "x", "label": null}\n', "line 1: the label in 'label' is no text"),
    ("a.txt", b"__label__a x\nno label\n", "line 2: has no label such as"),
    ("a.csv.gz", gzip.compress(b"text,label\nx,1\n", mtime=0)[:-6], "cannot be read"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_faults_are_named_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        texts.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_faults(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        texts.read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="neither a folder for each class"):
        texts.read(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\nx,1\n")
    with pytest.raises(DataError, match="no encoding 'klingon'"):
        texts.read(tmp_path / "a.csv", encoding="klingon")
    with pytest.raises(DataError, match="no encoding 'hex'"):
        texts.read(tmp_path / "a.csv", encoding="hex")
    with pytest.raises(DataError, match="no format 'xml'"):
        texts.read(tmp_path / "a.csv", format="xml")
    with pytest.raises(DataError, match="cannot be read as folder"):
        texts.read(tmp_path / "a.csv", format="folder")
    with pytest.raises(DataError, match="hold no labels"):
        texts.read(tmp_path / "a.csv", format="lines")


def test_other_encodings(tmp_path):
    for encoding in ("utf-16", "gb18030", "utf-8-sig"):
        (tmp_path / "a.csv").write_bytes("text,label\n很好,1\n不,0\n".encode(encoding))
        assert texts.read(tmp_path / "a.csv", encoding=encoding).texts == ("很好", "不")


def some_rows(counts):
    labels = [name for name, count in counts.items() for _ in range(count)]
    return Rows(tuple(f"text {number}" for number in range(len(labels))), tuple(labels), "made")


def test_folds_and_splits_keep_the_classes():
    rows = some_rows({"a": 40, "b": 20})
    found = texts.folds(rows, 4, seed=0)
    assert sorted(np.concatenate([test for _, test in found])) == list(range(60))
    for train, test in found:
        assert not set(train) & set(test)
        assert Counter(np.array(rows.labels)[test]) == {"a": 10, "b": 5}
    first, second = texts.split(rows, 0.1, seed=0)
    assert sorted([*first, *second]) == list(range(60))
    assert Counter(np.array(rows.labels)[second]) == {"a": 4, "b": 2}
    again = texts.split(rows, 0.1, seed=0)
    assert np.array_equal(second, again[1])
    assert not np.array_equal(second, texts.split(rows, 0.1, seed=1)[1])


def test_several_labels_are_divided_without_classes():
    rows = some_rows({"a;b": 1, "a": 5, "c": 1})
    assert sum(len(test) for _, test in texts.folds(rows, 3, seed=0)) == 7


def test_small_classes_cannot_be_divided():
    rows = some_rows({"a": 30, "rare": 1})
    with pytest.raises(DataError, match="class 'rare' has 1 row; it needs 10 for 10 folds"):
        texts.folds(rows, 10, seed=0)
    with pytest.raises(DataError, match="class 'rare' has 1 row; it needs 2"):
        texts.split(rows, 0.5, seed=0)
    with pytest.raises(DataError, match="at least 2 folds"):
        texts.folds(rows, 1, seed=0)
    with pytest.raises(DataError, match="cannot be divided"):
        texts.split(some_rows({"a": 3, "b": 3}), 0.1, seed=0)


def test_duplicates_are_counted():
    train = Rows(("a", " b ", "c"), (), "train")
    assert texts.duplicates(train, Rows(("b", "b\n", "x", "A"), (), "test")) == 2


def flat(chunks):
    return [record for chunk in chunks for record in chunk]


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))),
    st.integers(1, 5),
    st.sampled_from(["utf-8", "utf-16"]),
)
def test_stream_keeps_every_line_in_order(lines, chunk, encoding):
    lines = [line.removesuffix("\r").removeprefix("\ufeff") for line in lines]
    lines = [line.rstrip("\r") for line in lines]
    source = io.BytesIO("".join(f"{line}\n" for line in lines).encode(encoding))
    chunks = list(texts.stream(source, chunk=chunk, encoding=encoding))
    assert [record.text for record in flat(chunks)] == lines
    assert all(len(part) == chunk for part in chunks[:-1])
    assert not any(record.cut or record.row for record in flat(chunks))
    assert not source.closed


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_stream_of_a_table_keeps_the_columns(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}.gz"
    path.write_bytes(gzip.compress(MADE[suffix].encode()))
    records = flat(texts.stream(path, chunk=4))
    assert tuple(record.text for record in records) == TEXTS
    column = {"csv": "label", "tsv": "y", "jsonl": "class"}[suffix]
    assert tuple(record.row[column] for record in records) == LABELS
    with io.BytesIO(MADE[suffix].encode()) as source:
        assert flat(texts.stream(source, format=suffix)) == records


def test_stream_survives_a_line_without_end():
    class Endless(io.RawIOBase):
        """Three lines, the second of 60 MB, made as they are read."""

        left = 60_000_000

        def __init__(self):
            self.start, self.end = b"first\n", b"\nlast\n"

        def readable(self):
            return True

        def readinto(self, buffer):
            if self.start:
                part, self.start = self.start, b""
            elif self.left:
                part = b"x" * min(len(buffer), self.left)
                self.left -= len(part)
            else:
                part, self.end = self.end, b""
            buffer[: len(part)] = part
            return len(part)

    tracemalloc.start()
    records = flat(texts.stream(io.BufferedReader(Endless()), most_bytes=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(len(record.text), record.cut) for record in records] == [
        (5, False),
        (1000, True),
        (4, False),
    ]
    assert peak < 2e6


def test_a_stream_may_be_left(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a line\n" * 1000)
    with path.open("rb") as file:
        for source in (file, path):
            chunks = texts.stream(source, chunk=3)
            assert len(next(chunks)) == 3
            chunks.close()
        assert not file.closed


def test_stream_cuts_at_the_limit_only():
    source = io.BytesIO(b"12345\r\n123456\n12345")
    records = flat(texts.stream(source, most_bytes=5))
    assert [(record.text, record.cut) for record in records] == [
        ("12345", False),
        ("12345", True),
        ("12345", False),
    ]


def test_stream_does_not_wait_for_the_end():
    class Slow(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(64)

    source = Slow(b"a line\n" * 100_000)
    first = next(texts.stream(source, chunk=10))
    assert len(first) == 10
    assert source.tell() < 1000


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (b"a\nb\0\n", "lines", "standard input, line 2: holds a NUL byte"),
        (b"a\n\xe9\n", "lines", r"line 2: is not utf-8 \(byte 0xe9\)"),
        (b'{"text": "a"}\n{"te', "jsonl", "line 2: is no JSON"),
        (b'text\na\n"open\n', "csv", "line 3: a quote opens"),
        (b"text\na\nb,c\n", "csv", "line 3: has 2 fields"),
        (b"a,b\nc,d\n", "csv", "has no column text"),
        (b"a\n", "xml", "streamed as 'xml'"),
    ],
)
def test_faults_in_a_stream(content, format, message):
    with pytest.raises(DataError, match=message):
        flat(texts.stream(io.BytesIO(content), format=format))


def test_a_stream_of_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        flat(texts.stream(tmp_path / "none.txt"))
