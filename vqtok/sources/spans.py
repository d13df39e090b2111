"""Clips of equal length, or scenes, cut out of the videos of a source."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from vqtok.errors import ConfigError, ImageError, LoadError, MissingExtraError, VqtokError
from vqtok.pictures import Pixels
from vqtok.sources import Clip, Sample, Source
from vqtok.sources.files import check_unique, each_of
from vqtok.videos import wanted_frames

__all__ = ["Span", "Spans"]

SCENES = "scenes"  # the column
AT_ONCE = 32  # frames in memory where a span is read one by one


@dataclass(frozen=True)
class Span:
    """Frames start, start + stride, ... of a clip, `length` of them: a `Clip` itself."""

    clip: Clip
    start: int
    length: int
    stride: int
    name: str

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None where the clip does not tell."""
        fps: float | None = getattr(self.clip, "fps", None)
        return fps / self.stride if fps else None

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... of these -> (count, H, W, 3) uint8."""
        wanted_frames(start, count, stride, self.length, self.name)
        return self.clip.frames(self.start + start * self.stride, count, stride * self.stride)

    def __iter__(self) -> Iterator[Pixels]:
        """All frames in order, (H, W, 3) uint8 each."""
        for start in range(0, self.length, AT_ONCE):
            yield from self.frames(start, min(AT_ONCE, self.length - start))


class _Cut(NamedTuple):
    """What became of one video: (start, length) of each span, or why there is none."""

    spans: list[tuple[int, int]]
    left_out: int  # frames behind the last clip
    fault: str | None = None


class Spans:
    """Clips out of the videos of a source; the key of each is KEY#000000, with its first frame.

    frames   of each clip, `stride` apart; None: each scene is one clip, however long it is
    every    how far apart clips begin; frames * stride without it, so that they lie end to end
    scenes   "frames" or "seconds": what the pairs [start, end) in the column `scenes` of each
             video count, of which a frame at the end is no part; those of a .csv file are text.
             Clips are cut out of each scene then, and lie in one. Times are counted from the first
             frame, and a frame belongs to the scene that it is first shown in
    threads  that find lengths, which takes reading every file once
    advance  called with 1 after each video

    A clip has exactly `frames` frames: what is left at the end of a video or scene is left out,
    and so is one that is shorter; `note` says how much that is. A video that cannot be opened, or
    whose scenes cannot be, is one sample under its own key, and reading it raises the ImageError.
    """

    is_video = True

    def __init__(
        self,
        source: Source,
        frames: int | None,
        stride: int = 1,
        every: int | None = None,
        scenes: Literal["frames", "seconds"] | None = None,
        *,
        threads: int | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        _check(source, frames, stride, every, scenes)
        self._source, self._frames, self._stride, self._scenes = source, frames, stride, scenes
        self._every = every or (frames or 1) * stride
        self._faults: dict[int, str] = {}
        self._places: list[tuple[int, int, int]] = []  # (video, start, length)
        self.keys: list[str] = []
        self._left_out = self._without = 0
        cuts = each_of(self._cut, range(len(source)), threads or min(8, os.cpu_count() or 1))
        for video, cut in enumerate(cuts):
            self._take(video, cut)
            if advance:
                advance(1)
        check_unique(self.keys, lambda index: f"in {source.keys[self._places[index][0]]!r}")

    @property
    def videos(self) -> Source:
        """What clips are cut out of."""
        return self._source

    @property
    def note(self) -> str:
        """What is in no clip; "" where everything is in one."""
        if not self._left_out:
            return ""
        return (
            f"{self._left_out} frames at the ends of videos or scenes make no whole clip and are "
            f"left out; {self._without} of {len(self._source)} videos have no clip at all"
        )

    def _take(self, video: int, cut: _Cut) -> None:
        key = self._source.keys[video]
        if cut.fault is not None:
            self._faults[video] = cut.fault
            self.keys.append(key)
            self._places.append((video, 0, 0))
        self.keys += [f"{key}#{start:06d}" for start, _ in cut.spans]
        self._places += [(video, *span) for span in cut.spans]
        self._left_out += cut.left_out
        self._without += not cut.spans and cut.fault is None

    def _cut(self, video: int) -> _Cut:
        try:
            sample = self._source[video]
            found = self._scenes_of(sample)
        except MissingExtraError:
            raise
        except VqtokError as error:
            return _Cut([], 0, str(error))
        cut = [self._spans(start, end) for start, end in found]
        return _Cut([s for spans, _ in cut for s in spans], sum(left for _, left in cut))

    def _spans(self, start: int, end: int) -> tuple[list[tuple[int, int]], int]:
        """((start, length) of each, frames behind the last) of the frames start .. end - 1."""
        if self._frames is None:
            return [(start, -(-(end - start) // self._stride))], 0
        taken = (self._frames - 1) * self._stride + 1
        starts = range(start, end - taken + 1, self._every)
        # Those that a clip's last step skips belong to it.
        reached = starts[-1] + self._frames * self._stride if starts else start
        return [(each, self._frames) for each in starts], max(0, end - reached)

    def _scenes_of(self, sample: Sample) -> list[tuple[int, int]]:
        """The frames [start, end) of each, rising; all are one scene where none are asked for."""
        length = int(sample.data.length)
        if self._scenes is None:
            return [(0, length)]
        found = _pairs(sample)
        if self._scenes == "seconds":
            numbered = getattr(sample.data, "number_at", None)
            if numbered is None:
                raise ImageError(f"{sample.key!r} does not say when its frames are shown")
            found = [(numbered(start), numbered(end)) for start, end in found]
        for start, end in found:
            if not 0 <= start < end <= length or start != int(start) or end != int(end):
                raise ImageError(
                    f"{sample.key!r} has the scene [{start}, {end}), and frames 0 to {length - 1}"
                )
        return [(int(start), int(end)) for start, end in found]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        """The data is a `Span`."""
        index = range(len(self))[index]
        video, start, length = self._places[index]
        if video in self._faults:
            raise ImageError(self._faults[video])
        sample, key = self._source[video], self.keys[index]
        columns = {name: value for name, value in sample.columns.items() if name != SCENES}
        return Sample(key, Span(sample.data, start, length, self._stride, f"{key!r}"), columns)


def _check(
    source: Source, frames: int | None, stride: int, every: int | None, scenes: str | None
) -> None:
    if not source.is_video:
        raise ConfigError("clips are cut out of videos, and this source holds pictures")
    if scenes not in (None, "frames", "seconds"):
        raise ConfigError(f"scenes count 'frames' or 'seconds'; got {scenes!r}")
    if frames is None and scenes is None:
        raise ConfigError("say how many frames a clip has, or that scenes are clips")
    if frames is None and every is not None:
        raise ConfigError("where each scene is one clip, none begins every so many frames")
    for name, value in (("frames", frames), ("stride", stride), ("every", every)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is at least 1; got {value}")


def _pairs(sample: Sample) -> list[tuple[float, float]]:
    """The column `scenes`, in order."""
    found = sample.columns.get(SCENES)
    if found is None:
        raise LoadError(f"{sample.key!r} has no column {SCENES!r}")
    try:
        pairs: Sequence[Any] = json.loads(found) if isinstance(found, str) else found
        scenes = sorted((_number(start), _number(end)) for start, end in pairs)
    except (TypeError, ValueError):
        raise LoadError(
            f"{sample.key!r} has the scenes {found!r}; they are a list of pairs [start, end]"
        ) from None
    for (_, end), (start, _) in pairwise(scenes):
        if start < end:
            raise LoadError(f"{sample.key!r} has scenes that overlap: {end} is after {start}")
    return scenes


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise TypeError
    return value
