"""Data sets of tokens from Python: the same jobs as `vqtok tokenize` and `vqtok retry-failed`.

from vqtok.offline import open_tokens, tokenize

manifest = tokenize("photos/", "tokens/", "photo-tiny", views=["center", "hflip"])
print(manifest.rows, manifest.failed, manifest.codes.entropy)
rows = open_tokens("tokens/", expect="photo-tiny")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vqtok.backends import AUTO, check_backend
from vqtok.errors import ConfigError
from vqtok.offline.check import verify
from vqtok.offline.finish import finalize
from vqtok.offline.here import here, is_settled, retry_job
from vqtok.offline.job import DecodeIn, SourceSpec
from vqtok.offline.jobs import Asked, MaxFailed, carry_out, planned
from vqtok.offline.launch import launch
from vqtok.offline.named import called
from vqtok.offline.plan import ClipPlan, Options, What
from vqtok.offline.status import Status, status
from vqtok.offline.store import open_store
from vqtok.wanted import Wanted

if TYPE_CHECKING:
    from vqtok.offline.engines import Engine
    from vqtok.offline.manifest import Manifest
    from vqtok.offline.progress import Progress
    from vqtok.resize import Size
    from vqtok.sources import Paths
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["job_status", "retry_failed", "tokenize", "verify_tokens"]

Watch = Callable[["Progress"], None]


def _nothing(progress: Progress) -> None:
    """For whoever does not watch."""


def tokenize(
    source: Paths,
    out: str | os.PathLike[str],
    tokenizer: str | os.PathLike[str] | VisualTokenizer = "photo-tiny",
    *,
    views: Sequence[str] = ("center",),
    what: What = "codes",
    quantized: bool = False,
    format: str = "parquet",
    batch: int = 32,
    shard_size: int | None = None,
    seed: int = 0,
    buckets: str | Sequence[Size] = (),
    clips: ClipPlan | None = None,
    kind: str | None = None,
    engine: str | Engine | None = None,
    processes: int | None = None,
    rank: str | None = None,
    engine_settings: Mapping[str, Any] | None = None,
    decoders: int | None = None,
    decode_in: DecodeIn = "threads",
    device: str | None = None,
    precision: str | None = None,
    backend: str = AUTO,
    max_failed: MaxFailed = None,
    watch: Watch = _nothing,
) -> Manifest:
    """Makes a data set of a source, or goes on with one that was stopped.

    source      a folder, a pattern such as "train-*.tar", a URL, or several of these
    out         a folder or an fsspec URL, outside the source
    tokenizer   a name as `VisualTokenizer.from_pretrained` takes it; or a tokenizer, which stays in
                this process: then there is one worker, on the tokenizer's own device
    views       such as "center", "hflip", "tencrop@1.1", "random:4": rows of every sample
    what        "codes", "latents" or "both"; quantized=True: latents are the codes' own vectors
    format      "parquet", "webdataset", "bin" or "npy"
    batch       rows that go through the model together; a part of the plan
    shard_size  samples a shard; None for about 64 shards
    buckets     sizes, or a text such as "auto:256x256@32", of which each picture takes the nearest
    clips       how videos are cut; None for whole ones
    kind        of source, where the names of its files do not tell
    engine      "local", "ranks" or "ray"; None for "ranks" under a launcher, else "local"
    processes   workers of the engine "local"; rank such as "0/8" is for "ranks"; engine_settings
                are for any, such as {"address": "auto", "actors": 8} for "ray"
    decoders    threads that decode for one worker; None for its share of the cores
    decode_in   "threads", or "processes" for files that bring decoders down: such a file is listed
    precision   of ids; None for that of the tokenizer's folder
    backend     of a tokenizer that is named: "torch", "onnx", or "auto" for what its folder is for
    max_failed  rows that may fail, such as 10 or "1%": beyond it the job stops with an InputError
    watch       called with a `Progress` after each shard, and now and then between

    Another source, tokenizer or setting than that of a data set that is there already is a
    `MismatchError`. A sample that cannot be made is left out and listed. Where nothing of a shard
    can be read, the source is taken to be gone, a `LoadError`, unless max_failed is "100%".
    """
    named, load, name = _given(tokenizer, precision, backend)
    options = Options(name, views, seed, what, quantized, format, batch, shard_size, clips=clips)
    asked = Asked(
        SourceSpec(_paths(source), kind),
        os.fspath(out),
        named,
        load,
        options,
        buckets,
        device,
        decoders,
        decode_in,
        precision,
    )
    place = "cpu" if named is None else device
    chosen = launch(engine, processes, rank, engine_settings, place)
    return carry_out(planned(asked, chosen), chosen, max_failed=max_failed, watch=watch)


def retry_failed(
    out: str | os.PathLike[str],
    source: Paths | None = None,
    tokenizer: str | os.PathLike[str] | VisualTokenizer | None = None,
    *,
    kind: str | None = None,
    engine: str | Engine | None = None,
    processes: int | None = None,
    rank: str | None = None,
    engine_settings: Mapping[str, Any] | None = None,
    decoders: int | None = None,
    decode_in: DecodeIn = "threads",
    device: str | None = None,
    backend: str = AUTO,
    max_failed: MaxFailed = None,
    watch: Watch = _nothing,
) -> Manifest:
    """Tries the samples of a finished data set once more that failed; other rows stay as they are.

    source, tokenizer  where they are now; by default as the job had them (job.json)
    """
    spec = None if source is None else SourceSpec(_paths(source), kind)
    check_backend(backend)
    given: Any = tokenizer
    if isinstance(tokenizer, str | os.PathLike):
        given = Wanted(name=os.fspath(tokenizer), backend=backend)
    elif tokenizer is not None:
        _check_own(tokenizer, None, backend)
    elif backend != AUTO:
        raise ConfigError(
            f"backend={backend!r} is of a tokenizer that is named here; without one, what the job "
            "had is taken"
        )
    found = here(os.fspath(out), source=spec, tokenizer=given, device=device)
    held = tokenizer is not None and not isinstance(tokenizer, str | os.PathLike)
    chosen = launch(engine, processes, rank, engine_settings, "cpu" if held else device)
    if is_settled(found):
        return finalize(found.store)
    job = retry_job(found, chosen, decoders, decode_in)
    return carry_out(job, chosen, max_failed=max_failed, watch=watch)


def job_status(out: str | os.PathLike[str]) -> Status:
    """How far a job is, while it runs or afterwards."""
    return status(open_store(os.fspath(out)))


def verify_tokens(out: str | os.PathLike[str], *, full: bool = False) -> list[str]:
    """A sentence for each fault of a data set; none where it is whole.

    full  read all files and compare their sha256; without it, names and sizes
    """
    return verify(open_store(os.fspath(out)), full)


def _given(
    tokenizer: str | os.PathLike[str] | VisualTokenizer,
    precision: str | None,
    backend: str,
) -> tuple[Wanted | None, Callable[[str, str | None], VisualTokenizer], str]:
    """Its name where it has one, how it is loaded, and what a plan calls it."""
    check_backend(backend)
    if isinstance(tokenizer, str | os.PathLike):
        named = Wanted(name=os.fspath(tokenizer), backend=backend)
        return named, named.load, called(named.name)
    _check_own(tokenizer, precision, backend)
    folder = getattr(tokenizer.codec, "folder", None) or "a tokenizer"
    return None, lambda device, precision: tokenizer, called(str(folder))


def _check_own(tokenizer: VisualTokenizer, precision: str | None, backend: str) -> None:
    """Raises where an object is to be what it is not."""
    if precision not in (None, tokenizer.precision):
        raise ConfigError(
            f"the tokenizer computes with {tokenizer.precision}; got precision={precision!r}. Load "
            "it with that precision, or give its name"
        )
    if backend != AUTO:
        raise ConfigError(
            f"the tokenizer runs on {tokenizer.codec.runs_on} already; got backend={backend!r}. "
            "Load it with that backend, or give its name"
        )


def _paths(source: Paths) -> tuple[str, ...]:
    if isinstance(source, str | os.PathLike):
        return (os.fspath(source),)
    return tuple(os.fspath(path) for path in source)
