"""The pixels of a data set's rows, made again from its source, to look at and to compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqtok.errors import InputError, MismatchError
from vqtok.offline.decode import Decoder, sample_name
from vqtok.offline.plan import listing_of
from vqtok.offline.views import Cut, cut_frames, cut_picture
from vqtok.pictures import Pixels, load_image
from vqtok.preprocess import Preprocess
from vqtok.resize import Size
from vqtok.streams import open_clip

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.rows import Row
    from vqtok.sources import Sample, Source

__all__ = ["Remaker", "row_name", "stored_latents"]


def row_name(row: Row) -> str:
    """What messages call a row."""
    return f"{row.key!r} ({row.view})"


def stored_latents(row: Row) -> npt.NDArray[np.float16] | None:
    """Those of a row as its file has them; an `InputError` where they were scaled on the way."""
    if row.latents is not None and row.latents.dtype != np.float16:
        raise InputError(
            f"row {row_name(row)} has scaled latents; open the data set without as_latents=True"
        )
    return row.latents


class Remaker:
    """Rows of a plan's data set -> their pixels, from the source that it was made of.

    Another source, by the keys of its samples, is a `MismatchError`; so is a row that the plan
    would cut otherwise.
    """

    def __init__(self, source: Source, plan: Plan) -> None:
        listing = listing_of(source.keys)
        if listing != plan.source.listing:
            raise MismatchError(
                f"the source is not that of the data set: it has {len(source)} samples with the "
                f"listing {listing[:16]}; planned were {plan.source.samples} with "
                f"{plan.source.listing[:16]}"
            )
        self._decoder = Decoder(source, plan)
        self._numbers = {key: number for number, key in enumerate(source.keys)}
        self._last: tuple[str, Pixels] | None = None  # rows of one sample follow each other

    def picture(self, row: Row) -> Pixels:
        """(h, w, 3) uint8, as the encoder saw it."""
        pixels = self._decoded(row.key)
        cut, settings = self._cut(row, (pixels.shape[0], pixels.shape[1]))
        return cut_picture(pixels, [cut], settings)[0]

    def frames(self, row: Row) -> Iterator[Pixels]:
        """Those of a clip, (h, w, 3) uint8 each, as the encoder saw them."""
        background = self._decoder.settings.background
        sample = self._sample(row.key)
        reader = open_clip(sample.data, name=sample_name(sample), background=background)
        cut, settings = self._cut(row, reader.size)
        return (view for (view,) in cut_frames(reader, [cut], settings, name=reader.name))

    def _sample(self, key: str) -> Sample:
        if key not in self._numbers:
            raise MismatchError(f"the source has no sample {key!r}")
        return self._decoder.source[self._numbers[key]]

    def _decoded(self, key: str) -> Pixels:
        if self._last is None or self._last[0] != key:
            settings, sample = self._decoder.settings, self._sample(key)
            pixels = load_image(
                sample.data,
                background=settings.background,
                max_pixels=settings.max_pixels,
                name=sample_name(sample),
            )
            self._last = key, pixels
        return self._last[1]

    def _cut(self, row: Row, size: Size) -> tuple[Cut, Preprocess]:
        """How the row's view is made of a picture of this size."""
        settings = self._decoder.settings_for(size)
        cuts = self._decoder.cuts(size, settings, row.key)
        cut = next((cut for cut in cuts if cut.name == row.view), None)
        if cut is None:
            raise MismatchError(f"the plan has no view {row.view!r}")
        stored = row.box, row.flip, row.size[-2:]
        if (cut.box, cut.flip, cut.size) != stored:
            raise MismatchError(
                f"it says box={row.box}, flip={row.flip} and size={row.size[-2:]}; by the plan "
                f"these are {cut.box}, {cut.flip} and {cut.size}"
            )
        return cut, settings
