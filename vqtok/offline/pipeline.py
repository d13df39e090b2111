"""Samples to rows: decoders ahead, batches in the middle, one thread that feeds the model."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from vqtok.codec import TorchCodec
from vqtok.errors import LoadError, plural
from vqtok.offline.batching import Batch, Batcher, Memory
from vqtok.offline.decode import Decoded, Decoder
from vqtok.offline.gather import Gathered
from vqtok.offline.job import Beat, DecodeIn
from vqtok.offline.latents import Encoded, Encoding
from vqtok.offline.plan import Plan, clip_frames
from vqtok.offline.pools import Ahead, Pool, Processes, Threads, decoded
from vqtok.offline.records import Failure
from vqtok.offline.wholes import Wholes
from vqtok.sources import Source
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import ClipCodec

__all__ = ["Pipeline", "Waits", "ahead", "decoder_for", "is_pinned", "laid"]

SAMPLES = 8  # that a decoder takes at once
CHUNK_BYTES = 1 << 23  # of their pixels
WAITING_BYTES = 1 << 28  # of all pixels that wait for the model
MANY = 8  # samples, all of which don't fail by chance
SHOWN = 3
BATCHES = 2  # that the model has been given, one of which it works on


class Waits:
    """Seconds: `decode` that the model waited for pixels, `encode` that pixels waited for it."""

    def __init__(self) -> None:
        self.decode = self.encode = self.write = 0.0

    def as_dict(self) -> dict[str, float]:
        """Rounded, for a `Timing`."""
        return {name: round(seconds, 3) for name, seconds in sorted(vars(self).items())}


class Pipeline:
    """What a worker keeps from shard to shard; to be closed.

    decoders   threads or processes that decode
    decode_in  which of them
    """

    def __init__(
        self,
        source: Source,
        tok: VisualTokenizer,
        plan: Plan,
        decoders: int,
        decode_in: DecodeIn = "threads",
    ) -> None:
        self._plan = plan
        codec = tok.codec
        self._encoding = Encoding(codec, plan)
        self._memory = Memory(pinned=is_pinned(tok))
        threads = torch.get_num_threads()  # those that decode leave others less
        self._feeding = ThreadPoolExecutor(
            1, "vqtok-encode", torch.set_num_threads, initargs=(threads,)
        )
        decoder = decoder_for(source, tok, plan)
        self._ahead = ahead(decoder, decoders)
        self._wholes: Wholes | None = None
        if isinstance(codec, ClipCodec) and decoder.frames is None:
            self._wholes, decoders = Wholes(decoder, codec, self._encoding), 1
        self._decoder = decoder
        processes = decode_in == "processes" and self._wholes is None
        # Threads are not started before there is something to do.
        self._pool: Pool = (Processes if processes else Threads)(decoder, decoders)

    def run(self, samples: range, wanted: Sequence[int], beat: Beat, waits: Waits) -> Gathered:
        """The rows of those samples of a shard that are wanted, whose numbers rise.

        `beat` is called after each batch and while the first one fills, and what it raises is let
        through.
        """
        gathered = Gathered(self._plan, samples)
        if self._wholes is not None:
            for index in wanted:
                before = self._wholes.waited
                self._wholes.one(index, gathered, beat)
                waits.decode += self._wholes.waited - before
                beat(len(self._plan.view_names))
            return gathered
        feed = _Feed(self._encoding, self._feeding, self._memory, gathered, beat, waits)
        try:
            samples_of = decoded(self._pool, wanted, self._ahead, beat)
            for batch in laid(samples_of, gathered, self._plan, self._memory):
                feed.give(batch)
            feed.finish()
        finally:
            feed.drop()
        return gathered

    def check_source(self, shard: int, gathered: Gathered) -> None:
        """A `LoadError` where a shard is one of failures since its source seems to be gone."""
        failures, samples = gathered.failures, gathered.samples
        unread = [each for each in failures if each.stage in ("read", "decode")]
        if len(unread) < len(samples):
            return
        few = len(unread) < MANY
        if few and (any(each.stage == "decode" for each in unread) or self._is_there()):
            return
        first = "; ".join(f"{each.key!r} ({each.stage}: {each.reason})" for each in unread[:SHOWN])
        raise LoadError(
            f"nothing of shard {shard} could be read, {plural(len(unread), 'sample')}: {first}. "
            "Start again when the source is back, or pass --max-failed 100% (max_failed='100%') to "
            "list them as failed"
        )

    def _is_there(self) -> bool:
        """Whether one of some other samples can be read and decoded; of videos, opened."""
        source = self._decoder.source
        for index in range(0, len(source), max(1, len(source) // MANY)):
            if self._wholes is not None:
                there = self._wholes.opens(index)
            else:
                there = isinstance(self._decoder.one(index), Decoded)
            if there:
                return True
        return False

    def close(self) -> None:
        """Ends threads and processes."""
        self._pool.close()
        if self._wholes is not None:
            self._wholes.close()
        self._feeding.shutdown(cancel_futures=True)


def laid(
    found: Iterable[Decoded | Failure], gathered: Gathered, plan: Plan, memory: Memory
) -> Iterator[Batch]:
    """Samples as batches, noted in `gathered` with those that failed."""
    batcher = Batcher(plan.batch, not plan.buckets, memory)
    for each in found:
        if isinstance(each, Failure):
            gathered.fail(each)
            continue
        gathered.add(each.about, each.shown)
        rows = gathered.rows_of(each.about.number)
        for row, pixels in zip(rows, each.pixels, strict=True):
            yield from batcher.add(row, pixels)
    yield from batcher.rest()


def is_pinned(tok: VisualTokenizer) -> bool:
    """Whether batches lie best in memory that torch's GPU fetches by itself."""
    return isinstance(tok.codec, TorchCodec) and tok.codec.device.type == "cuda"


def decoder_for(source: Source, tok: VisualTokenizer, plan: Plan) -> Decoder:
    """Decodes clips, where they have one length, to as many frames as the model takes."""
    count = clip_frames(plan.source.clips)
    return Decoder(source, plan, None if count is None else tok.plan_frames(count).padded)


class _Feed:
    """Batches on their way through the model, in a thread of its own, and back."""

    def __init__(
        self,
        encoding: Encoding,
        feeding: ThreadPoolExecutor,
        memory: Memory,
        gathered: Gathered,
        beat: Beat,
        waits: Waits,
    ) -> None:
        self._encoding = encoding
        self._feeding = feeding
        self._memory = memory
        self._gathered = gathered
        self._beat = beat
        self._waits = waits
        self._idle_since = time.perf_counter()
        self._under_way: deque[tuple[Batch, Future[list[Encoded]]]] = deque()

    def give(self, batch: Batch) -> None:
        """Has it encoded; waits where the model has enough to do."""
        self._under_way.append((batch, self._feeding.submit(self._encode, batch)))
        if len(self._under_way) > BATCHES:
            began = time.perf_counter()
            self._take()
            self._waits.encode += time.perf_counter() - began

    def finish(self) -> None:
        """Until all are through."""
        while self._under_way:
            self._take()

    def drop(self) -> None:
        """What is left after an error is not begun."""
        for _, future in self._under_way:
            future.cancel()

    def _encode(self, batch: Batch) -> list[Encoded]:
        self._waits.decode += time.perf_counter() - self._idle_since
        try:
            return self._encoding(batch)
        finally:
            self._idle_since = time.perf_counter()

    def _take(self) -> None:
        batch, future = self._under_way.popleft()
        rows = 0
        for done in future.result():
            self._gathered.put(done)
            rows += len(done.rows)
        self._memory.give(batch.pixels)
        self._beat(rows)


def ahead(decoder: Decoder, decoders: int) -> Ahead:
    """How far to decode ahead, so that a batch is there in time and memory is bounded."""
    plan = decoder.plan
    sides = [decoder.settings.sides] if decoder.settings.size else []
    sides = list(plan.buckets) or sides
    if not sides:  # nobody knows how large pictures are
        return Ahead(1, decoders + 1)
    pixels = max(height * width for height, width in sides)
    bytes_each = 3 * pixels * (decoder.frames or 1) * len(plan.view_names)
    chunk = max(1, min(SAMPLES, CHUNK_BYTES // bytes_each))
    batches = -(-BATCHES * plan.batch // (chunk * len(plan.view_names)))
    most = max(decoders + 1, WAITING_BYTES // (chunk * bytes_each))
    return Ahead(chunk, min(decoders + batches, most))
