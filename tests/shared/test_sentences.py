"""Sentence-classification sets: their counts as published, and lines of another form."""

from collections import Counter

import pytest

from shared.datasets import sentences
from shared.errors import DataError


def test_movie_reviews_and_subjectivity(data):
    mr = sentences.load_mr(data / "text" / "mr")
    assert Counter(mr.labels) == {"pos": 5331, "neg": 5331}
    # U+0085 stands inside lines, and must not break them.
    assert any("\x85" in text for text in mr.texts)
    subj = sentences.load_subj(data / "text" / "subj")
    assert Counter(subj.labels) == {"subjective": 5000, "objective": 5000}


def test_questions(data):
    train, test = sentences.load_trec(data / "text" / "trec")
    coarse = {"ABBR": 86, "DESC": 1162, "ENTY": 1250, "HUM": 1223, "LOC": 835, "NUM": 896}
    assert Counter(train.labels) == coarse
    assert len(test.texts) == len(test.labels) == 500
    assert train.texts[0] == "How did serfdom develop in and then leave Russia ?"
    fine, _ = sentences.load_trec(data / "text" / "trec", fine=True)
    assert len(set(fine.labels)) == 50
    assert fine.labels[0] == "DESC:manner"


def test_treebank(data):
    folder = data / "text" / "sst"
    five = sentences.load_sst(folder, phrases=False)
    assert [len(part.texts) for part in five] == [8544, 1101, 2210]
    assert set(five[0].labels) == set("01234")
    train, dev, test = sentences.load_sst(folder, binary=True)
    assert [len(part.texts) for part in (dev, test)] == [872, 1821]
    assert len(train.texts) == len(set(train.texts)) > 70_000
    assert set(train.labels) == {"0", "1"}
    phrases = set(train.texts)
    whole = [t for t, label in zip(*five[0], strict=True) if label != "2"]
    assert len(whole) == 6920
    assert phrases.issuperset(whole)


def test_chinese(data):
    hotel = sentences.load_chnsenticorp(data / "text" / "zh_hotel" / "ChnSentiCorp_htl_all.csv")
    assert Counter(hotel.labels) == {"1": 5322, "0": 2444}
    news = sentences.load_thucnews(data / "text" / "zh_news" / "train.tsv")
    assert set(Counter(news.labels).values()) == {1000}
    assert (news.texts[0], news.labels[0]) == ("体验2D巅峰 倚天屠龙记十大创新概览", "game")


TREE = "(3 (2 It) (4 (2 really) (4 works)))"


def test_phrases_of_a_tree():
    phrases = sentences.parse_sst([TREE, "", "(1 (2 It) (0 fails))"], "f", phrases=True)
    assert dict(zip(*phrases, strict=True)) == {
        "It": "2",
        "really": "2",
        "works": "4",
        "really works": "4",
        "It really works": "3",
        "fails": "0",
        "It fails": "1",
    }
    two = sentences.parse_sst([TREE, "(1 (2 It) (0 fails))"], "f", phrases=True, binary=True)
    assert Counter(two.labels) == {"1": 3, "0": 2}
    assert "It" not in two.texts
    assert sentences.parse_sst(["(2 plain)"], "f", binary=True) == ((), ())


def test_escapes_of_the_treebank():
    line = r"(3 (2 -LRB-) (3 (2 and\/or) (2 -RRB-)))"
    assert sentences.parse_sst([line], "f").texts == ("( and/or )",)


@pytest.mark.parametrize(
    "line",
    ["(3 (2 It)", "(3 It))", "3 It", "(7 It)", "(3 )", "()", "(", "(3 a) b", "(2 a) (2 b)", "word"],
)
def test_what_is_no_tree(line):
    with pytest.raises(DataError, match="trees, line 2: not a tree"):
        sentences.parse_sst([TREE, line], "trees")


@pytest.mark.parametrize("line", ["How ?", "desc How ?", "DESC:manner", "DESC: How ?"])
def test_what_is_no_question(line):
    with pytest.raises(DataError, match="questions, line 2: not of the form"):
        sentences.parse_trec(["DESC:manner How ?", line], "questions")


def test_numbered_classes(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("一\t1\n二\ttab\t0\n", encoding="utf-8")
    assert sentences.load_thucnews(path) == (("一", "二\ttab"), ("1", "0"))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert sentences.load_thucnews(path).labels == ("b", "a")
    path.write_text("一\t2\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: class 2 is not among the 2"):
        sentences.load_thucnews(path)
    for line in ("no tab", "text\tx", "text\t²"):
        path.write_text(line, encoding="utf-8")
        with pytest.raises(DataError, match="line 1: not of the form"):
            sentences.load_thucnews(path)


def test_files_that_are_missing_or_of_another_kind(tmp_path):
    with pytest.raises(DataError, match=r"rt-polarity\.pos: cannot be read"):
        sentences.load_mr(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"x,y\n1,2\n")
    with pytest.raises(DataError, match="no columns"):
        sentences.load_chnsenticorp(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"label,review\n1,\xff\n")
    with pytest.raises(DataError, match="not utf-8-sig at byte 15"):
        sentences.load_chnsenticorp(tmp_path / "a.csv")
