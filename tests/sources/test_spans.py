"""Clips cut out of videos: which frames, which keys, what is left out, what fails."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_files import pan, picture, png, write, write_video

from vqtok.errors import ConfigError, ImageError, InputError, LoadError, MissingExtraError
from vqtok.sources import Clip, Sample, open_source
from vqtok.sources.spans import Span, Spans
from vqtok.streams import open_clip


class Counted:
    """A clip whose frames hold their numbers."""

    fps = 12.0

    def __init__(self, length: int) -> None:
        self.length = length

    def frames(self, start: int, count: int, stride: int = 1) -> np.ndarray:
        assert start >= 0 and start + (count - 1) * stride < self.length
        numbers = np.arange(start, start + count * stride, stride, dtype=np.uint8)
        return np.broadcast_to(numbers[:, None, None, None], (count, 2, 2, 3))

    def number_at(self, seconds: float) -> int:
        return min(self.length, int(np.ceil(seconds * self.fps)))


class Videos:
    """Some of these."""

    is_video = True

    def __init__(self, lengths: list[int], scenes: Any = None) -> None:
        self.lengths, self.scenes = lengths, scenes
        self.keys = [f"{number}.mp4" for number in range(len(lengths))]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        columns = {"text": "x"} | ({} if self.scenes is None else {"scenes": self.scenes})
        return Sample(self.keys[index], Counted(self.lengths[index]), columns)


def numbers(clip: Clip) -> list[int]:
    return [int(n) for n in clip.frames(0, clip.length)[:, 0, 0, 0]]


def cut(spans: Spans) -> dict[str, list[int]]:
    return {key: numbers(spans[n].data) for n, key in enumerate(spans.keys)}


def test_clips_lie_end_to_end() -> None:
    spans = Spans(Videos([10, 3, 4]), 4)
    assert cut(spans) == {
        "0.mp4#000000": [0, 1, 2, 3],
        "0.mp4#000004": [4, 5, 6, 7],
        "2.mp4#000000": [0, 1, 2, 3],
    }
    assert spans.is_video
    assert [spans[n].columns for n in range(3)] == [{"text": "x"}] * 3
    assert spans.note == (
        "5 frames at the ends of videos or scenes make no whole clip and are left out; 1 of 3 "
        "videos have no clip at all"
    )
    assert Spans(Videos([8]), 4).note == ""


def test_strides_and_overlaps() -> None:
    assert cut(Spans(Videos([7]), 2, 3)) == {"0.mp4#000000": [0, 3]}
    assert cut(Spans(Videos([10]), 2, 3)) == {"0.mp4#000000": [0, 3], "0.mp4#000006": [6, 9]}
    assert Spans(Videos([11]), 2, 3).note == ""  # what a step would skip belongs to the clip
    assert list(Spans(Videos([6]), 4, every=1).keys) == [f"0.mp4#{n:06d}" for n in range(3)]
    assert cut(Spans(Videos([9]), 2, every=5)) == {"0.mp4#000000": [0, 1], "0.mp4#000005": [5, 6]}


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(1, 4),
    st.none() | st.integers(1, 20),
)
def test_all_clips_are_as_long(
    lengths: list[int], frames: int, stride: int, every: int | None
) -> None:
    spans = Spans(Videos(lengths), frames, stride, every)
    step = every or frames * stride
    assert all(len(found) == frames for found in cut(spans).values())
    taken = (frames - 1) * stride + 1
    expected = [max(0, (length - taken) // step + 1) for length in lengths]
    assert len(spans) == sum(expected)


def test_scenes() -> None:
    source = Videos([20], [[12, 20], [0, 5]])
    assert cut(Spans(source, None, scenes="frames")) == {
        "0.mp4#000000": [0, 1, 2, 3, 4],
        "0.mp4#000012": [12, 13, 14, 15, 16, 17, 18, 19],
    }
    assert cut(Spans(source, None, 3, scenes="frames"))["0.mp4#000012"] == [12, 15, 18]
    spans = Spans(source, 3, scenes="frames")
    assert spans.keys == ["0.mp4#000000", "0.mp4#000012", "0.mp4#000015"]
    assert spans.note == (
        "4 frames at the ends of videos or scenes make no whole clip and are left out; 0 of 1 "
        "videos have no clip at all"
    )
    assert spans[0].columns == {"text": "x"}


def test_scenes_in_seconds() -> None:
    spans = Spans(Videos([20], "[[0, 0.5], [0.5, 9]]"), None, scenes="seconds")
    assert {key: len(found) for key, found in cut(spans).items()} == {
        "0.mp4#000000": 6,
        "0.mp4#000006": 14,
    }


@pytest.mark.parametrize(
    ("scenes", "expected"),
    [
        (None, "'0.mp4' has no column 'scenes'"),
        ("[[0, 5], [4, 8]]", "'0.mp4' has scenes that overlap: 5 is after 4"),
        ("[[0, 21]]", "'0.mp4' has the scene [0, 21), and frames 0 to 19"),
        ([[0.5, 3]], "'0.mp4' has the scene [0.5, 3), and frames 0 to 19"),
        ([[3, 3]], "'0.mp4' has the scene [3, 3), and frames 0 to 19"),
        ("x", "'0.mp4' has the scenes 'x'; they are a list of pairs [start, end]"),
        ([0, 5], "'0.mp4' has the scenes [0, 5]; they are a list of pairs [start, end]"),
        ([["0", 5]], "'0.mp4' has the scenes [['0', 5]]; they are a list of pairs [start, end]"),
    ],
)
def test_bad_scenes_are_bad_samples(scenes: Any, expected: str) -> None:
    spans = Spans(Videos([20], scenes), 2, scenes="frames")
    assert spans.keys == ["0.mp4"]
    with pytest.raises(ImageError) as error:
        spans[0]
    assert str(error.value) == expected


def test_a_video_that_cannot_be_opened_stops_nothing(tmp_path: Path) -> None:
    frames = pan(9)
    write_video(tmp_path / "a.mkv", frames, "ffv1", "bgr0")
    write(tmp_path / "b.mkv", b"hello")
    write_video(tmp_path / "c.mkv", frames, "ffv1", "bgr0")
    done: list[int] = []
    spans = Spans(open_source(tmp_path), 2, 2, threads=3, advance=done.append)
    assert done == [1, 1, 1]
    keys = ["a.mkv#000000", "a.mkv#000004", "b.mkv", "c.mkv#000000", "c.mkv#000004"]
    assert spans.keys == keys
    with pytest.raises(ImageError) as error:
        spans[2]
    assert str(error.value) == (
        f"'{tmp_path / 'b.mkv'}' is no video, broken or cut short: Invalid data found when "
        "processing input"
    )
    copy = pickle.loads(pickle.dumps(spans))
    assert np.array_equal(copy[-1].data.frames(0, 2), frames[4:8:2])
    assert copy[-1].key == keys[-1]


def test_without_pyav_there_are_no_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(write_video(tmp_path / "a.mp4", pan(2), "libx264"))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError) as error:
        Spans(source, 2)
    assert str(error.value) == (
        f"'{tmp_path / 'a.mp4'}' is read with av, which is not installed: pip install "
        "'vqtok[video]'"
    )


def test_times_of_a_file(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pan(10), "libx264", reorder=2)  # ten a second
    write(tmp_path / "metadata.csv", 'file_name,scenes\na.mp4,"[[0, 0.3], [0.3, 0.95]]"\n')
    spans = Spans(open_source(tmp_path), None, scenes="seconds")
    assert spans.keys == ["a.mp4#000000", "a.mp4#000003"]
    assert [spans[n].data.length for n in range(2)] == [3, 7]
    assert spans[1].data.fps == 10


def test_folders_of_frames(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "walk" / f"{number}.png", png(picture(number)))
    write(tmp_path / "metadata.jsonl", json.dumps({"file_name": "walk", "scenes": [[0, 2]]}))
    source = open_source(tmp_path, kind="clips")
    assert np.array_equal(Spans(source, 2)[1].data.frames(1, 1)[0], picture(3))
    assert Spans(source, 2).note == (
        "1 frames at the ends of videos or scenes make no whole clip and are left out; 0 of 1 "
        "videos have no clip at all"
    )
    with pytest.raises(ImageError) as error:
        Spans(source, 2, scenes="seconds")[0]
    assert str(error.value) == "'walk' does not say when its frames are shown"


def test_a_span_is_a_clip() -> None:
    span = Span(Counted(100), 10, 40, 2, "'a#000010'")
    assert [int(n) for n in span.frames(3, 2, 4)[:, 0, 0, 0]] == [16, 24]
    clip = open_clip(span)
    assert (clip.length, clip.fps, clip.name) == (40, 6, "'a#000010'")
    assert [int(frame[0, 0, 0]) for frame in clip] == list(range(10, 90, 2))
    with pytest.raises(InputError) as error:
        span.frames(38, 3)
    assert str(error.value) == ("'a#000010' has 40 frames; it cannot give 3 from 38 on, 1 apart")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"frames": 0}, "frames is at least 1; got 0"),
        ({"frames": 2, "stride": 0}, "stride is at least 1; got 0"),
        ({"frames": 2, "every": 0}, "every is at least 1; got 0"),
        ({"frames": None}, "say how many frames a clip has, or that scenes are clips"),
        ({"frames": 2, "scenes": "x"}, "scenes count 'frames' or 'seconds'; got 'x'"),
        (
            {"frames": None, "every": 2, "scenes": "frames"},
            "where each scene is one clip, none begins every so many frames",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Spans(Videos([5]), **settings)
    assert str(error.value) == expected


def test_pictures_have_no_spans(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.png", png(picture(0))))
    with pytest.raises(ConfigError) as error:
        Spans(source, 2)
    assert str(error.value) == "clips are cut out of videos, and this source holds pictures"


def test_one_key_twice() -> None:
    source = Videos([5, 5])
    source.keys = ["a", "a"]
    with pytest.raises(LoadError) as error:
        Spans(source, 2)
    assert str(error.value) == (
        "two samples have the key 'a#000000': in 'a' and in 'a'; rename one of them"
    )
