"""`transform`, and the parts of `play` that need no window."""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from shared import images, video
from shared.errors import ImageError, VideoError
from shared.video import colour, controls, live, overlay, pipeline, sinks, sources
from shared.video.feed import Feed
from shared.video.frames import Frame, Step

import av  # isort: skip - shared.video must come first (see shared.video._load_window_libraries)

RATE = 44100
FULL, LIMITED = 2, 1


def photo(width, height, shift=0):
    """A colour photograph, cut differently for each frame of a clip."""
    shift %= 64
    return np.ascontiguousarray(scenery(width, height)[shift:, shift:][:height, :width])


@functools.cache
def scenery(width, height):
    big = cv2.resize(data.astronaut(), (width + 64, height + 64), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(big, (0, 0), 2)


def write_clip(
    path,
    frames,
    *,
    times=None,
    time_base=Fraction(1, 25),
    codec="libx264",
    pixel_format="yuv420p",
    matrix=2,
    colour_range=LIMITED,
    sound=None,
    rotation=None,
    options=None,
):
    """Write a clip; `frames` are RGB arrays or ready `av.VideoFrame`s, `sound` an encoder name."""
    with av.open(str(path), "w", options=options or {}) as container:
        picture = container.add_stream(codec, rate=25)
        picture.height, picture.width = size_of(frames[0])
        picture.pix_fmt = pixel_format
        picture.codec_context.time_base = time_base
        picture.codec_context.colorspace = matrix
        picture.codec_context.color_range = colour_range
        if codec == "libx264":
            picture.codec_context.options = {"crf": "8", "preset": "ultrafast", "bf": "0"}
        if rotation is not None:
            picture.set_display_rotation(**rotation)
        hearing = container.add_stream(sound, rate=RATE) if sound else None
        times = range(len(frames)) if times is None else times
        for pixels, pts in zip(frames, times, strict=True):
            frame = pixels if isinstance(pixels, av.VideoFrame) else encoded(pixels, picture)
            frame.pts, frame.time_base = pts, time_base
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if hearing:
            container.mux(hearing.encode(sine(len(frames) * float(time_base))))
            container.mux(hearing.encode(None))
    return path


def size_of(frame):
    return frame.shape[:2] if isinstance(frame, np.ndarray) else (frame.height, frame.width)


def encoded(pixels, stream):
    matrix = {2: 5, 6: 5}.get(stream.codec_context.colorspace, stream.codec_context.colorspace)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
        format=stream.pix_fmt,
        dst_colorspace=matrix,
        dst_color_range=stream.codec_context.color_range,
    )


def sine(seconds):
    samples = np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE) * 0.3
    frame = av.AudioFrame.from_ndarray(
        np.stack([samples, samples]).astype(np.float32), format="fltp", layout="stereo"
    )
    frame.sample_rate, frame.pts = RATE, 0
    return frame


def photos(count, width=96, height=64):
    return [photo(width, height, shift=3 * index) for index in range(count)]


def decoded(path):
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return [
            frame.to_ndarray(format="rgb24", interpolation=colour.CONVERSION)
            for frame in container.decode(video=0)
        ]


def frame_times(path):
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def packets(path, kind="audio"):
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.dts is not None]


def codecs(path):
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams]


def identity(_fps):
    return lambda pixels: pixels


def leftovers(folder, *known):
    return sorted(path.name for path in folder.iterdir() if path not in known)


def as_a_player_sees(frame):
    """Turn the planes of a 4:2:0 frame into RGB by the formulas of BT.601 and BT.709."""
    luma, blue, red = (
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    )
    blue, red = (plane.repeat(2, axis=0).repeat(2, axis=1) for plane in (blue, red))
    full = frame.color_range == FULL
    luma = luma / 255 if full else (luma.astype(float) - 16) / 219
    blue, red = ((plane.astype(float) - 128) / (255 if full else 224) for plane in (blue, red))
    in_red, in_blue = (0.2126, 0.0722) if frame.colorspace == 1 else (0.299, 0.114)
    r = luma + 2 * (1 - in_red) * red
    b = luma + 2 * (1 - in_blue) * blue
    g = (luma - in_red * r - in_blue * b) / (1 - in_red - in_blue)
    return np.clip(255 * np.stack([r, g, b], axis=-1), 0, 255)


def seen(path):
    with av.open(str(path)) as container:
        return [as_a_player_sees(frame) for frame in container.decode(video=0)]


# Colours ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
def test_identity_keeps_the_colours_that_a_player_shows(tmp_path, matrix, colour_range):
    frames = photos(1, 1280, 720)
    source = write_clip(
        tmp_path / "in.mp4", frames, matrix=matrix, colour_range=colour_range, codec="libx264"
    )
    target = tmp_path / "out.mp4"
    video.transform(source, target, identity)
    before, after = np.stack(seen(source)), np.stack(seen(target))
    assert np.abs(after - before).mean() < 2
    assert np.abs((after - before).mean(axis=(0, 1, 2))).max() < 0.5
    with av.open(str(target)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_range) == (matrix, LIMITED)


@pytest.mark.parametrize(("size", "matrix"), [((1280, 720), 1), ((320, 240), 6)])
def test_untagged_video_is_read_as_players_read_it(tmp_path, size, matrix):
    frames = photos(1, *size)
    source = write_clip(tmp_path / "in.mkv", frames, matrix=2)
    with av.open(str(source)) as container:
        untagged = next(container.decode(video=0))
        assert untagged.colorspace == 2
        untagged.colorspace = matrix
        expected = as_a_player_sees(untagged)
    got = []
    video.transform(source, tmp_path / "out.mp4", lambda _: lambda p: got.append(p) or p)
    assert np.abs(got[0] - expected).mean() < 2
    assert abs((got[0] - expected).mean()) < 0.5
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace == matrix


@pytest.mark.parametrize("matrix", [1, 6])
@pytest.mark.parametrize("colour_range", [LIMITED, FULL])
def test_flat_colours_reach_the_frame_function(tmp_path, matrix, colour_range):
    flat = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(flat.planes, (120, 90, 180), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    flat.colorspace, flat.color_range = matrix, colour_range
    source = write_clip(tmp_path / "in.mp4", [flat], matrix=matrix, colour_range=colour_range)
    got = []
    video.transform(source, tmp_path / "out.mp4", lambda _: lambda p: got.append(p) or p)
    assert np.abs(got[0] - as_a_player_sees(flat)).max() <= 1.5


def test_primaries_and_transfer_are_carried(tmp_path):
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        codec = stream.codec_context
        codec.colorspace, codec.color_primaries, codec.color_trc = 9, 9, 14
        container.mux(stream.encode(encoded(photo(64, 48), stream)))
        container.mux(stream.encode(None))
    video.transform(source, tmp_path / "out.mp4", identity)
    with av.open(str(tmp_path / "out.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (9, 9, 14)


def test_rgb_coded_video_keeps_its_values(tmp_path):
    frames = photos(2, 64, 48)
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", pixel_format="bgra")
    got = []
    video.transform(source, tmp_path / "out.mp4", lambda _: lambda p: got.append(p) or p)
    assert all(np.array_equal(a, b) for a, b in zip(got, frames, strict=True))


# Frames and times ---------------------------------------------------------------------------------


def test_the_frame_function_gets_every_frame_in_order_and_makes_the_output(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(20))
    got, rates = [], []

    def make(fps):
        rates.append(fps)
        return lambda pixels: got.append(pixels) or 255 - pixels

    summary = video.transform(source, tmp_path / "out.mp4", make, quiet=True)
    assert rates == [25.0]
    assert all(frame.dtype == np.uint8 and frame.shape == (64, 96, 3) for frame in got)
    assert all(np.array_equal(a, b) for a, b in zip(got, decoded(source), strict=True))
    result = decoded(tmp_path / "out.mp4")
    assert np.abs((255 - np.stack(got)).astype(int) - np.stack(result)).mean() < 3
    assert summary.frames == 20
    assert not summary.audio
    assert summary.fps_apply == pytest.approx(20 / summary.seconds_apply)
    assert summary.notes == ()


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
def test_variable_frame_times_are_exact(tmp_path, name):
    times = [0, 33, 66, 140, 300, 320, 360, 400, 500, 700, 701]
    source = write_clip(
        tmp_path / "in.mkv", photos(len(times)), times=times, time_base=Fraction(1, 1000)
    )
    video.transform(source, tmp_path / name, identity)
    assert frame_times(tmp_path / name) == [Fraction(ms, 1000) for ms in times]


def test_times_of_ntsc_video_are_exact(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(9), time_base=Fraction(1001, 30000))
    video.transform(source, tmp_path / "out.mp4", identity)
    assert frame_times(tmp_path / "out.mp4") == [Fraction(1001 * n, 30000) for n in range(9)]


def test_a_stream_that_starts_late_starts_at_zero_and_stays_in_sync(tmp_path):
    source = write_clip(
        tmp_path / "in.ts", photos(25), sound="aac", options={"output_ts_offset": "5"}
    )

    def starts(path):
        with av.open(str(path)) as container:
            return [stream.start_time * stream.time_base for stream in container.streams]

    first, sound = starts(source)
    assert first >= 5
    video.transform(source, tmp_path / "out.mp4", identity)
    after_first, after_sound = starts(tmp_path / "out.mp4")
    assert 0 <= after_first < 0.1
    assert after_sound - after_first == pytest.approx(sound - first, abs=0.002)


@pytest.mark.parametrize("size", [(101, 75), (96, 75), (101, 64), (2, 2), (1, 1)])
def test_odd_sizes_are_kept(tmp_path, size):
    frames = photos(2, *size)
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", pixel_format="bgra")
    video.transform(source, tmp_path / "out.mp4", identity)
    result = decoded(tmp_path / "out.mp4")
    assert result[0].shape == (size[1], size[0], 3)
    assert np.abs(result[0].astype(int) - frames[0]).mean() < 8


def test_one_frame(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(1))
    assert video.transform(source, tmp_path / "out.mp4", identity).frames == 1
    assert len(decoded(tmp_path / "out.mp4")) == 1


def test_pixel_aspect_is_kept(tmp_path):
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 72, 58, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        stream.set_display_rotation(90)
        container.mux(stream.encode(encoded(photo(72, 58), stream)))
        container.mux(stream.encode(None))
    video.transform(source, tmp_path / "out.mp4", identity)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(11, 16)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_comes_out_upright_as_opencv_shows_it(tmp_path, degrees):
    source = write_clip(tmp_path / "in.mp4", photos(2), rotation={"degrees": degrees})
    capture = cv2.VideoCapture(str(source))
    expected = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB).astype(int)
    capture.release()
    video.transform(source, tmp_path / "out.mp4", identity)
    result = decoded(tmp_path / "out.mp4")[0]
    assert result.shape == expected.shape
    assert np.abs(result - expected).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_mirrored_video_comes_out_mirrored(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(1), rotation={"degrees": 0, "hflip": True})
    plain = decoded(source)[0].astype(int)
    video.transform(source, tmp_path / "out.mp4", identity, crf=4)
    assert np.abs(decoded(tmp_path / "out.mp4")[0] - plain[:, ::-1]).mean() < 3


@given(turned=st.booleans(), x=st.sampled_from([-1, 1]), y=st.sampled_from([-1, 1]))
def test_upright_moves_each_pixel_where_the_display_matrix_says(turned, x, y):
    matrix = np.array([[0, y, 0], [x, 0, 0], [0, 0, 1]] if turned else np.diag([x, y, 1]))
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    result = sources._upright(pixels, matrix * 65536)
    rows, columns = np.mgrid[:4, :6]
    moved = np.stack([columns, rows], axis=-1) @ matrix[:2, :2]
    moved -= moved.min(axis=(0, 1))
    assert np.array_equal(result[moved[..., 1], moved[..., 0]], pixels)


# Sound, subtitles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov", "out.m4v"])
def test_sound_is_copied_byte_for_byte(tmp_path, name):
    source = write_clip(tmp_path / "in.mp4", photos(25), sound="aac")
    summary = video.transform(source, tmp_path / name, identity)
    assert summary.audio
    assert packets(tmp_path / name) == packets(source)


@pytest.mark.parametrize(("name", "expected"), [("out.webm", "opus"), ("out.mp4", "aac")])
def test_sound_the_container_cannot_hold_is_encoded_anew(tmp_path, name, expected):
    if expected == "opus":
        source = write_clip(tmp_path / "in.mp4", photos(25), sound="aac")
    else:
        source = write_clip(tmp_path / "in.avi", photos(25), sound="adpcm_ima_wav")
    assert video.transform(source, tmp_path / name, identity).audio
    assert codecs(tmp_path / name)[1].endswith(expected)
    with av.open(str(tmp_path / name)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    rate = frames[0].sample_rate
    assert len(samples) / rate == pytest.approx(1, abs=0.1)
    middle = samples[rate // 4 : rate * 3 // 4]
    loudest = np.abs(np.fft.rfft(middle)).argmax() / (len(middle) / rate)
    assert loudest == pytest.approx(440, abs=3)


def with_subtitles(path):
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        words = container.add_mux_stream("subrip")
        words.time_base = Fraction(1, 1000)
        for pts in range(10):
            frame = encoded(photo(64, 48), picture)
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(picture.encode(frame))
        line = av.Packet(b"good morning")
        line.stream, line.pts, line.dts, line.duration = words, 100, 100, 200
        line.time_base = Fraction(1, 1000)
        container.mux(line)
        container.mux(picture.encode(None))
    return path


def test_subtitles_are_copied_where_the_container_holds_them(tmp_path):
    source = with_subtitles(tmp_path / "in.mkv")
    assert video.transform(source, tmp_path / "out.mkv", identity).notes == ()
    assert packets(tmp_path / "out.mkv", "subtitle") == [b"good morning"]


def test_subtitles_are_named_where_they_are_left_out(tmp_path):
    source = with_subtitles(tmp_path / "in.mkv")
    summary = video.transform(source, tmp_path / "out.mp4", identity)
    assert summary.notes == ("subtitle track 1 is left out: .mp4 files cannot hold it",)


def test_without_x264_mpeg4_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "_VIDEO_ENCODERS", ("not_installed", "mpeg4"))
    source = write_clip(tmp_path / "in.mkv", photos(5, 101, 75), codec="ffv1", pixel_format="bgra")
    video.transform(source, tmp_path / "out.mp4", identity)
    assert codecs(tmp_path / "out.mp4") == ["mpeg4"]
    difference = np.stack(decoded(tmp_path / "out.mp4")).astype(int) - np.stack(decoded(source))
    assert np.abs(difference).mean() < 8


# Folders of frames --------------------------------------------------------------------------------


def write_frames(folder, frames, name="frame_{}.png"):
    folder.mkdir()
    for number, pixels in enumerate(frames, start=1):
        Image.fromarray(pixels).save(folder / name.format(number))
    return folder


def test_frames_to_frames_is_lossless_and_in_numeric_order(tmp_path):
    frames = photos(12, 31, 17)
    source = write_frames(tmp_path / "in", frames)
    (source / ".hidden.png").write_bytes(b"")
    (source / "notes.txt").write_text("no frame")
    summary = video.transform(source, tmp_path / "out", identity)
    assert summary.frames == 12
    written = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in written] == [f"frame_{n:06d}.png" for n in range(1, 13)]
    for path, pixels in zip(written, frames, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), pixels)
    assert leftovers(tmp_path, source, tmp_path / "out") == []


def test_frames_to_video_and_back(tmp_path):
    frames = photos(6)
    source = write_frames(tmp_path / "in", frames)
    video.transform(source, tmp_path / "clip.mp4", identity, fps=10)
    assert frame_times(tmp_path / "clip.mp4") == [Fraction(n, 10) for n in range(6)]
    video.transform(tmp_path / "clip.mp4", tmp_path / "back", identity)
    result = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "back").iterdir())]
    assert np.abs(np.stack(result).astype(int) - np.stack(frames)).mean() < 5


def test_16_bit_frames_become_8_bit(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = photo(20, 10).astype(np.uint16) * 257
    images.write(folder / "a.png", pixels)
    got = []
    video.transform(folder, tmp_path / "out", lambda _: lambda p: got.append(p) or p)
    assert got[0].dtype == np.uint8
    assert np.array_equal(got[0], pixels // 257)


def test_the_frame_of_another_size_is_named(tmp_path):
    source = write_frames(tmp_path / "in", [*photos(3, 30, 20), photo(31, 20)])
    with pytest.raises(VideoError, match=r"frame_4\.png.*31 x 20.*30 x 20"):
        video.transform(source, tmp_path / "out.mp4", identity)
    assert leftovers(tmp_path, source) == []


def test_a_broken_frame_is_named_and_nothing_is_left(tmp_path):
    source = write_frames(tmp_path / "in", photos(3, 30, 20))
    (source / "frame_2.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"frame_2\.png"):
        video.transform(source, tmp_path / "out", identity)
    assert leftovers(tmp_path, source) == []


def test_a_folder_without_frames(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(VideoError, match="no frames"):
        video.transform(tmp_path / "in", tmp_path / "out.mp4", identity)


def test_overwriting_a_folder_replaces_frames_and_nothing_else(tmp_path):
    source = write_frames(tmp_path / "in", photos(2, 30, 20))
    target = tmp_path / "out"
    target.mkdir()
    (target / "diary.txt").write_text("keep me")
    (target / "frame_000009.png").write_bytes(b"of an earlier run")
    with pytest.raises(VideoError, match=r"not empty.*--overwrite"):
        video.transform(source, target, identity)
    video.transform(source, target, identity, overwrite=True)
    assert leftovers(target) == ["diary.txt", "frame_000001.png", "frame_000002.png"]


# Mistakes -----------------------------------------------------------------------------------------


def cut(source, target, share):
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


def bad_sources(folder):
    good = write_clip(folder / "good.mp4", photos(10))
    empty = folder / "empty.mp4"
    empty.write_bytes(b"")
    text = folder / "text.mp4"
    text.write_text("this is no video\n" * 100)
    sound = folder / "sound.m4a"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=RATE)
        container.mux(stream.encode(sine(0.5)))
        container.mux(stream.encode(None))
    frameless = folder / "frameless.mkv"
    with av.open(str(frameless), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return {
        "missing": folder / "missing.mp4",
        "empty": empty,
        "text": text,
        "sound only": sound,
        "no frames": frameless,
        "truncated": cut(good, folder / "truncated.mp4", 0.5),
    }


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "sound only", "no frames", "truncated"]
)
def test_bad_sources_are_named_in_one_sentence_and_nothing_is_left(tmp_path, kind):
    source = bad_sources(tmp_path)[kind]
    before = leftovers(tmp_path)
    with pytest.raises(VideoError) as caught:
        video.transform(source, tmp_path / "out.mp4", identity)
    assert source.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == before


def test_the_readable_part_of_a_truncated_video_is_done(tmp_path):
    whole = write_clip(tmp_path / "whole.mp4", photos(50), options={"movflags": "+faststart"})
    source = cut(whole, tmp_path / "in.mp4", 0.6)
    summary = video.transform(source, tmp_path / "out.mp4", identity)
    assert 5 < summary.frames < 50
    assert len(decoded(tmp_path / "out.mp4")) == summary.frames


def test_damage_inside_a_video_is_skipped_and_told(tmp_path):
    source = write_clip(tmp_path / "in.mov", photos(30), codec="png", pixel_format="rgb24")
    with av.open(str(source)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.dts is not None]
    content = bytearray(source.read_bytes())
    content[positions[10] + 8 : positions[11] - 16] = bytes(positions[11] - positions[10] - 24)
    source.write_bytes(content)
    summary = video.transform(source, tmp_path / "out.mp4", identity)
    assert summary.frames == 29
    assert summary.notes == ("in.mov: damaged packets skipped: 1",)


def test_bad_targets(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(2))
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(b"precious")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for target, sentence in {
        taken: "exists already; pass --overwrite",
        source: "replace the input",
        tmp_path / "out.xyz": r"\.mp4",
        tmp_path / "folder.mp4": "is a folder",
        tmp_path / "file": "not a folder",
        tmp_path / "file" / "out.mp4": "writing failed",
    }.items():
        with pytest.raises(VideoError, match=sentence):
            video.transform(source, target, identity, overwrite=target == source)
    assert taken.read_bytes() == b"precious"
    video.transform(source, taken, identity, overwrite=True)
    assert len(decoded(taken)) == 2


def failing(error, after):
    def make(_fps):
        calls = iter(range(10**6))

        def function(pixels):
            if next(calls) == after:
                raise error
            return pixels

        return function

    return make


@pytest.mark.parametrize("target", ["out.mp4", "out"])
@pytest.mark.parametrize("error", [RuntimeError("filter broke"), KeyboardInterrupt()])
def test_a_failing_frame_function_stops_the_threads_and_leaves_nothing(tmp_path, target, error):
    source = write_clip(tmp_path / "in.mp4", photos(60), sound="aac")
    with pytest.raises(type(error)):
        video.transform(source, tmp_path / target, failing(error, after=20))
    assert leftovers(tmp_path, source) == []
    assert not any("ThreadPool" in thread.name for thread in threading.enumerate())


def test_a_full_disk_stops_everything_and_leaves_nothing(tmp_path, monkeypatch):
    source = write_clip(tmp_path / "in.mp4", photos(60))
    write = sinks._VideoSink.write

    def write_until_full(sink, step):
        if step.frame is not None and step.frame.pts > 5 * 512:
            raise OSError(28, "No space left on device")
        write(sink, step)

    monkeypatch.setattr(sinks._VideoSink, "write", write_until_full)
    calls = []
    with pytest.raises(VideoError, match=r"out\.mp4: writing failed \(No space left on device\)"):
        video.transform(source, tmp_path / "out.mp4", lambda _: lambda p: calls.append(0) or p)
    assert len(calls) < 30
    assert leftovers(tmp_path, source) == []


def test_ctrl_c_leaves_no_file(tmp_path):
    source = write_clip(tmp_path / "in.mp4", photos(100))
    (tmp_path / "out").mkdir()
    script = (
        "import signal, sys, time\n"
        "from pathlib import Path\n"
        "from shared import video\n"
        # A process started in the background of a shell inherits that it ignores Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "slow = lambda fps: lambda pixels: time.sleep(0.05) or pixels\n"
        "video.transform(Path(sys.argv[1]), Path(sys.argv[2]), slow)\n"
    )
    root = Path(video.__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(source), str(tmp_path / "out" / "clip.mp4")],
        cwd=root,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not leftovers(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(tmp_path / "out") == [".clip.part.mp4"]
    child.send_signal(signal.SIGINT)
    _, messages = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in messages
    assert leftovers(tmp_path / "out") == []


def test_frames_in_flight_are_bounded(tmp_path):
    read, written = [], []
    lead = []

    class Source:
        path = tmp_path / "source"

        def steps(self):
            for index in range(200):
                read.append(index)
                lead.append(len(read) - len(written))
                yield Step(Frame(np.zeros((1, 1, 3), np.uint8), index, 1))
            yield Step(None)

    class Sink:
        path = tmp_path / "sink"

        def write(self, step):
            time.sleep(0.001)
            if step.frame is not None:
                written.append(step.frame.pts)

        def finish(self):
            pass

    frames, _ = pipeline.pump(Source(), Sink(), lambda pixels: pixels, lambda: None)
    assert frames == 200
    assert written == list(range(200))
    assert max(lead) <= 2 * pipeline._QUEUED_FRAMES + 3


def test_decoding_filtering_and_encoding_overlap(tmp_path):
    """Three stages of 5 ms each on 40 frames: 0.6 s one after the other, 0.2 s overlapped."""

    class Source:
        path = tmp_path / "source"

        def steps(self):
            for index in range(40):
                time.sleep(0.005)
                yield Step(Frame(np.zeros((1, 1, 3), np.uint8), index, 1))
            yield Step(None)

    class Sink:
        path = tmp_path / "sink"

        def write(self, step):
            time.sleep(0.005)

        def finish(self):
            pass

    start = time.perf_counter()
    _, clock = pipeline.pump(Source(), Sink(), lambda p: time.sleep(0.005) or p, lambda: None)
    wall = time.perf_counter() - start
    assert wall < 0.75 * (clock.decode + clock.apply + clock.encode)


def test_nothing_is_printed_where_there_is_no_terminal(tmp_path, capfd):
    source = write_clip(tmp_path / "in.mp4", photos(3))
    capfd.readouterr()
    video.transform(source, tmp_path / "out.mp4", identity)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_frames_are_sorted_by_number(numbers):
    paths = [Path(f"shot 2 frame {number}.png") for number in numbers]
    assert sorted(paths, key=sources._natural) == [
        Path(f"shot 2 frame {number}.png") for number in sorted(numbers)
    ]


# The live window without a window -----------------------------------------------------------------

ANY_KEY = st.one_of(st.sampled_from([ord(key) for key in "+=-_s[] prhq"]), st.integers(-1, 255))


@given(st.lists(ANY_KEY))
def test_no_keys_leave_the_ranges(keys):
    view = controls.View(strength=1.0)
    for key in keys:
        view = controls.press(view, key)
    assert 0 <= view.strength <= 2
    assert 0 <= view.divider <= 1
    assert view.strength == round(view.strength, 1)


def test_each_key_does_its_one_thing():
    view = controls.View(strength=1.0)
    changes = {
        "+": {"strength": 1.1},
        "=": {"strength": 1.1},
        "-": {"strength": 0.9},
        "s": {"split": True},
        "[": {"split": True, "divider": 0.45},
        "]": {"split": True, "divider": 0.55},
        " ": {"paused": True},
        "p": {"snapshot": True},
        "r": {"recording": True},
        "h": {"help": False},
        "q": {"quit": True},
        "\x1b": {"quit": True},
        "x": {},
    }
    for key, change in changes.items():
        assert controls.press(view, ord(key)) == replace(view, **change), key
    assert controls.press(view, -1) == view


def test_split_shows_before_left_of_the_divider_and_after_right_of_it():
    before = np.full((72, 100, 3), (200, 10, 0), np.uint8)
    after = np.full((72, 100, 3), (0, 20, 250), np.uint8)
    shown = overlay.compose(before, after, controls.View(1.0, split=True, divider=0.3))
    assert (shown[:, :29] == (0, 10, 200)).all()
    assert (shown[:, 31:] == (250, 20, 0)).all()
    assert (shown[:, 30] == 255).all()
    plain = overlay.compose(before, after, controls.View(1.0))
    assert (plain == (250, 20, 0)).all()
    assert (after == (0, 20, 250)).all()


@pytest.mark.parametrize("divider", [0.0, 1.0])
def test_the_divider_may_stand_at_the_border(divider):
    before, after = np.zeros((2, 8, 9, 3), np.uint8) + np.array([[[[50]]], [[[90]]]], np.uint8)
    shown = overlay.compose(before, after, controls.View(1.0, split=True, divider=divider))
    assert (shown[:, 1:-1] == (50 if divider else 90)).all()


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (320, 240), (64, 48), (1, 1)])
def test_the_overlay_stays_inside_its_bands(size):
    width, height = size
    shown = np.full((height, width, 3), 120, np.uint8)
    status = overlay.status_phrases(controls.View(1.0), 29.7, 75.0, "saved snapshot_001.png")
    overlay.draw_overlay(shown, status, with_help=True)
    assert "REC 1:15" in status
    if height >= 700:
        assert (shown[height // 3 : height * 2 // 3] == 120).all()
        assert (shown[: height // 30] > 200).any()
        assert (shown[-height // 30 :] > 200).any()


@given(st.lists(st.text("abcdefgh ", min_size=1, max_size=20), min_size=1), st.integers(200, 2000))
def test_packed_lines_hold_every_phrase_and_fit(phrases, width):
    lines = overlay._packed(phrases, width, 0.7)
    assert "     ".join(lines) == "     ".join(phrases)
    for line in lines:
        text_width = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 1)[0][0]
        assert text_width < width or line in phrases


class Gain:
    """A filter that adds ten levels per unit of strength."""

    def __init__(self):
        self.strength = 1.0
        self.rates = []
        self.calls = 0

    def stream(self, fps):
        self.rates.append(fps)
        return self.apply

    def apply(self, pixels):
        self.calls += 1
        return cv2.add(pixels, np.full_like(pixels, round(10 * self.strength)))


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", photos(50), sound="aac")


@pytest.fixture
def session(clip, tmp_path):
    feed = Feed(str(clip), mirror=False)
    yield live._Session(feed, Gain(), tmp_path / "shots")
    feed.close()


def press(session, keys):
    for key in keys:
        session.change(controls.press(session.view, ord(key)))


def test_a_snapshot_is_the_filtered_frame(session, tmp_path):
    session.advance()
    press(session, "spp")
    assert leftovers(tmp_path / "shots") == ["snapshot_001.png", "snapshot_002.png"]
    saved = np.asarray(Image.open(tmp_path / "shots" / "snapshot_001.png"))
    assert np.array_equal(saved, session._after)
    assert np.array_equal(saved, cv2.add(session._before, np.full_like(saved, 10)))


def test_strength_acts_on_a_paused_picture(session):
    session.advance()
    press(session, " +++")
    assert session._filter.strength == 1.3
    assert np.array_equal(session._after, cv2.add(session._before, np.full((64, 96, 3), 13, "u1")))
    calls = session._filter.calls
    press(session, "s")
    assert session._filter.calls == calls


def test_a_recording_holds_the_filtered_frames_their_times_and_the_sound(session, clip, tmp_path):
    for _ in range(11):
        session.advance()
    press(session, "r")
    first = session._after
    for _ in range(20):
        session.advance()
    press(session, "r")
    recording = tmp_path / "shots" / "recording_001.mp4"
    assert leftovers(tmp_path / "shots") == [recording.name]
    assert frame_times(recording) == [Fraction(n, 25) for n in range(21)]
    assert np.abs(decoded(recording)[0].astype(int) - first).mean() < 4
    with av.open(str(clip)) as container:
        span = [
            bytes(packet)
            for packet in container.demux(audio=0)
            if packet.dts is not None and 0.4 <= packet.dts * packet.time_base < 0.4 + 21 / 25
        ]
    assert len(span) > 30
    assert packets(recording) == span


def test_a_recording_of_a_silent_file_is_silent(tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", photos(5))
    feed = Feed(str(silent), mirror=False)
    session = live._Session(feed, Gain(), tmp_path)
    session.advance()
    press(session, "r")
    session.advance()
    session.stop_recording()
    feed.close()
    assert codecs(tmp_path / "recording_001.mp4") == ["h264"]


def test_the_feed_gives_rgb_frames_and_their_times(tmp_path):
    times = [0, 40, 100, 300]
    path = write_clip(tmp_path / "in.mkv", photos(4), times=times, time_base=Fraction(1, 1000))
    feed, mirrored = (Feed(str(path), mirror=mirror) for mirror in (False, True))
    for expected, milliseconds in zip(decoded(path), times, strict=True):
        pixels, seconds = feed.read()
        assert np.abs(pixels.astype(int) - expected).mean() < 3
        assert seconds == pytest.approx(milliseconds / 1000)
        assert np.array_equal(mirrored.read()[0], pixels[:, ::-1])
    assert feed.read() is None
    feed.close()
    mirrored.close()


def test_the_status_tells_what_is_on():
    view = controls.View(0.5, split=True, paused=True)
    assert overlay.status_phrases(view, 24.6, None, "saved a.png") == [
        "25 frames/s",
        "strength 0.5",
        "before | after",
        "paused",
        "saved a.png",
    ]


def play(source, out):
    video.play(source, Gain(), title="test", out=out, max_frames=1)


def test_a_source_that_cannot_be_opened(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for source, sentence in {
        987: "camera 987: cannot be opened; check that it is plugged in.*another camera number",
        str(text): r"text\.mp4.*complete video file",
        str(tmp_path / "missing.mp4"): "no such file or camera",
    }.items():
        with pytest.raises(VideoError, match=sentence):
            play(source, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="X11 and Wayland are what Linux has")
def test_without_a_display_there_is_one_sentence(clip, tmp_path, monkeypatch):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(VideoError, match="neither DISPLAY nor WAYLAND_DISPLAY is set"):
        play(str(clip), tmp_path)


PLAY = """
import sys
{first}
from shared import video
from shared.errors import VideoError
try:
    video.play(sys.argv[1], type("Filter", (), {{"strength": 1.0}})(), title="", out="")
except VideoError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="X11 is what Linux has")
@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ("", "no window can be opened on display :987 (qt.qpa.xcb: could not connect"),
        ("import av", "import shared.video first"),
    ],
)
def test_a_window_that_would_end_or_hang_the_process_is_refused(clip, first, sentence):
    done = subprocess.run(
        [sys.executable, "-c", PLAY.format(first=first), str(clip)],
        cwd=Path(video.__file__).parents[2],
        env={**os.environ, "DISPLAY": ":987"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert sentence in done.stdout, done.stderr
    assert done.returncode == 0
