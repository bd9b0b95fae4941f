"""The benches measure what they say, on small material."""

import json

import numpy as np
import pytest

from shared import backbones, console
from shared.backbones import bench
from shared.backbones.cli import app


@pytest.fixture
def by_hand(monkeypatch):
    """Let functions take the seconds that a test hands over, whatever they do."""

    def use(*columns):
        monkeypatch.setattr(bench, "turns", lambda calls, repeats: np.array([columns]))

    return use


def test_networks_equal_their_twins(by_hand):
    by_hand(0.5, 0.25)
    (row,) = bench.twins(["mobilenet_v1"], side=32, batch=2)
    assert row["difference"] < 1e-5
    assert (row["ours, ms"], row["theirs, ms"], row["speed"]) == (250, 125, 0.5)


def test_another_function_shows_as_a_difference(by_hand, monkeypatch):
    by_hand(1, 1)
    monkeypatch.setattr(bench, "create", lambda name, **o: backbones.create(name, epsilon=0.5, **o))
    (row,) = bench.twins(["mobilenet_v1"], side=32, batch=2)
    assert row["difference"] > 1e-3


def test_shares_of_time_beside_shares_of_multiply_adds(by_hand):
    by_hand(0.1, 0.4)
    (row,) = bench.taps({"mobilenet_v1": ["stem"]}, side=32, batch=1)
    dense = 1024 * 1000  # the only layer whose work does not grow with the picture
    whole = (backbones.spec("mobilenet_v1").gmacs * 1e9 - dense) / 7**2 + dense
    share = 16**2 * 27 * 32 / whole
    assert row["% of multiply-adds"] == pytest.approx(100 * share, rel=5e-3)
    assert row["% of time"] == 25
    assert row["ratio"] == pytest.approx(share / 0.25, rel=5e-3)


def test_grouped_convolutions_per_multiply_add(by_hand):
    by_hand(0.3, 0.2, 0.4)
    grouped, depthwise = bench.grouped([(6, 8, 4), (6, 8, 8)])
    assert grouped["slower per multiply-add"] == pytest.approx(4 * 0.2 / 0.4)
    assert depthwise["slower per multiply-add"] == pytest.approx(8 * 0.2 / 0.4)
    assert (grouped["Keras, ms"], grouped["dense, ms"]) == (75, 100)


def test_grouped_networks_compute_what_keras_computes(monkeypatch):
    small = {"repeats": (1, 1), "width": 2}
    monkeypatch.setattr(bench, "create", lambda name, **o: backbones.create(name, **small, **o))
    (row,) = bench.grouped_networks(["resnext29_8x64d"], side=8, batch=1, repeats=1)
    assert row["difference"] < 1e-5
    assert row["speed"] == pytest.approx(row["Keras' layer, ms"] / row["ours, ms"])


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        console.run(app, ["bench", *words], prog="convsuite backbones")
    return stopped.value.code


def test_command_line_prints_a_table_or_json(monkeypatch, capsys):
    rows = [{"network": "n", "ours, ms": 12.345, "difference": 1.2e-6}]
    for verb in ("twins", "taps", "grouped", "grouped_networks"):
        monkeypatch.setattr(bench, verb, lambda repeats: [*rows, {**rows[0], "ours, ms": repeats}])
    assert run("taps") == 0
    assert {"12.35", "1.2e-06", "9"} <= set(capsys.readouterr().out.split())
    assert run("twins", "--json", "--repeats", "3") == 0
    assert json.loads(capsys.readouterr().out)["twins"][1]["ours, ms"] == 3
    assert run("grouped", "--json") == 0
    assert json.loads(capsys.readouterr().out).keys() == {"grouped", "networks"}
