"""Texts on disk: the same as in memory, but for the memory."""

import csv
import dataclasses
import gzip
import json

import numpy as np
import pytest

from apps.textcnn import corpus, data, train
from apps.textcnn.text import Vocabulary, tokenise
from shared.errors import DataError


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(rows.texts, rows.labels, strict=True))
    return path


def test_words_and_classes_are_those_of_the_file(tmp_path, made):
    rows = made(50, 3)
    found = corpus.write(write_csv(tmp_path / "a.csv", rows), tmp_path, dev_share=0, min_count=2)
    tokens = [tokenise(one, "unicode") for one in rows.texts]
    expected = Vocabulary.of(tokens, min_count=2)
    assert found.vocabulary == expected
    np.testing.assert_array_equal(found.vocabulary.counts, expected.counts)
    assert len(found.ids) == 50
    for row, words in zip(found.ids, tokens, strict=True):
        np.testing.assert_array_equal(row, expected.ids(words))
    assert [found.names[label] for label in found.labels] == list(rows.labels)
    assert found.held is None


def test_every_text_is_learned_or_held_out(tmp_path, made, monkeypatch):
    rows = made(400)
    path = write_csv(tmp_path / "a.csv", rows)
    found = corpus.write(path, tmp_path, dev_share=0.2, seed=3)
    assert len(found.ids) + len(found.held) == 400
    assert 40 < len(found.held) < 120
    words = sorted(len(tokenise(one, "unicode")) for one in rows.texts)
    rest = [len(tokenise(one, "unicode")) for one in found.held.texts]
    assert sorted([*found.ids.lengths, *rest]) == words
    monkeypatch.setattr(corpus, "MOST_HELD", 10)
    assert len(corpus.write(path, tmp_path, dev_share=0.2).held) < 25


def test_trains_as_in_memory(tmp_path, made, small):
    rows, dev = made(120), made(40, seed=1)
    recipe = dataclasses.replace(small, epochs=2)
    found = corpus.write(write_csv(tmp_path / "a.csv", rows), tmp_path, dev_share=0)
    on_disk = train.train(found, None, recipe, dev=dev, quiet=True)
    in_memory = train.train(rows, None, recipe, dev=dev, quiet=True)
    assert on_disk.facts == in_memory.facts
    np.testing.assert_array_equal(
        on_disk.classifier.logits(dev.texts), in_memory.classifier.logits(dev.texts)
    )


def test_jsonl_and_fasttext_lines_packed_or_not(tmp_path):
    pairs = [("a b", "x"), ("c", "y"), ("a", "x")]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"review": t, "y": c}) + "\n" for t, c in pairs)
    (tmp_path / "a.txt").write_text("".join(f"__label__{c} {t}\n" for t, c in pairs))
    for name in ("a.jsonl.gz", "a.txt"):
        assert list(data.stream_labelled(tmp_path / name)) == pairs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", "no texts"),
        ("text,label\na,1\nb\n", "line 3"),
        ("text,kind\na,1\n", "label"),
    ],
)
def test_faults_are_named(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        corpus.write(tmp_path / "a.csv", tmp_path)


def test_what_needs_memory_is_refused(tmp_path, made, small):
    found = corpus.write(write_csv(tmp_path / "a.csv", made(20)), tmp_path, dev_share=0)
    with pytest.raises(DataError, match="NB-SVM"):
        train.train(found, None, dataclasses.replace(small, hybrid=True), quiet=True)
    with pytest.raises(DataError, match="held out"):
        train.train(found, None, small, quiet=True)
