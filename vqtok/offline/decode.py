"""From a sample of the source to the pixels of its views, or to the reason why it has none.

Nothing here depends on which other samples there are, or on who decodes them. Importing this
brings no torch; resizing may.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from vqtok.errors import ImageError, InputError, LoadError, VqtokError
from vqtok.offline.buckets import bucket_settings, pick_bucket
from vqtok.offline.plan import Plan, clip_frames, kind_of_label
from vqtok.offline.records import Failure, Stage
from vqtok.offline.rows import Row, check_row, columns_text
from vqtok.offline.views import Box, Cut, cut_frames, cut_picture, parse_views, plan_cuts
from vqtok.pictures import Pixels, load_image
from vqtok.preprocess import Preprocess
from vqtok.resize import Size
from vqtok.sources import Sample, Source

__all__ = ["About", "Decoded", "Decoder", "Shown", "reason_of", "sample_name"]

T = TypeVar("T")
LONGEST_REASON = 300
PAUSES = (0.2, 1.0)  # seconds before a sample is read again
# What another look does not change.
LASTING = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ImportError,
    ValueError,
)
TEXTS = ("text", "caption")
KINDS = {"int": "a whole number", "text": "text", "none": "neither a whole number nor text"}


class About(NamedTuple):
    """What rows say of a sample besides its codes; `columns` as `columns_text` has them."""

    number: int
    key: str
    label: int | str | None
    text: str | None
    columns: str


class Shown(NamedTuple):
    """What rows say of one view: see `Row`."""

    box: Box
    flip: bool
    size: tuple[int, ...]


class Decoded(NamedTuple):
    """A sample with all its views, in the order of the plan's names.

    pixels  (h, w, 3) or (t, h, w, 3) uint8 each, as the encoder sees them
    """

    about: About
    shown: list[Shown]
    pixels: list[Pixels]


class Decoder:
    """Decodes samples by number, for a plan. It can be pickled where the source can.

    frames  those of a clip of the plan's `clips`, once they fill whole tokens
    """

    def __init__(self, source: Source, plan: Plan, frames: int | None = None) -> None:
        self.source = source
        self.plan = plan
        self.frames = frames
        self.views = parse_views(plan.views)
        self._warned = False
        self.settings = Preprocess.from_config(plan.preprocess)
        self._of_bucket = {
            bucket: bucket_settings(self.settings, bucket) for bucket in plan.buckets
        }
        self._patient = True

    def __reduce__(self) -> tuple[type[Decoder], tuple[Source, Plan, int | None]]:
        """Views hold functions, which cannot be pickled."""
        return Decoder, (self.source, self.plan, self.frames)

    def __call__(self, indices: Iterable[int]) -> list[Decoded | Failure]:
        """Several samples, in order."""
        return [self.one(index) for index in indices]

    def one(self, index: int) -> Decoded | Failure:
        """One sample; whatever is raised on the way is its failure."""
        stage: Stage = "read"
        try:
            sample = self.read(index)
            stage = "columns"
            about = self.about(index, sample)
            stage = "decode"
            frames = self._tried(lambda: self._loaded(sample))
            stage = "view"
            height, width = frames.shape[-3:-1]
            settings = self.settings_for((height, width))
            cuts = self.cuts((height, width), settings, sample.key)
            shown, pixels = self._cut(frames, cuts, settings, sample.key)
        except Exception as error:  # a sample may fail in any way, and costs no other
            return self.failed(index, stage, error)
        return Decoded(about, shown, pixels)

    def failed(self, index: int, stage: Stage, error: BaseException | str) -> Failure:
        """What a record says of a sample that has no rows."""
        if stage == "decode" and isinstance(error, OSError):  # frames are read as they are decoded
            stage = "read"
        key = self.source.keys[index]
        return Failure(
            key=key,
            index=index,
            rows=len(self.plan.view_names),
            stage=stage,
            reason=reason_of(error, key),
        )

    def read(self, index: int) -> Sample:
        """A sample of the source; where reading fails, it is tried again."""

        def once() -> Sample:
            sample = self.source[index]
            if not isinstance(sample.data, Path) or self.source.is_video:
                return sample
            return sample._replace(data=_contents(sample.data, sample_name(sample)))

        return self._tried(once)

    def _tried(self, work: Callable[[], T], pauses: Sequence[float] = PAUSES) -> T:
        """What `work` gives, in several tries; in one while the source seems to be gone."""
        try:
            found = work()
        except OSError as error:
            if not self._patient or not _may_pass(error):
                raise
            if not pauses:
                self._patient = False
                raise
            time.sleep(pauses[0])
            return self._tried(work, pauses[1:])
        self._patient = True
        return found

    def about(self, index: int, sample: Sample) -> About:
        """A sample's label, text and columns, where the plan's format can hold them."""
        columns = dict(sample.columns)
        label = None if self.plan.label == "none" else columns.pop("label", None)
        kind = kind_of_label(label)
        if self.plan.label == "none":
            self._look(sample)
        if label is not None and kind != self.plan.label:
            raise InputError(
                f"its label {label!r} is {KINDS[kind]}; those of this data set are "
                f"{'whole numbers' if self.plan.label == 'int' else 'text'}"
            )
        name = next((each for each in TEXTS if isinstance(columns.get(each), str)), None)
        text = columns.pop(name) if name else None
        empty = (0, 0, 0, 0)
        check_row(Row(sample.key, "", empty, False, (), (), label=label, text=text))
        return About(index, sample.key, label, text, columns_text(columns))

    def _look(self, sample: Sample) -> None:
        """Warns once of labels in a set that was planned without."""
        label = sample.columns.get("label")
        if not self._warned and kind_of_label(label) != "none":
            self._warned = True
            warnings.warn(
                f"the sample {sample.key!r} has the label {label!r}, and none that was looked at "
                "for the plan had one: labels stay among the columns of this data set",
                stacklevel=2,
            )

    def settings_for(self, size: Size) -> Preprocess:
        """How a picture of this size is prepared."""
        if not self.plan.buckets:
            return self.settings
        return self._of_bucket[pick_bucket(*size, self.plan.buckets)]

    def cuts(self, size: Size, settings: Preprocess, key: str) -> list[Cut]:
        """How each view of a sample of this size is made."""
        name, seed = f"the sample {key!r}", self.plan.seed
        return plan_cuts(self.views, size, settings, key=key, seed=seed, name=name)

    def _loaded(self, sample: Sample) -> Pixels:
        """A picture (H, W, 3), or the frames of a clip (T, H, W, 3)."""
        name = sample_name(sample)
        count = clip_frames(self.plan.source.clips)
        if count is None:
            background, most = self.settings.background, self.settings.max_pixels
            return load_image(sample.data, background=background, max_pixels=most, name=name)
        if sample.data.length != count:
            raise ImageError(
                f"{name} has {sample.data.length} frames; clips of this plan have {count}"
            )
        frames: Pixels = sample.data.frames(0, count)
        return frames

    def _cut(
        self, frames: Pixels, cuts: Sequence[Cut], settings: Preprocess, key: str
    ) -> tuple[list[Shown], list[Pixels]]:
        """What each view shows, and its pixels."""
        if frames.ndim == 3:
            shown = [Shown(cut.box, cut.flip, cut.size) for cut in cuts]
            return shown, cut_picture(frames, cuts, settings)
        cut_all = list(cut_frames(frames, cuts, settings, name=f"the sample {key!r}"))
        cut_all += cut_all[-1:] * ((self.frames or 0) - len(frames))
        shown = [Shown(cut.box, cut.flip, (len(frames), *cut.size)) for cut in cuts]
        return shown, [np.stack([each[view] for each in cut_all]) for view in range(len(cuts))]


def sample_name(sample: Sample) -> str:
    """What messages call it: by its key, for paths differ between machines."""
    return f"the sample {sample.key!r}"


def _contents(path: Path, name: str) -> bytes:
    """A file's bytes, so that what reading it raises is told from what decoding does."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise LoadError(f"the file of {name} is not there") from None
    except OSError as error:
        raise LoadError(f"the file of {name} cannot be read: {error.strerror}") from error


def _may_pass(error: BaseException) -> bool:
    """Whether it may go another time: a network or a disk, not what the file is."""
    chain = list(_chain(error))
    return not isinstance(chain[-1], (VqtokError, *LASTING)) and not any(
        isinstance(each, FileNotFoundError) for each in chain
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason_of(error: BaseException | str, key: str | None = None) -> str:
    """One line, the same on every machine: addresses of objects in memory are left out.

    key  of the sample that it is told of, whose name is left out at the beginning
    """
    text = str(error) if isinstance(error, str) else str(error) or type(error).__name__
    text = text if key is None else _unnamed(text, key)
    line = re.sub(r"0x[0-9a-fA-F]{6,}", "0x...", " ".join(text.split()))
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."


def _unnamed(text: str, key: str) -> str:
    name = f"the sample {key!r}"
    for begin, instead in (
        (f"{name} ", ""),
        (f"{name}: ", ""),
        (f"the file of {name} ", "its file "),
    ):
        if text.startswith(begin):
            return instead + text.removeprefix(begin)
    return text
