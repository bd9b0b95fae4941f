"""Tokenisers, the vocabulary, padding, cutting and batches."""

import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.textcnn import text
from apps.textcnn.text import PAD, TOKENISERS, UNKNOWN, Vocabulary
from shared.errors import DataError, DependencyError


def clean_str(string):
    """Return what the author's `clean_str` does, without the backslashes it leaves by mistake."""
    string = re.sub(r"[^A-Za-z0-9(),!?\'\`]", " ", string)
    for ending in ("'s", "'ve", "n't", "'re", "'d", "'ll"):
        string = re.sub(ending, " " + ending, string)
    for sign in ",!()?":
        string = string.replace(sign, f" {sign} ")
    return re.sub(r"\s{2,}", " ", string).strip()


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("abnNtTsSvVedDlL'`,!?()  -\t\u00e9\x85字"), max_size=40))
def test_kim_is_the_cleaning_of_the_author(string):
    assert text.tokenise(string, "kim") == clean_str(string).lower().split()
    assert text.tokenise(string, "kim-cased") == clean_str(string).split()


@pytest.mark.parametrize(
    ("string", "tokens"),
    [
        ("It's (not) bad, is it?", "it 's ( not ) bad , is it ?"),
        ("they'll, we'd; haven't!", "they 'll , we 'd have n't !"),
    ],
)
def test_kim_leaves_no_backslash(string, tokens):
    assert text.tokenise(string, "kim") == tokens.split()


def test_sst_only_cleans():
    assert text.tokenise("It's (Not) bad-ish,", "sst") == ["it's", "(not)", "bad", "ish,"]


@pytest.mark.parametrize(
    ("string", "tokens"),
    [
        ("Don\u2019t panic", ["don't", "panic"]),
        ("rock 'n' roll", ["rock", "'", "n", "'", "roll"]),
        ("\uff11\uff12\u3000\uff21\uff22", ["12", "ab"]),
        ("fine :-) <3 no:d 3:5", ["fine", ":-)", "<3", "no", ":", "d", "3", ":", "5"]),
        ("\u2764\ufe0f\U0001f44d\U0001f3fd", ["\u2764\ufe0f", "\U0001f44d\U0001f3fd"]),
        ("\U0001f469\u200d\U0001f4bb!", ["\U0001f469\u200d\U0001f4bb", "!"]),
        ("\U0001f1e9\U0001f1ea", ["\U0001f1e9\U0001f1ea"]),
        ("हिन्दी", ["हिन्दी"]),
        ("e\u0301t\u00e9", ["\u00e9t\u00e9"]),
        ("a_b \u200b\ud800\x00", ["a", "_", "b"]),
        ("", []),
    ],
)
def test_unicode_tokens(string, tokens):
    assert text.tokenise(string, "unicode") == tokens


def test_characters_of_languages_without_spaces():
    assert text.tokenise("我爱 Python3!かがＡＢ", "char") == [*"我爱", "python3", *"!かが", "ab"]
    assert text.tokenise("ครับ", "char") == ["ค", "รั", "บ"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["unicode", "char"]))
def test_no_letter_or_digit_is_lost(string, tokeniser):
    tokens = text.tokenise(string, tokeniser)
    assert not any(token.split() != [token] for token in tokens)
    joined = "".join(tokens)
    normal = text._normalised(string)
    assert [c for c in joined if c.isalnum()] == [c for c in normal if c.isalnum()]
    # Tokens are made of what the text has, in its order.
    remaining = iter(normal)
    assert all(character in remaining for character in joined)


def test_pieces_that_are_remembered_are_the_same_as_long_ones(monkeypatch):
    string = "Isn't this (really) 漢字-like, :-) <3 don't " * 3
    for tokeniser in TOKENISERS[:-1]:
        expected = text.tokenise(string, tokeniser)
        with monkeypatch.context() as patched:
            patched.setattr(text, "_SHORT", 0)
            assert text.tokenise(string, tokeniser) == expected


def test_chooses_characters_for_chinese():
    assert text.choose_tokeniser(["房间很好 nice", "不错"]) == "char"
    assert text.choose_tokeniser(["a hotel in 北京", "quite nice"]) == "unicode"
    assert text.choose_tokeniser(["", "123"]) == "unicode"
    assert text.choose_tokeniser(["latin letters"] * 1000 + ["漢字" * 50_000]) == "unicode"


def test_names_what_is_missing(monkeypatch):
    with pytest.raises(DataError, match="no tokeniser 'words'; choose from unicode"):
        text.tokenise("a", "words")
    monkeypatch.setitem(sys.modules, "jieba", None)
    text._jieba.cache_clear()
    with pytest.raises(DependencyError, match="pip install jieba"):
        text.tokenise("a", "jieba")


def test_jieba_words_hold_no_white_space(monkeypatch):
    class Jieba:
        @staticmethod
        def cut(string):
            return [string[:2], string[2:3], string[3:]]

    monkeypatch.setattr(text, "_jieba", lambda: Jieba)
    assert text.tokenise("酒店 OK", "jieba") == ["酒店", "ok"]


def test_vocabulary_counts_and_orders():
    lists = [["b", "a", "b"], ["c", "a", "d"]]
    vocabulary = Vocabulary.of(lists)
    assert vocabulary.tokens == ("b", "a", "c", "d")
    assert vocabulary.counts.tolist() == [2, 2, 1, 1]
    assert Vocabulary.of(lists, min_count=2).tokens == ("b", "a")
    assert Vocabulary.of(lists, most=3).tokens == ("b", "a", "c")
    assert len(vocabulary) == 6
    assert vocabulary.ids(["a", "x", "b", "d"]).tolist() == [3, UNKNOWN, 2, 5]
    assert vocabulary.ids([]).dtype == np.int32
    longer = vocabulary.extended(["x", "a", "x", "y"])
    assert longer.tokens == ("b", "a", "c", "d", "x", "y")
    assert longer.counts.tolist() == [2, 2, 1, 1, 0, 0]


@given(st.lists(st.text(st.characters(exclude_characters="\n"), min_size=1), unique=True))
def test_vocabulary_survives_bytes(tokens):
    tokens = [token for token in tokens if not re.search("[\ud800-\udfff]", token)]
    vocabulary = Vocabulary((*tokens, "a\x85b\u2028", "😀漢\r"))
    assert Vocabulary.from_bytes(vocabulary.to_bytes()) == vocabulary
    assert Vocabulary.from_bytes(b"") == Vocabulary(())


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"a\n\xff", "not UTF-8 at byte 2"), (b"a\nb\na", "'a' more than once"), (b"a\n\nb", "empty")],
)
def test_damaged_vocabulary(data, message):
    with pytest.raises(DataError, match=message):
        Vocabulary.from_bytes(data)


@given(
    st.lists(st.lists(st.integers(1, 99), max_size=40), max_size=6),
    st.integers(1, 10),
    st.integers(1, 20),
)
def test_padding(rows, widest, multiple):
    batch = text.pad([np.array(row, np.int32) for row in rows], multiple, widest)
    left, right = max(4, widest - 1), max(5, widest)
    longest = max(map(len, rows), default=0)
    assert batch.dtype == np.int32
    assert batch.shape[1] % multiple == 0
    assert 0 <= batch.shape[1] - (left + longest + right) < multiple
    for padded, row in zip(batch, rows, strict=True):
        after = [PAD] * (batch.shape[1] - left - len(row))
        assert padded.tolist() == [PAD] * left + row + after


def test_padding_to_a_length():
    assert text.pad([np.array([7])], length=64).shape == (1, 64)
    with pytest.raises(ValueError, match="needs 10 columns"):
        text.pad([np.array([7])], length=9)


@given(st.integers(0, 60), st.integers(2, 20))
def test_cuts(count, most):
    ids = np.arange(count)
    (head,) = text.cut(ids, most)
    assert head.tolist() == list(range(min(count, most)))
    (ends,) = text.cut(ids, most, "head-tail")
    assert len(ends) == min(count, most)
    if count > most:
        assert ends[0] == 0
        assert ends[-1] == count - 1
        assert (np.diff(ends) != 1).sum() == 1
    windows = text.cut(ids, most, "windows")
    assert set(np.concatenate(windows).tolist()) == set(range(count))
    for one, next_one in pairwise(windows):
        assert len(one) == len(next_one) == most
        assert len(set(one) & set(next_one)) >= most // 2


def test_refuses_odd_cuts():
    with pytest.raises(DataError, match="'middle'; choose from head"):
        text.cut(np.arange(9), 4, "middle")
    with pytest.raises(DataError, match="at least 2"):
        text.cut(np.arange(9), 1)


@given(st.lists(st.integers(0, 400), max_size=300), st.integers(1, 7))
def test_every_text_is_in_one_batch(lengths, batch):
    found = text.buckets(lengths, batch, np.random.default_rng(0))
    assert sorted(np.concatenate([*found, []]).tolist()) == list(range(len(lengths)))
    assert all(0 < len(rows) <= batch for rows in found)
    assert sum(len(rows) < batch for rows in found) <= 1


def test_batches_are_of_similar_length_and_shuffled():
    lengths = np.random.default_rng(1).integers(0, 400, 2000)
    first = text.buckets(lengths, 20, np.random.default_rng(0))
    assert np.mean([np.ptp(lengths[rows]) for rows in first]) < 20
    again = text.buckets(lengths, 20, np.random.default_rng(0))
    other = text.buckets(lengths, 20, np.random.default_rng(1))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))
    means = [lengths[rows].mean() for rows in first[:50]]
    assert means != sorted(means)


@given(st.lists(st.text(max_size=40), max_size=5), st.sampled_from(["unicode", "kim", "char"]))
def test_numbering_is_tokens_and_vocabulary_in_one(strings, tokeniser):
    vocabulary = text.Vocabulary.of([text.tokenise("a b ! 中 the", tokeniser)])
    numbered = vocabulary.numbering(tokeniser)
    for string in [*strings, *strings, "the cat! the 中文 a"]:
        assert numbered(string) == vocabulary.ids(text.tokenise(string, tokeniser)).tolist()
