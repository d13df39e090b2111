"""`vqtok eval`: what a tokenizer is worth on a set of pictures or clips."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import typer

from vqtok.batches import WAITING
from vqtok.commands.outputs import check_lines
from vqtok.commands.progress import progress
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Failures
from vqtok.errors import ConfigError, ImageError, LoadError, MismatchError, VqtokError
from vqtok.evaluation import Evaluation, Metrics, WeightFiles, choose
from vqtok.evaluation import run as through
from vqtok.evaluation.report import SCHEMA, device_name, table, versions
from vqtok.files import whole
from vqtok.hub import of_run
from vqtok.precision import check_precision
from vqtok.preprocess import Prepared, Preprocess, prepare
from vqtok.sources import Source, held_out, open_source
from vqtok.tokenizer import VisualTokenizer

__all__ = ["Request", "Samples", "Skipped", "run"]


@dataclass(frozen=True)
class Request:
    """The options that say what is measured, and on what."""

    data: tuple[str, ...]
    kind: str | None = None
    hold_out: int = 0
    limit: int | None = None
    frames: int | None = None
    frame_stride: int = 1
    metrics: str | None = None
    weights: WeightFiles = field(default_factory=WeightFiles)

    def names(self) -> list[str] | None:
        """The metrics that are asked for by name."""
        return None if self.metrics is None else [n for n in self.metrics.split(",") if n]

    def indices(self, source: Source) -> list[int]:
        """The samples to take."""
        chosen = range(len(source))
        if self.hold_out:
            chosen = held_out(source.keys, self.hold_out)[1].tolist()
        return list(chosen)[: self.limit]


class Skipped(Failures):
    """Counts by their kind, too."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.kinds: Counter[str] = Counter()

    def add(self, error: VqtokError) -> None:
        """See `Failures.add`."""
        super().add(error)
        self.kinds[type(error).__name__] += 1


def run(setup: Setup, request: Request, output: str | None, *, as_json: bool) -> int:
    """Prints a table, or JSON, and writes the latter to `output`; returns the exit status."""
    setup = replace(setup, name=of_run(setup.name))
    setup.check()
    if output is not None:
        check_lines(output)
    source = open_source(list(request.data), request.kind)
    indices = request.indices(source)
    choose(request.names(), is_video=source.is_video)
    tok = setup.load()
    samples = Samples.of(tok, source, request)
    metrics = Metrics.load(
        request.names(), is_video=tok.is_video, weights=request.weights, device=tok.model.device
    )
    skipped = Skipped(len(indices))
    evaluation = _measure(setup, tok, metrics, samples, indices, skipped)
    if evaluation.count:
        origin = {
            **_set(samples, [source.keys[index] for index in indices], skipped),
            **_machine(setup, tok, metrics),
        }
        _write(evaluation.result(), origin, output, as_json=as_json)
    return skipped.status()


class Samples(NamedTuple):
    """A source through a tokenizer's preprocessing."""

    source: Source
    settings: Preprocess
    frames: int  # 0 for pictures
    stride: int

    @classmethod
    def of(cls, tok: VisualTokenizer, source: Source, request: Request) -> Samples:
        """Where both are about pictures, or both about clips."""
        if source.is_video != tok.is_video:
            takes, holds = ("clips", "pictures") if tok.is_video else ("pictures", "clips")
            hint = "; folders of frames are clips with --kind clips" if tok.is_video else ""
            raise MismatchError(f"the tokenizer takes {takes}, and the data are {holds}{hint}")
        if not tok.is_video:
            if request.frames is not None or request.frame_stride != 1:
                raise ConfigError("--frames and --frame-stride are for a tokenizer of clips")
            return cls(source, tok.settings, 0, 1)
        frames = request.frames or tok.model.config.sample_frames
        padded = tok.plan_frames(frames).padded
        if padded != frames:
            raise ConfigError(
                f"--frames={frames} fills no whole tokens; the next number that does is {padded}"
            )
        return cls(source, tok.settings, frames, request.frame_stride)

    def read(self, index: int) -> Prepared:
        """(h, w, 3) of a picture, (t, h, w, 3) of the middle of a clip."""
        sample = self.source[index]
        name = f"the sample {sample.key!r}"
        if not self.frames:
            return prepare(sample.data, self.settings, name=name)
        length, taken = sample.data.length, (self.frames - 1) * self.stride + 1
        if length < taken:
            raise ImageError(
                f"{name} has {length} frames; {self.frames} of them, {self.stride} apart, take "
                f"{taken}"
            )
        clip = sample.data.frames((length - taken) // 2, self.frames, self.stride)
        seen = [prepare(frame, self.settings, name=name) for frame in clip]
        return Prepared(np.stack([frame.pixels for frame in seen]), seen[0].size)


def _measure(
    setup: Setup,
    tok: VisualTokenizer,
    metrics: Metrics,
    samples: Samples,
    indices: Sequence[int],
    skipped: Skipped,
) -> Evaluation:
    """Places count the samples that could be read.

    What the policy extend adds goes through the model, and counts in no figure.
    """
    quantizer = tok.model.quantize
    evaluation = Evaluation(quantizer.codebook_size, quantizer.depth, metrics)
    with progress(len(indices), "evaluate", to_stdout=False) as advance:
        for taken, read in _runs(samples, indices, skipped, 4 * setup.batch_size):
            for places, seen in _batches(read, evaluation.count, setup.batch_size):
                x = torch.from_numpy(seen.pixels).movedim(-1, 1).contiguous()
                done = through(tok.model, x, check_precision(tok.precision))
                height, width = seen.size
                pixels = x[..., :height, :width]
                back = cast("torch.Tensor", done.reconstruction)[..., :height, :width]
                evaluation.add(pixels, back, done.codes, done.e, done.q, places=places)
            advance(taken)
    return evaluation


def _runs(
    samples: Samples, indices: Sequence[int], skipped: Skipped, most: int
) -> Iterator[tuple[int, list[Prepared]]]:
    """What fits into memory of the samples, each with the number of indices it took."""
    read: list[Prepared] = []
    taken = held = 0
    for index in indices:
        taken += 1
        try:
            read.append(samples.read(index))
            held += read[-1].pixels.nbytes
        except (ImageError, LoadError) as error:
            skipped.add(error)
        if taken == most or held >= WAITING:
            yield taken, read
            read, taken, held = [], 0, 0
    if taken:
        yield taken, read


def _batches(read: list[Prepared], start: int, size: int) -> Iterator[tuple[list[int], Prepared]]:
    """Places and pixels of equal shape and size, at most `size` at a time; places from `start`."""
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for at, seen in enumerate(read):
        alike[seen.pixels.shape + seen.size].append(at)
    for group in alike.values():
        for first in range(0, len(group), size):
            rows = group[first : first + size]
            pixels = np.stack([read[row].pixels for row in rows])
            yield [start + row for row in rows], Prepared(pixels, read[rows[0]].size)


def _set(samples: Samples, keys: Sequence[str], skipped: Skipped) -> dict[str, Any]:
    """What was looked at, whatever the machine calls it."""
    joined = "\0".join(sorted(keys)).encode("utf-8", "surrogateescape")
    found: dict[str, Any] = {
        "samples": {
            "chosen": len(keys),
            "of": len(samples.source),
            "skipped": skipped.count,
            "skipped_by_error": dict(skipped.kinds),
            "keys_sha256": hashlib.sha256(joined).hexdigest(),
        },
        "preprocessing": samples.settings.model_dump(mode="json"),
    }
    if samples.frames:
        found["clips"] = {"frames": samples.frames, "stride": samples.stride, "from": "the middle"}
    return found


def _machine(setup: Setup, tok: VisualTokenizer, metrics: Metrics) -> dict[str, Any]:
    """What looked, and how."""
    return {
        "tokenizer": {
            "fingerprint": tok.fingerprint.to_dict(),
            "codebook_size": tok.model.quantize.codebook_size,
            "codes_per_token": max(1, tok.model.quantize.depth),
        },
        "precision": tok.precision,
        "device": device_name(tok.model.device),
        "weights": dict(metrics.files),
        "versions": versions(),
    }


def _write(
    result: dict[str, Any], origin: dict[str, Any], output: str | None, *, as_json: bool
) -> None:
    text = json.dumps({"schema": SCHEMA, **result, "provenance": origin}, indent=2) + "\n"
    if output is not None:
        with whole(Path(output)) as file:
            file.write(text.encode())
    typer.echo(text if as_json else "\n".join(table(result)), nl=not as_json)
