"""The benches measure what they say, on small material."""

import functools

import numpy as np
import pytest

from apps.enhance import bench
from apps.enhance.material import Material
from apps.enhance.operators import clahe
from shared import images, metrics
from shared.errors import DataError


def test_flicker_is_lower_with_smoothing(monkeypatch):
    """Acceptance: at most 1.6 times the input's, with smoothing."""
    # Each network is compiled once; what a stream remembers is its own.
    monkeypatch.setattr(bench, "_network", functools.cache(bench._network))
    noise, gain = bench.flicker(frames=12, photos=1)
    assert noise["smoothed"] <= 1.6 * noise["input"]
    assert noise["smoothed"] < noise["unsmoothed"]
    assert gain["auto"] < gain["smoothed"]


def test_a_spoilt_grid_loses_what_the_look_gains():
    before = bench.sample_photos()[1].astype("float32") / 255
    rungs = {
        rung.method: rung.psnr
        for rung in bench.controls(
            "clahe", Material([], [lambda: (before, clahe(before))], "one photograph")
        )
    }
    assert rungs["network"] > rungs["per-image LUT oracle"]
    assert rungs["network"] > rungs["grid: spatial mean"] + 3
    assert rungs["network"] > rungs["grid: x and y swapped"] + 3


def test_leaving_one_out_never_tests_what_was_learned(tmp_path, photo):
    """Of two pairs each has a look of its own, so that each is tested by the other's table."""
    for number, gain in enumerate((0.5, 0.9)):
        before = np.roll(photo, 40 * number, axis=1)
        images.write(tmp_path / "input" / f"{number}.png", before)
        images.write(tmp_path / "target" / f"{number}.png", (gain * before).astype("uint8"))
    rungs = {rung.method: rung for rung in bench.leave_one_out(tmp_path, quiet=True)}
    assert {"identity", "auto-contrast", "mean gamma", "table"} <= rungs.keys()
    assert rungs["table"].pictures == 2
    wrong = metrics.psnr(0.5 * photo / 255, 0.9 * photo / 255)
    assert rungs["table"].psnr == pytest.approx(wrong, abs=1)


def test_one_pair_cannot_be_left_out(tmp_path, photo):
    images.write(tmp_path / "a_before.png", photo)
    images.write(tmp_path / "a_after.png", photo)
    with pytest.raises(DataError, match="one pair"):
        bench.leave_one_out(tmp_path, quiet=True)


def test_speed_of_video_and_of_a_whole_run():
    clip = bench.video_speed(frames=6, size=(72, 128))
    assert clip["frames"] == 6
    assert clip["frames/s alone"] > 0
    whole = bench.whole_run(megapixels=0.5)
    assert min(whole["decode"], whole["enhance"], whole["encode"]) > 0
