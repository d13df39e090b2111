"""What a job will take, from some samples of its source that are really made: for `--dry-run`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vqtok.errors import ConfigError, MissingExtraError
from vqtok.offline.batching import Batch, Memory
from vqtok.offline.decode import Decoded, Decoder
from vqtok.offline.formats import FORMATS
from vqtok.offline.gather import Gathered
from vqtok.offline.job import Job
from vqtok.offline.latents import Encoding
from vqtok.offline.pipeline import decoder_for, is_pinned, laid
from vqtok.offline.plan import Plan, clip_frames
from vqtok.offline.records import Failure
from vqtok.offline.rows import Rows
from vqtok.offline.wholes import Wholes
from vqtok.offline.worker import check_planned, source_of
from vqtok.sources import Sample, Source
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import ClipCodec

__all__ = ["Measured", "measure", "spread", "written"]

VIDEOS = 16  # whole ones, which take long each


@dataclass(frozen=True)
class Measured:
    """Figures of some samples, and what follows for all.

    samples   of the source
    looked_at how many were tried, spread evenly over it
    views     rows that a sample gives
    decode    samples a second that one core decodes; 0 where none could be
    encode    rows a second that the device encodes; 0 likewise
    decoders  threads or processes that the job has
    bytes     by format, of all rows as they are written; what cannot hold them is left out
    failed    those of the samples that failed, with reasons
    enlarged  of the rows, those that show fewer pixels than they have: they were blown up
    """

    samples: int
    looked_at: int
    views: int
    decode: float
    encode: float
    decoders: int
    bytes: dict[str, int]
    failed: list[Failure]
    rows: int
    enlarged: int

    @property
    def decoders_needed(self) -> float:
        """Cores that decode as fast as the device encodes."""
        return self.encode / (self.decode * self.views) if self.decode else 0.0

    @property
    def seconds(self) -> float:
        """For all samples on one such device: what takes longer of decoding and encoding."""
        if not self.rows:
            return 0.0
        decoding = self.samples / (self.decode * self.decoders)
        return max(decoding, self.samples * self.views / self.encode)

    @property
    def hours(self) -> float:
        """See `seconds`."""
        return self.seconds / 3600

    @property
    def share_failed(self) -> float:
        """Of the samples that were tried."""
        return len(self.failed) / self.looked_at


def measure(job: Job, samples: int = 256) -> Measured:
    """Decodes and encodes up to so many samples, spread over the source, and writes them to memory.

    Whole videos take long each: of these, 16 at the most.
    """
    plan, source, tok = job.plan, source_of(job), job.load(job.device)
    check_planned(plan, source, tok)
    whole = tok.is_video and clip_frames(plan.source.clips) is None
    wanted = spread(len(source), min(samples, VIDEOS) if whole else samples)
    picked = _Picked(source, wanted)
    trial = _Trial(decoder_for(picked, tok, plan), tok, plan)
    gathered = trial.videos(trial.wholes) if trial.wholes else trial.samples()
    rows, tried = gathered.rows(), len(wanted)
    shown = zip(rows.boxes.tolist(), rows.sizes.tolist(), strict=True)
    return Measured(
        samples=len(source),
        looked_at=tried,
        views=len(plan.view_names),
        decode=(tried - trial.unread) / trial.decoding if trial.decoding else 0.0,
        encode=trial.encoded / trial.encoding if trial.encoding else 0.0,
        decoders=job.decoders,
        bytes=written(rows, plan, len(source) * len(plan.view_names)),
        failed=[
            each.model_copy(update={"index": wanted[each.index]}) for each in gathered.failures
        ],
        rows=len(rows),
        enlarged=sum(box[2] < size[-2] or box[3] < size[-1] for box, size in shown),
    )


def spread(count: int, wanted: int) -> list[int]:
    """The numbers of at most `wanted` of so many samples, evenly apart."""
    wanted = min(count, wanted)
    return [number * count // wanted for number in range(wanted)]


class _Picked:
    """Some samples of a source, as a source."""

    def __init__(self, source: Source, wanted: Sequence[int]) -> None:
        self._source, self._wanted = source, wanted
        self.keys = [source.keys[index] for index in wanted]
        self.is_video = source.is_video

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Sample:
        return self._source[self._wanted[index]]


class _Trial:
    """Samples through decoder and model one after the other, with a watch on each."""

    def __init__(self, decoder: Decoder, tok: VisualTokenizer, plan: Plan) -> None:
        self._decoder = decoder
        self._plan = plan
        codec = tok.codec
        self._encode = Encoding(codec, plan)
        self.wholes: Wholes | None = None
        if isinstance(codec, ClipCodec) and decoder.frames is None:
            self.wholes = Wholes(decoder, codec, self._encode)
        self._memory = Memory(pinned=is_pinned(tok))
        self._gathered = Gathered(plan, range(len(decoder.source)))
        self.decoding = self.encoding = 0.0  # seconds
        self.encoded = 0  # rows, zeros in their places among them
        self.unread = 0
        self._warm = False

    def samples(self) -> Gathered:
        """Pictures, and clips of one length."""
        for batch in laid(self._decoded(), self._gathered, self._plan, self._memory):
            self._through(batch)
        return self._gathered

    def _decoded(self) -> Iterator[Decoded | Failure]:
        for number in range(len(self._decoder.source)):
            began = time.thread_time()
            found = self._decoder.one(number)
            self.decoding += time.thread_time() - began
            self.unread += isinstance(found, Failure)
            yield found

    def videos(self, wholes: Wholes) -> Gathered:
        """Whole ones: the model's share is the time in which it did not wait for frames."""
        began = time.perf_counter()
        for number in range(len(self._decoder.source)):
            wholes.one(number, self._gathered, lambda: None)
        wholes.close()
        self.encoding = time.perf_counter() - began - wholes.waited
        self.decoding = wholes.busy
        self.unread = len(self._gathered.failures)
        self.encoded = len(self._gathered.rows())
        return self._gathered

    def _through(self, batch: Batch) -> None:
        if not self._warm:  # the first one of a kind takes longer
            self._encode(batch)
            self._warm = True
        began = time.perf_counter()
        for done in self._encode(batch):
            self._gathered.put(done)
        self.encoding += time.perf_counter() - began
        self.encoded += len(batch.pixels)
        self._memory.give(batch.pixels)


def written(rows: Rows, plan: Plan, planned: int) -> dict[str, int]:
    """By format, as much as all rows will take if they are like these."""
    found = {}
    for name in FORMATS:
        try:
            its = plan.model_copy(update={"format": name})
            FORMATS[name].check(its)
            files = FORMATS[name].write(rows, its, "00000")
        except (ConfigError, MissingExtraError):
            continue
        if len(rows):
            found[name] = sum(map(len, files.values())) * planned // len(rows)
    return found
