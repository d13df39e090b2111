"""Whole videos, each by itself and a few frames at a time, however long it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from vqtok.errors import ImageError, VqtokError
from vqtok.offline.decode import Decoder, Shown, sample_name
from vqtok.offline.gather import Gathered
from vqtok.offline.latents import Encoded, Encoding, refusal
from vqtok.offline.records import Stage
from vqtok.offline.views import Cut, cut_frames
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess
from vqtok.sources import Sample
from vqtok.streams import open_clip
from vqtok.types import ClipCodec

__all__ = ["Wholes"]

FRAMES = 16  # that are decoded while as many are encoded


class Wholes:
    """Videos of any length through a model; each view of one reads it again.

    waited  seconds, so far, that the model waited for frames
    busy    seconds of a core that reading frames took
    """

    def __init__(self, decoder: Decoder, codec: ClipCodec, encoding: Encoding) -> None:
        self._decoder = decoder
        self._codec: Any = codec
        self._encoding = encoding
        self.waited = self.busy = 0.0
        self._reading = ThreadPoolExecutor(1, "vqtok-frames")

    def one(self, index: int, gathered: Gathered, beat: Callable[[], None]) -> None:
        """Reads, encodes and gathers one video, or notes why it has no rows.

        `beat` is called after every few frames, and what it raises is let through.
        """
        decoder = self._decoder
        stage: Stage = "read"
        try:
            sample = decoder.read(index)
            stage = "columns"
            about = decoder.about(index, sample)
            stage = "decode"
            size = open_clip(sample.data, name=sample_name(sample)).size
            stage = "view"
            settings = decoder.settings_for(size)
            cuts = decoder.cuts(size, settings, sample.key)
        except Exception as error:  # a sample may fail in any way, and costs no other
            gathered.fail(decoder.failed(index, stage, error))
            return
        rows = gathered.rows_of(index)
        shown, done = list[Shown](), list[Encoded]()
        for row, cut in zip(rows, cuts, strict=True):
            frames = _Frames(self._shown(sample, cut, settings), self._reading, beat)
            try:
                back, encoded = self._encoded(row, frames, cut)
            except Exception as error:
                if frames.ended is not None:
                    raise frames.ended from None
                if frames.broken:
                    gathered.fail(decoder.failed(index, "decode", error))
                else:
                    gathered.fail(decoder.failed(index, "encode", refusal(error)))
                return
            finally:
                self.waited += frames.waited
                self.busy += frames.busy
            shown.append(Shown(cut.box, cut.flip, back))
            done.append(encoded)
        gathered.add(about, shown)
        for encoded in done:
            gathered.put(encoded)

    def opens(self, index: int) -> bool:
        """Whether a video can be read and opened."""
        try:
            sample = self._decoder.read(index)
            open_clip(sample.data, name=sample_name(sample)).size  # noqa: B018
        except Exception:
            return False
        return True

    def close(self) -> None:
        """Ends the thread that reads."""
        self._reading.shutdown(cancel_futures=True)

    def _shown(self, sample: Sample, cut: Cut, settings: Preprocess) -> Iterator[Pixels]:
        """The frames of one view."""
        reader = open_clip(sample.data, name=sample_name(sample), background=settings.background)
        return (one for (one,) in cut_frames(reader, [cut], settings, name=reader.name))

    def _encoded(
        self, row: int, frames: Iterable[Pixels], cut: Cut
    ) -> tuple[tuple[int, ...], Encoded]:
        """How large it comes back, and what became of it."""
        codec = self._codec
        codes, latents = self._encoding.latents_with(
            lambda: codec.encode_frames(frames, cut.size),
            lambda: codec.encode_frame_latents(frames, cut.size),
        )
        encoded = self._encoding.of([row], [0], codes, latents)
        return tuple(codes.sizes[0].tolist()), encoded


class _Frames:
    """Frames read by another thread, some ahead.

    broken  whether reading has failed
    ended   what a beat has raised
    """

    def __init__(
        self, frames: Iterator[Pixels], reading: ThreadPoolExecutor, beat: Callable[[], None]
    ) -> None:
        self._frames = frames
        self._reading = reading
        self._beat = beat
        self.broken = False
        self.ended: Exception | None = None
        self.waited = self.busy = 0.0

    def __iter__(self) -> Iterator[Pixels]:
        coming = self._reading.submit(self._next)
        while chunk := self._come(coming):
            coming = self._reading.submit(self._next)
            yield from chunk
            self._live()

    def _live(self) -> None:
        try:
            self._beat()
        except Exception as error:
            self.ended = error
            raise

    def _come(self, coming: Future[list[Pixels]]) -> list[Pixels]:
        began = time.perf_counter()
        try:
            return coming.result()
        finally:
            self.waited += time.perf_counter() - began

    def _next(self) -> list[Pixels]:
        began = time.thread_time()
        try:
            return list(islice(self._frames, FRAMES))
        except Exception as error:
            self.broken = True
            if isinstance(error, VqtokError):
                raise
            raise ImageError(f"its frames cannot be read: {error}") from error
        finally:
            self.busy += time.thread_time() - began
