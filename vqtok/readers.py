"""Clips as frames one after another, however they are stored; `vqtok.streams` picks the reader."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from vqtok.errors import ImageError, InputError, LoadError
from vqtok.pictures import PICTURES, VIDEOS, Pixels, load_image
from vqtok.videos import stacked, wanted_frames

__all__ = [
    "Animation",
    "ClipReader",
    "Colour",
    "Frames",
    "Once",
    "Pictures",
    "Stored",
    "Watched",
    "frame_files",
    "in_order",
]

Colour: TypeAlias = tuple[int, int, int]


class Frames(Protocol):
    """What samples of `vqtok.sources` hold: frames that are read when they are asked for."""

    @property
    def length(self) -> int:
        """How many frames there are."""
        ...

    def frames(self, start: int, count: int, stride: int = 1) -> npt.NDArray[np.uint8]:
        """Frames start, start + stride, ... -> (count, H, W, 3)."""
        ...


class ClipReader(ABC):
    """One clip: (H, W, 3) uint8 frames in order, of which memory holds a few.

    name  what errors call it
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._size: tuple[int, int] | None = None
        self._begun: Iterator[Pixels] | None = None  # to find the size

    @property
    def length(self) -> int | None:
        """How many frames there are; None where only reading them would tell."""
        return None

    @property
    def fps(self) -> float | None:
        """Frames a second, on average; None where the source does not tell."""
        return None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame, which is read for it."""
        if self._size is None:
            frames = iter(self)
            first = next(frames)
            self._size = first.shape[0], first.shape[1]
            self._begun = chain([first], frames)
        return self._size

    def __iter__(self) -> Iterator[Pixels]:
        """All frames, from the first on."""
        if self._begun is not None:
            frames, self._begun = self._begun, None
            return frames
        return self._not_empty(self._start())

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        """Frames start, start + stride, ... -> (count, H, W, 3) uint8."""
        frames = enumerate(self) if min(start, count - 1, stride - 1) >= 0 else ()
        last = start + (count - 1) * stride
        found = [f for n, f in islice(frames, last + 1) if n >= start and not (n - start) % stride]
        if not found or len(found) < count:
            raise InputError(
                f"{self.name} cannot give {count} frames from {start} on, {stride} apart"
            )
        return stacked(found, self.name)

    def watched(self, seen: Callable[[int], None]) -> ClipReader:
        """The same clip, which calls seen(1) after each frame that was taken."""
        return Watched(self, seen)

    @abstractmethod
    def _start(self) -> Iterator[Pixels]:
        """All frames, or none."""

    def _not_empty(self, frames: Iterator[Pixels]) -> Iterator[Pixels]:
        first = next(frames, None)
        if first is None:
            raise ImageError(f"{self.name} has no frames; a clip has at least one")
        yield first
        yield from frames


class Stored(ClipReader):
    """What reads its own frames."""

    def __init__(self, clip: Any, name: str) -> None:
        super().__init__(name)
        self._clip = clip

    @property
    def length(self) -> int:
        length: int = self._clip.length
        return length

    @property
    def fps(self) -> float | None:
        return getattr(self._clip, "fps", None)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        found: Pixels = self._clip.frames(start, count, stride)
        return found

    def _start(self) -> Iterator[Pixels]:
        if isinstance(self._clip, Iterable):
            return iter(self._clip)
        return (self._clip.frames(number, 1)[0] for number in range(self.length))


class Pictures(ClipReader):
    """A sequence of pictures, or an array of them."""

    def __init__(
        self, pictures: Any, name: str, background: Colour, names: Sequence[str] = ()
    ) -> None:
        super().__init__(name)
        indexed = isinstance(pictures, Sequence) or getattr(pictures, "ndim", 0) == 4
        self._pictures = pictures if indexed else list(pictures)
        self._background = background
        self._names = names

    @property
    def length(self) -> int:
        return len(self._pictures)

    def frames(self, start: int, count: int, stride: int = 1) -> Pixels:
        wanted = wanted_frames(start, count, stride, self.length, self.name)
        return stacked([self._picture(number) for number in wanted], self.name)

    def _start(self) -> Iterator[Pixels]:
        return map(self._picture, range(self.length))

    def _picture(self, number: int) -> Pixels:
        picture = self._pictures[number]
        name = self._names[number] if self._names else _frame_name(picture, number, self.name)
        return load_image(picture, background=self._background, name=name)


class Animation(ClipReader):
    """An animated picture, through Pillow."""

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[Image.Image]],
        name: str,
        background: Colour,
    ) -> None:
        super().__init__(name)
        self._opened = opened
        self._background = background

    @property
    def length(self) -> int:
        with self._opened() as picture:
            return int(getattr(picture, "n_frames", 1))

    @property
    def fps(self) -> float | None:
        """On average, which takes decoding them all: Pillow tells how long one is shown then."""
        with self._opened() as picture:
            count = getattr(picture, "n_frames", 1)
            shown = sum(self._shown(picture, number) for number in range(count))
        return 1000 * count / shown if shown else None

    def _start(self) -> Iterator[Pixels]:
        with self._opened() as picture:
            for number in range(getattr(picture, "n_frames", 1)):
                self._seek(picture, number)
                name = f"frame {number} of {self.name}"
                yield load_image(picture, background=self._background, name=name)

    def _shown(self, picture: Image.Image, number: int) -> float:
        """How long a frame is, in milliseconds."""
        self._seek(picture, number)
        load_image(picture, name=f"frame {number} of {self.name}")  # only then it is known
        return float(picture.info.get("duration", 0))

    def _seek(self, picture: Image.Image, number: int) -> None:
        try:
            picture.seek(number)
        except Exception as error:  # on malformed bytes Pillow's readers raise nearly anything
            raise ImageError(f"{self.name} is broken or cut short: {error}") from error


class Once(ClipReader):
    """Pictures out of an iterator, which comes by once."""

    def __init__(self, pictures: Iterator[Any], name: str, background: Colour) -> None:
        super().__init__(name)
        self._pictures: Iterator[Any] | None = pictures
        self._background = background

    def _start(self) -> Iterator[Pixels]:
        pictures, self._pictures = self._pictures, None
        if pictures is None:
            raise InputError(
                f"the frames of {self.name} came out of an iterator and are used up; a list can be "
                "read again"
            )
        for number, picture in enumerate(pictures):
            name = _frame_name(picture, number, self.name)
            yield load_image(picture, background=self._background, name=name)


class Watched(ClipReader):
    """Another clip, frame by frame counted."""

    def __init__(self, clip: ClipReader, seen: Callable[[int], None]) -> None:
        super().__init__(clip.name)
        self._clip = clip
        self._seen = seen

    @property
    def length(self) -> int | None:
        return self._clip.length

    @property
    def fps(self) -> float | None:
        return self._clip.fps

    def _start(self) -> Iterator[Pixels]:
        for frame in self._clip:
            yield frame
            self._seen(1)


def frame_files(folder: Path) -> list[Path]:
    """The pictures in a folder, the frames of one clip, in the order of their numbers."""
    try:
        names = sorted(e.name for e in folder.iterdir() if e.name[0] != "." and e.is_file())
    except OSError as error:
        raise LoadError(f"'{folder}' cannot be listed: {error.strerror}") from error
    frames = [name for name in names if name.lower().endswith(PICTURES)]
    videos = [name for name in names if name.lower().endswith(VIDEOS)]
    if videos or not frames:
        found = f"holds videos, such as '{videos[0]}'" if videos else "holds no pictures"
        raise LoadError(
            f"'{folder}' is a folder and {found}; a clip is a file, a list of pictures, or a "
            "folder of pictures with a number in each name"
        )
    return [folder / name for name in in_order(frames, folder, folder)]


def in_order(names: Iterable[str], root: Path, where: Path) -> list[str]:
    """Frames of one clip below `root` by the last number in their names; gaps are not filled.

    where  what messages call the place
    """
    found: dict[int, str] = {}
    for name in names:
        numbers = re.findall(r"[0-9]+", name.rpartition("/")[2].rpartition(".")[0])
        if not numbers:
            raise LoadError(f"the frame '{root / name}' has no number in its name")
        other = found.setdefault(int(numbers[-1]), name)
        if other != name:
            raise LoadError(f"two frames have one number: '{other}' and '{name}' in '{where}'")
    return [found[number] for number in sorted(found)]


def _frame_name(picture: Any, number: int, clip: str) -> str | None:
    """What messages call a frame that has no path."""
    return None if isinstance(picture, str | os.PathLike) else f"frame {number} of {clip}"
