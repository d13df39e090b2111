"""Real pictures and clips in the sizes and batches that graphs are held against the model with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqtok.errors import ImageError, LoadError, MismatchError
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, preprocess
from vqtok.sources import Paths, Source, open_source
from vqtok.streams import open_clip
from vqtok.traits import Traits
from vqtok.zoo import samples

__all__ = ["BATCHES", "Batch", "Pictures", "sizes_of"]

# Rows that go through a graph together, one after another.
BATCHES = (1, 3, 8)
PACE = 2  # pixels that a picture moves by from frame to frame where it stands for a clip


class Batch(NamedTuple):
    """Pictures (N, H, W, 3) or clips (N, T, H, W, 3), uint8, and what each is called."""

    keys: list[str]
    pixels: Pixels

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W) or (T, H, W)."""
        return self.pixels.shape[1:-1]


def sizes_of(traits: Traits, settings: Preprocess, side: int) -> list[tuple[int, ...]]:
    """Two sizes of pictures or clips, no square the second; one where a model takes no other.

    Of models that take any number of frames, clips of one token as well: they have graphs of their
    own. The first size of pictures is that of the settings or, where they have none, of `side`.
    """
    step = traits.stride[-2:]
    rounded = tuple(max(1, side // each) * each for each in step)
    first = settings.sides if settings.size is not None else rounded
    if traits.only_size is not None or traits.is_multiscale:
        return [traits.only_size or first]
    second = _other(first, step)
    if not traits.is_video:
        return [first, second]
    if traits.window is not None:
        return [(traits.window, *first), (traits.stride[0], *second)]
    one, two, three = (traits.size_of((count, 1, 1))[0] for count in (1, 2, 3))
    return [(two, *first), (three, *second), (one, *first)]


def _other(size: Sequence[int], step: Sequence[int]) -> tuple[int, ...]:
    """About as many pixels, lower and wider by whole tokens."""
    (height, width), (down, across) = size, step
    less = max(1, height // down // 4) * down
    return max(down, height - less), width + max(1, width // across // 4) * across


class Pictures:
    """What `--check` names, or the sample photographs of the package; of clips, clips.

    Where they are fewer than one of each batch takes, they are there again, turned over. A model
    of clips may be given pictures: each makes a clip that moves over it.

    source  a path or several, as `vqtok.sources.open_source` takes them, or None
    most    of these, evenly spaced; others stand in for those that cannot be read
    """

    def __init__(self, settings: Preprocess, traits: Traits, source: Paths | None, most: int):
        self.settings, self.traits = settings, traits
        self.source = _opened(source, traits)
        self.named = "the samples of the package" if source is None else _named(source)
        total = len(self.source)
        chosen = [index * total // min(most, total) for index in range(min(most, total))]
        self.total = total
        self.skipped: dict[str, str] = {}
        self._chosen = self._readable(chosen)
        if not self._chosen:
            raise LoadError(f"no picture of {self.named} can be read: {self._first_fault()}")

    def __len__(self) -> int:
        """How many pictures or clips there are that can be read."""
        return len(self._chosen)

    @property
    def rows(self) -> int:
        """How many there are of each size, those turned over among them."""
        return max(len(self), sum(BATCHES))

    def batches(self, size: tuple[int, ...]) -> Iterator[Batch]:
        """All of them in one size, in batches of 1, 3, 8, 1, ..."""
        settings, at = self._settings(size), 0
        for count in cycle(BATCHES):
            rows = range(at, min(at + count, self.rows))
            if not rows:
                return
            keys, pixels = zip(*(self._row(row, size, settings) for row in rows), strict=True)
            yield Batch(list(keys), np.stack(pixels))
            at = rows.stop

    def _row(self, row: int, size: tuple[int, ...], settings: Preprocess) -> tuple[str, Pixels]:
        turn, place = divmod(row, len(self._chosen))
        key, pixels = self._read(self._chosen[place], size, settings)
        return (f"{key}, turned {turn}" if turn else key), _turned(pixels, turn)

    def _read(self, index: int, size: tuple[int, ...], settings: Preprocess) -> tuple[str, Pixels]:
        sample = self.source[index]
        name = f"the sample {sample.key!r}"
        if self.source.is_video:
            return sample.key, _clip(sample.data, size[0], settings, name)
        if not self.traits.is_video:
            return sample.key, preprocess(sample.data, settings, name=name)
        reach = PACE * (size[0] - 1)
        step = self.traits.stride[-1]
        wider = -(-(size[2] + reach) // step) * step
        whole = preprocess(sample.data, settings.changed(size=(size[1], wider)), name=name)
        frames = [whole[:, PACE * n : PACE * n + size[2]] for n in range(size[0])]
        return sample.key, np.stack(frames)

    def _settings(self, size: tuple[int, ...]) -> Preprocess:
        """The tokenizer's own where it makes pictures of that size."""
        sides = (size[-2], size[-1])
        if self.settings.size is not None and self.settings.sides == sides and len(size) == 2:
            return self.settings
        own = self.settings
        return Preprocess(
            policy="center",
            size=sides,
            stride=self.traits.stride[-1],
            background=own.background,
            max_pixels=own.max_pixels,
        )

    def _readable(self, chosen: Sequence[int]) -> list[int]:
        """Those, and others in the place of what cannot be read, while there are any."""
        found = [index for index in chosen if self._can_read(index)]
        taken = set(chosen)
        for index in range(self.total):
            if len(found) == len(chosen):
                break
            if index not in taken and self._can_read(index):
                found.append(index)
        return sorted(found)

    def _can_read(self, index: int) -> bool:
        stride = self.traits.stride
        size = (*stride[:-2], *stride[-2:])
        try:
            self._read(index, size, self._settings(size))
        except (ImageError, LoadError) as error:
            self.skipped[self.source.keys[index]] = str(error)
            return False
        return True

    def _first_fault(self) -> str:
        return next(iter(self.skipped.values()))


def _opened(source: Paths | None, traits: Traits) -> Source:
    if source is None:
        return open_source(list(samples()))
    found = open_source(source)
    if found.is_video and not traits.is_video:
        raise MismatchError(
            f"the tokenizer takes pictures, and {_named(source)} holds clips; name a folder of "
            "pictures"
        )
    return found


def _named(source: Paths) -> str:
    """For messages and reports, without the places of this machine."""
    each = [source] if isinstance(source, str) or not isinstance(source, Sequence) else source
    return ", ".join(repr(Path(one).name or str(one)) for one in each)


def _clip(data: Any, count: int, settings: Preprocess, name: str) -> Pixels:
    """The first frames of a clip; the last one repeated where it is shorter."""
    frames: list[Pixels] = []
    for frame in open_clip(data, name=name):
        frames.append(preprocess(frame, settings, name=name))
        if len(frames) == count:
            break
    return np.stack([*frames, *frames[-1:] * (count - len(frames))])


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """(..., H, W, 3) mirrored, upside down, both; then moved along as well."""
    if turn & 1:
        pixels = pixels[..., ::-1, :]
    if turn & 2:
        pixels = pixels[..., ::-1, :, :]
    return np.roll(pixels, 5 * (turn // 4), -2) if turn > 3 else pixels
