"""`vqtok tokenize`: a source to a data set of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from vqtok.commands import forecast
from vqtok.commands.jobs import go
from vqtok.commands.named import named_by
from vqtok.commands.progress import say
from vqtok.commands.setup import Setup, settings_from
from vqtok.errors import ConfigError, InputError
from vqtok.offline.job import DecodeIn, SourceSpec
from vqtok.offline.jobs import Asked, planned
from vqtok.offline.launch import Launch, launch
from vqtok.offline.named import called
from vqtok.offline.plan import ClipPlan, Options
from vqtok.offline.progress import allowed

__all__ = ["Launching", "Request", "run"]


@dataclass(frozen=True)
class Launching:
    """The options that say how a job runs; no result depends on them."""

    engine: str | None = None
    processes: int | None = None
    rank: str | None = None
    decoders: int | None = None
    max_failed: str | None = None
    sets: Sequence[str] = ()
    decode_in: str = "threads"

    def launch(self, device: str) -> Launch:
        """The engine; raises where an option cannot be."""
        allowed(self.max_failed, 1)
        return launch(self.engine, self.processes, self.rank, settings_from(self.sets), device)

    def checked_decode_in(self) -> DecodeIn:
        """Where samples are decoded; raises for another place."""
        found: Any = self.decode_in
        if found not in get_args(DecodeIn):
            raise ConfigError(f"--decode-in is threads or processes; got {found!r}")
        return cast("DecodeIn", found)


@dataclass(frozen=True)
class Request:
    """The options that say what is made."""

    sources: Sequence[str]
    out: str
    kind: str | None = None
    views: str = "center"
    what: str = "codes"
    quantized: bool = False
    format: str = "parquet"
    shard_size: int | None = None
    seed: int = 0
    buckets: str = ""
    frames: int | None = None
    stride: int = 1
    every: int | None = None
    scenes: str | None = None

    def clips(self) -> ClipPlan | None:
        """How videos are cut; None where no option says so."""
        scenes: Any = self.scenes
        if scenes not in (None, "frames", "seconds"):
            raise ConfigError(f"--scenes counts frames or seconds; got {scenes!r}")
        if self.frames is None and scenes is None:
            if self.stride != 1 or self.every is not None:
                raise ConfigError("--stride and --every are of clips: say how long with --frames")
            return None
        return ClipPlan(frames=self.frames, stride=self.stride, every=self.every, scenes=scenes)

    def asked(self, setup: Setup, launching: Launching) -> Asked:
        """The same for `vqtok.offline`."""
        if self.out.lower().startswith("memory:"):
            raise InputError(
                f"'{self.out}' is the memory of this process and ends with it; name a folder, or "
                "a URL of a store that lasts"
            )
        named, clips = named_by(setup), self.clips()
        setup = replace(setup, name=named.name)
        what: Any = self.what
        options = Options(
            name=called(named.name),
            views=tuple(view.strip() for view in self.views.split(",") if view.strip()),
            seed=self.seed,
            what=what,
            quantized=self.quantized,
            format=self.format,
            batch=setup.batch_size,
            shard_size=self.shard_size,
            clips=clips,
        )
        return Asked(
            source=SourceSpec(tuple(self.sources), self.kind),
            out=self.out,
            named=named,
            load=lambda device, precision: replace(
                setup, device=device, precision=precision
            ).load(),
            options=options,
            buckets=self.buckets,
            device=setup.device,
            decoders=launching.decoders,
            decode_in=launching.checked_decode_in(),
            precision=setup.precision,
        )


def run(
    setup: Setup, request: Request, launching: Launching, *, dry_run: bool, as_json: bool
) -> int:
    """Makes the data set, or says what that would take; returns the exit status."""
    setup.check()
    chosen = launching.launch(setup.device)
    tell = say if chosen.leads else _nothing
    job = planned(request.asked(setup, launching), chosen, tell)
    if dry_run:
        return forecast.run(job, as_json=as_json) if chosen.leads else 0
    if job.plan.batch != setup.batch_size and chosen.leads:
        say("pictures of open sizes and whole clips go through the model one by one")
    again = "The same command"
    return go(job, chosen, launching.max_failed, again=again, as_json=as_json)


def _nothing(message: str) -> None:
    """For workers whose leader says it."""
