"""From what somebody asks for to a job, and from a job to a finished data set."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.offline.buckets import parse_buckets
from vqtok.offline.engines.ranks import Ranks
from vqtok.offline.finish import finalize
from vqtok.offline.formats import FORMATS
from vqtok.offline.job import DecodeIn, Job, SourceSpec
from vqtok.offline.ledger import PLAN, failures, read_plan, read_records, todo
from vqtok.offline.named import Loader, Origin, absolute, remember
from vqtok.offline.plan import Options, Plan, What, differences, make_plan
from vqtok.offline.progress import Progress, allowed
from vqtok.offline.retries import has_tried
from vqtok.offline.shard_loop import device_of
from vqtok.offline.store import Store, open_store
from vqtok.offline.views import parse_views
from vqtok.offline.worker import open_spec
from vqtok.sources.labels import classes_of, doubts, told
from vqtok.sources.remote import place
from vqtok.sources.spans import Spans
from vqtok.wanted import Wanted, on_cpu

if TYPE_CHECKING:
    from vqtok.offline.launch import Launch
    from vqtok.offline.manifest import Manifest
    from vqtok.offline.records import Record
    from vqtok.resize import Size
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Asked", "MaxFailed", "carry_out", "planned"]

MaxFailed = str | int | float | None

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A data set to be made.

    out      a folder or an fsspec URL
    named    the tokenizer; None where there is only the object that `load` gives
    load     makes it on a device in a precision, with the preprocessing that is wanted
    buckets  sizes, or a text for `parse_buckets`
    device   None or "auto" for an accelerator where there is one
    """

    source: SourceSpec
    out: str
    named: Wanted | None
    load: Callable[[str, str | None], VisualTokenizer]
    options: Options
    buckets: str | Sequence[Size] = ()
    device: str | None = None
    decoders: int | None = None
    decode_in: DecodeIn = "threads"
    precision: str | None = None

    def check(self) -> None:
        """Raises where something cannot be that takes no time to see."""
        options = self.options
        if options.what not in get_args(What):
            raise ConfigError(f"what is one of codes, latents and both; got {options.what!r}")
        if self.decoders is not None and self.decoders < 1:
            raise ConfigError(f"decoders is a whole number, at least 1; got {self.decoders!r}")
        if self.decode_in not in get_args(DecodeIn):
            raise ConfigError(f"decode_in is 'threads' or 'processes'; got {self.decode_in!r}")
        parse_views(options.views)
        FORMATS[options.format]
        _check_place(self.out, self.source.paths)


def planned(asked: Asked, launch: Launch, tell: Callable[[str], None] | None = None) -> Job:
    """The job, whose plan is that of the data set where there is one and it is the same.

    Nothing is written.

    tell  called with what is worth knowing of the source: frames that are in no clip, classes,
          folders that may be none; without it, this is logged, and the last a warning
    """
    asked.check()
    tok, device = _loaded(asked, launch)
    options = asked.options._replace(buckets=_buckets(asked.buckets, tok))
    source = open_spec(asked.source, options.clips)
    plan = _stated(make_plan(source, tok, options), asked.precision)
    _tell(source, plan, tell)
    store = _existing(asked.out)
    if store is not None and store.exists(PLAN):
        plan = _agreed(store, plan)
    return Job(
        out=asked.out,
        source=asked.source,
        load=Loader(asked.named, tok if launch.here else None, plan),
        plan=plan,
        decoders=asked.decoders or launch.decoders,
        device=device,
        decode_in=asked.decode_in,
        opened=source,
    )


def carry_out(
    job: Job,
    launch: Launch,
    *,
    max_failed: MaxFailed = None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Manifest:
    """Makes what is left to do of a job's attempt, and finishes the data set.

    max_failed  a number of rows, or a share of all that are planned, in a retry too; where more
                fail, it stops with an InputError, and what is done stays. Where all may fail, a
                shard of which nothing can be read is one without rows, too, and no LoadError
    """
    store = open_store(job.out, create=True)
    if not store.put_if_absent(PLAN, job.plan.to_bytes()):
        job = replace(job, plan=_agreed(store, job.plan))
    if isinstance(job.load, Loader):
        remember(store, Origin.of(job.source.paths, job.source.kind, job.load.named))
    if not launch.here:
        job = _anywhere(job)
    together = job.attempt > 0 and isinstance(launch.engine, Ranks)
    if together and has_tried(store, job.attempt, os.environ):
        return finalize(store)
    records = read_records(store, drop_torn=True)
    left = todo(job.plan, records, job.attempt)
    count, before = _so_far(job, records, left)
    total = sum(map(job.plan.planned, range(job.plan.shards)))
    limit = allowed(max_failed, total)
    job = replace(job, all_may_fail=limit is not None and limit >= total)
    progress = Progress(job.plan, before, planned=count, limit=limit, told=watch)
    progress.check()
    launch.engine.run(job, left, progress)
    return finalize(store)


# --- inside ---------------------------------------------------------------------------------------


def _tell(source: Source, plan: Plan, tell: Callable[[str], None] | None) -> None:
    """What is left out, and which classes there are; a warning where folders may be none."""
    videos = source
    if isinstance(source, Spans):
        videos = source.videos
        if source.note:
            (tell or _log.warning)(source.note)
    if plan.label != "text":
        return
    classes = classes_of(videos)
    if classes:
        (tell or _log.info)(told(classes) + (" videos" if videos is not source else ""))
    for doubt in doubts(videos):
        if tell:
            tell(doubt)
        else:
            warnings.warn(doubt, stacklevel=3)


def _anywhere(job: Job) -> Job:
    """For processes that may have another working directory."""
    paths = tuple(map(absolute, job.source.paths))
    load = job.load.anywhere() if isinstance(job.load, Loader) else job.load
    return replace(job, out=absolute(job.out), source=replace(job.source, paths=paths), load=load)


def _so_far(
    job: Job, records: Sequence[Record], left: Sequence[int]
) -> tuple[int, Sequence[Record]]:
    """The rows that this attempt is about, and what is there, with what is missing to this day."""
    if job.attempt:
        lost = {(record.shard, record.attempt): record.lost for record in records}
        return sum(lost[shard, job.attempt - 1] for shard in left), []
    missing = failures(records)
    before = [
        record.model_copy(update={"failed": missing.get(record.shard, [])})
        for record in records
        if record.attempt == 0
    ]
    again = [record.model_copy(update={"failed": []}) for record in records if record.attempt]
    return sum(map(job.plan.planned, range(job.plan.shards))), [*before, *again]


def _loaded(asked: Asked, launch: Launch) -> tuple[VisualTokenizer, str]:
    """The tokenizer to plan with, which this process goes on with where it makes shards."""
    if asked.named is None:
        if not launch.here:
            raise ConfigError(
                "a tokenizer that is given as an object cannot go to other processes; save it and "
                "give the folder's name, or make the data set in this process: engine='local' "
                "with processes=1"
            )
        tok = asked.load("", asked.precision)
        return tok, str(tok.device)
    device = asked.named.device(asked.device)
    if not launch.here:
        return asked.load("cpu", on_cpu(asked.precision)), device
    seat = getattr(launch.engine, "place", None)
    place = device_of(device, 0 if seat is None else seat.local)
    return asked.load(place, asked.precision), device


def _stated(plan: Plan, precision: str | None) -> Plan:
    """With the precision that was asked for, which a look on the CPU may not have."""
    if precision in (None, plan.tokenizer.precision):
        return plan
    made = plan.tokenizer.model_copy(update={"precision": precision})
    return plan.model_copy(update={"tokenizer": made})


def _buckets(given: str | Sequence[Size], tok: VisualTokenizer) -> Sequence[Size]:
    if not isinstance(given, str):
        return given
    return parse_buckets(given, tok.settings.stride) if given else ()


def _agreed(store: Store, plan: Plan) -> Plan:
    """The plan that is there, if this one comes to the same."""
    there = read_plan(store)
    found = differences(there, plan)
    if found:
        raise MismatchError(
            f"'{store.url}' was begun with another plan: {'; '.join(found)}. Ask for what was "
            "planned to go on with it, or choose another place for this one"
        )
    return there


def _existing(out: str) -> Store | None:
    try:
        return open_store(out)
    except LoadError:  # it is to be made
        return None


def _check_place(out: str, paths: Sequence[str]) -> None:
    """Refuses a place that holds something else, and one inside the source."""
    store = _existing(out)
    if store is not None and not store.exists(PLAN) and not store.is_empty():
        raise InputError(
            f"'{out}' holds other files and no {PLAN}, so it is no data set to go on with; name a "
            "new folder"
        )
    where = place(out)
    if not isinstance(where, Path):
        return
    for path in paths:
        root = place(path)
        if not isinstance(root, Path) or not root.is_dir():
            continue
        if where.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"'{out}' lies inside the source '{path}' and would become part of it; choose a "
                "place outside"
            )
