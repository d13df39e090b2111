"""A data set with what it was made of, for those who look at it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vqtok.errors import InputError, LoadError
from vqtok.offline.job import DecodeIn, Job, SourceSpec
from vqtok.offline.ledger import failures, next_attempt, read_plan, read_records, todo
from vqtok.offline.named import JOB, Loader, recall
from vqtok.offline.plan import Plan
from vqtok.offline.store import Store, open_store
from vqtok.wanted import Wanted

if TYPE_CHECKING:
    from vqtok.offline.launch import Launch
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Here", "here", "is_settled", "retry_job"]


@dataclass(frozen=True)
class Here:
    """A data set, its source and its tokenizer, where they are now.

    source  None: nobody says where it is
    loader  None likewise
    """

    store: Store
    plan: Plan
    source: SourceSpec | None
    loader: Loader | None
    device: str

    def spec(self) -> SourceSpec:
        """The source; an `InputError` where nobody says which it is."""
        if self.source is None:
            raise InputError(f"{_untold(self.store)}: say where its source is with --source")
        return self.source

    def open(self) -> Source:
        """The same, opened, with its videos cut as the plan has it."""
        from vqtok.offline.worker import open_spec

        spec = self.spec()
        try:
            return open_spec(spec, self.plan.source.clips)
        except LoadError as error:
            raise LoadError(
                f"'{self.store.url}' was made of {', '.join(map(repr, spec.paths))}, and that "
                f"cannot be read here: {error}. Say where it is with --source"
            ) from error

    def tokenizer(self, device: str | None = None) -> VisualTokenizer:
        """The tokenizer, with the plan's preprocessing and precision."""
        return self._loaded(lambda loader: loader(device or self.device))

    def look(self) -> VisualTokenizer:
        """The tokenizer on the CPU, where others are to make shards with it."""
        return self._loaded(lambda loader: loader.look())

    def _loaded(self, load: Callable[[Loader], VisualTokenizer]) -> VisualTokenizer:
        if self.loader is None:
            raise InputError(f"{_untold(self.store)}: say which tokenizer it is with --tokenizer")
        try:
            return load(self.loader)
        except LoadError as error:
            raise LoadError(
                f"the tokenizer of '{self.store.url}' cannot be loaded here: {error}. Say where it "
                "is with --tokenizer"
            ) from error


def here(
    out: str,
    *,
    source: SourceSpec | None = None,
    tokenizer: Wanted | VisualTokenizer | None = None,
    device: str | None = None,
) -> Here:
    """A data set; what is not given is as its job.json has it."""
    store = open_store(out)
    plan, origin = read_plan(store), recall(store)
    if source is None and origin is not None:
        source = SourceSpec(origin.sources(), origin.kind)
    if tokenizer is None and origin is not None:
        tokenizer = origin.named()
    loader = None
    if isinstance(tokenizer, Wanted):
        loader, device = Loader(tokenizer, None, plan), tokenizer.device(device)
    elif tokenizer is not None:
        loader, device = Loader(None, tokenizer, plan), str(tokenizer.device)
    return Here(store, plan, source, loader, device or "cpu")


def is_settled(found: Here) -> bool:
    """Whether nothing has failed; an `InputError` before the job is done."""
    records = read_records(found.store)
    left, shards = len(todo(found.plan, records)), found.plan.shards
    if left:
        raise InputError(
            f"'{found.store.url}' is not finished: {shards - left} of {shards} shards are there. "
            "Start its job again first, then make up for what failed"
        )
    return not failures(records)


def retry_job(
    found: Here, launch: Launch, decoders: int | None = None, decode_in: DecodeIn = "threads"
) -> Job:
    """What makes up for the samples that failed."""
    opened = found.open()  # here, for a clear word on what is missing
    tok = found.tokenizer() if launch.here else found.look()
    named = None if found.loader is None else found.loader.named
    return Job(
        out=found.store.url,
        source=found.spec(),
        load=Loader(named, tok if launch.here else None, found.plan),
        plan=found.plan,
        decoders=decoders or launch.decoders,
        device=found.device,
        attempt=next_attempt(read_records(found.store)),
        decode_in=decode_in,
        opened=opened,
    )


def _untold(store: Store) -> str:
    return f"'{store.url}' does not tell what it was made of, as it has no such entry in {JOB}"
