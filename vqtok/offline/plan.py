"""What a job makes of a source, written down before it starts: `plan.json`.

A plan fixes everything that the bytes of a data set depend on, and nothing that they do not: which
machine, how many processes and which folder it lies in stay out. Equal plans have equal hashes,
and work that was planned otherwise is refused. Importing this module brings no torch.
"""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vqtok.errors import ConfigError, InputError, LoadError, VqtokError
from vqtok.offline.stored import canonical
from vqtok.types import LatentCodec, code_dtype

if TYPE_CHECKING:
    from vqtok.sources import Source
    from vqtok.tokenizer import VisualTokenizer

__all__ = [
    "SCHEMA",
    "ClipPlan",
    "Options",
    "Plan",
    "SourcePlan",
    "TokenizerPlan",
    "clip_frames",
    "default_shard_size",
    "differences",
    "kind_of",
    "kind_of_label",
    "label_of",
    "listing_of",
    "make_plan",
    "plan_with",
]

SCHEMA: Literal["vqtok-tokens/1"] = "vqtok-tokens/1"

Count = Annotated[int, Field(ge=1)]
Sides = tuple[Count, Count]
Label = Literal["int", "text", "none"]
What = Literal["codes", "latents", "both"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ClipPlan(_Frozen):
    """How videos are cut into clips: the settings of `vqtok.sources.spans.Spans`.

    frames  of each clip; None: each scene is one clip, however long
    stride  from one frame of a clip to the next, in frames of the video
    every   from the start of one clip to that of the next; None: where the one before ends
    scenes  what the column `scenes` counts in, where clips lie in scenes
    """

    frames: Count | None
    stride: Count = 1
    every: Count | None = None
    scenes: Literal["frames", "seconds"] | None = None


class SourcePlan(_Frozen):
    """What is read.

    listing  sha256 over the keys of all samples in order, see `listing_of`
    clips    how videos are cut; None: each is one sample, or the source holds pictures
    """

    kind: str
    samples: Count
    listing: str
    clips: ClipPlan | None = None


class TokenizerPlan(_Frozen):
    """What makes the codes.

    name             for people: it is not compared
    fingerprint      what `Fingerprint.to_dict` gives
    latent_channels  D of latents (D, *grid); None where what makes the codes does not tell
    """

    name: str
    fingerprint: dict[str, str]
    precision: str
    codebook_size: Count
    depth: Annotated[int, Field(ge=0)]
    is_video: bool
    latent_channels: Count | None


class Plan(_Frozen):
    """Everything that the bytes of a data set depend on.

    preprocess  the settings, as JSON has them
    buckets     height and width of each, where every sample goes to the nearest; empty: none
    views       as they were asked for, such as "tencrop@1.1"
    view_names  what a sample gives, in the order of its rows
    quantized   whether latents are those that the codes stand for
    batch       rows that go through the model together; others' places never change
    shard_size  samples a shard; the last may have fewer
    label       the kind of labels that rows have; "none": a label is a column like others
    """

    version: Literal["vqtok-tokens/1"] = Field(default=SCHEMA, alias="schema")
    source: SourcePlan
    tokenizer: TokenizerPlan
    preprocess: dict[str, Any]
    buckets: tuple[Sides, ...] = ()
    views: tuple[str, ...]
    view_names: Annotated[tuple[str, ...], Field(min_length=1)]
    seed: int = 0
    what: What = "codes"
    quantized: bool = False
    format: str = "parquet"
    dtype: Literal["uint16", "uint32"]
    batch: Count
    shard_size: Count
    shards: Count
    label: Label = "none"

    @model_validator(mode="after")
    def _covers_all(self) -> Self:
        if self.shards != -(-self.source.samples // self.shard_size):
            raise ValueError(
                f"{self.source.samples} samples in shards of {self.shard_size} are not "
                f"{self.shards} shards"
            )
        return self

    def to_bytes(self) -> bytes:
        """Canonical JSON: equal plans are equal bytes."""
        return canonical(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "plan.json") -> Self:
        """From what `to_bytes` gave; `name` is what errors call it."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            raise LoadError(
                f"'{name}' is not a plan of the schema {SCHEMA}: {where}: {first['msg']}"
            ) from None

    @cached_property
    def hash(self) -> str:
        """The sha256 of `to_bytes`, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __copy__(self) -> Self:
        """Without the hash, for `model_copy` is about to change it."""
        copied = super().__copy__()
        copied.__dict__.pop("hash", None)
        return copied

    @property
    def with_codes(self) -> bool:
        """Whether rows hold codes."""
        return self.what != "latents"

    @property
    def with_latents(self) -> bool:
        """Whether rows hold latents."""
        return self.what != "codes"

    def range(self, shard: int) -> builtins.range:
        """The samples of a shard, by number."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"there are {self.shards} shards; asked for number {shard}")
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, self.source.samples))

    def planned(self, shard: int) -> int:
        """How many rows a shard has, those that fail among them."""
        return len(self.range(shard)) * len(self.view_names)


def listing_of(keys: Sequence[str]) -> str:
    """sha256 over keys, each preceded by its length in bytes and a space."""
    digest = hashlib.sha256()
    for key in keys:
        data = key.encode("utf-8", "surrogateescape")
        digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()


# Parts of a fingerprint that codes do not depend on.
_UNUSED_PRINTS = ("schema", "decoder")
_LATENTS = "tokenizer.latent_channels"  # which codes do not depend on, either


def differences(planned: Plan, now: Plan) -> list[str]:
    """What `now` would do otherwise than planned: a sentence for each setting.

    The tokenizer's name is not compared, nor its decoder: neither changes a code.
    """
    one, other = (_flat(each.model_dump(mode="json", by_alias=True)) for each in (planned, now))
    if planned.what == now.what == "codes":  # exported graphs do not tell of latents, which differ
        one.pop(_LATENTS, None)
        other.pop(_LATENTS, None)
    return [
        f"{name}: planned {_shown(one.get(name))}, now {_shown(other.get(name))}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _flat(stored: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, without those that are not compared."""
    found: dict[str, Any] = {}
    for key, value in stored.items():
        name = prefix + key
        if name == "tokenizer.name" or (
            prefix == "tokenizer.fingerprint." and key in _UNUSED_PRINTS
        ):
            continue
        found |= _flat(value, name + ".") if isinstance(value, dict) else {name: value}
    return found


def _shown(value: Any) -> str:
    """For messages: prints are cut to their first digits."""
    if isinstance(value, str) and len(value) == 64:
        return value[:16]
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


# --- making one -----------------------------------------------------------------------------------

# Samples that are looked at, besides the first and last, to see what kind of labels there are.
LOOKED_AT = 32
# Without a wish, a set has about this many shards, within these bounds of samples each, and of
# bytes, for a worker holds a few shards in memory.
SHARDS = 64
SMALL, LARGE = 256, 4096
SHARD_BYTES = 1 << 28
# What rows of open sizes are taken to have: pixels of a side, and frames.
OPEN_SIDE, OPEN_FRAMES = 1024, 512


class Options(NamedTuple):
    """What whoever starts a job may choose; the rest of a plan follows from source and tokenizer.

    name        of the tokenizer, for people
    shard_size  samples a shard; None: what gives about 64 shards of 256 to 4,096 samples, of
                256 MiB at the most
    """

    name: str
    views: Sequence[str] = ("center",)
    seed: int = 0
    what: What = "codes"
    quantized: bool = False
    format: str = "parquet"
    batch: int = 32
    shard_size: int | None = None
    buckets: Sequence[Sides] = ()
    clips: ClipPlan | None = None


def make_plan(source: Source, tok: VisualTokenizer, options: Options) -> Plan:
    """The plan of a job; a `ConfigError` or `InputError` where it cannot be.

    It reads all keys, and some samples for their labels.
    """
    from vqtok.offline.buckets import bucket_settings
    from vqtok.offline.formats import FORMATS
    from vqtok.offline.views import check_views, parse_views

    _check(source, tok, options)
    views = parse_views(options.views)
    for settings in [bucket_settings(tok.settings, each) for each in options.buckets] or [
        tok.settings
    ]:
        check_views(views, settings)
    batch = 1 if _sizes_are_open(tok, options) else options.batch
    size = options.shard_size
    if size is None:
        rows = sum(len(view.names) for view in views)
        size = default_shard_size(len(source), batch, rows * _row_bytes(source, tok, options))
    listing = listing_of(source.keys)
    plan = Plan(
        source=SourcePlan(
            kind=kind_of(source),
            samples=len(source),
            listing=listing,
            clips=options.clips,
        ),
        tokenizer=_tokenizer(tok, options.name),
        preprocess=tok.settings.model_dump(mode="json"),
        buckets=tuple((height, width) for height, width in options.buckets),
        views=tuple(options.views),
        view_names=tuple(name for view in views for name in view.names),
        seed=options.seed,
        what=options.what,
        quantized=options.quantized,
        format=options.format,
        dtype="uint16" if code_dtype(tok.codebook_size).itemsize == 2 else "uint32",
        batch=batch,
        shard_size=size,
        shards=-(-len(source) // size),
        label=label_of(source, listing),
    )
    FORMATS[plan.format].check(plan)
    return plan


def _check(source: Source, tok: VisualTokenizer, options: Options) -> None:
    if source.is_video and not tok.is_video:
        raise InputError("the source holds clips, and this tokenizer takes pictures")
    if options.clips is not None and not source.is_video:
        raise InputError("the source holds pictures; only videos are cut into clips")
    for name in ("batch", "shard_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} is a whole number, at least 1; got {value!r}")
    if options.what != "codes":
        _check_latents(tok, options.what)
    if options.quantized and options.what == "codes":
        raise ConfigError("quantized=True is about latents; with what='codes' there are none")


def _check_latents(tok: VisualTokenizer, what: What) -> None:
    if not isinstance(tok.codec, LatentCodec):
        raise InputError(
            f"what={what!r} needs torch: this tokenizer runs on {tok.codec.runs_on} here, which "
            "gives codes but no latents"
        )


def _sizes_are_open(tok: VisualTokenizer, options: Options) -> bool:
    """Whether rows differ in shape, so that each goes through the model by itself."""
    if tok.is_video and clip_frames(options.clips) is None:
        return True
    return tok.settings.keeps_size and not options.buckets


def clip_frames(clips: ClipPlan | None) -> int | None:
    """How many frames each sample has, where all have as many."""
    return clips.frames if clips else None


def _tokenizer(tok: VisualTokenizer, name: str) -> TokenizerPlan:
    return TokenizerPlan(
        name=name,
        fingerprint=tok.fingerprint.to_dict(),
        precision=tok.precision,
        codebook_size=tok.codebook_size,
        depth=tok.vocab.depth,
        is_video=tok.is_video,
        latent_channels=tok.codec.traits.latent_channels,
    )


def default_shard_size(samples: int, batch: int, bytes_each: int) -> int:
    """A multiple of the batch, by the number of samples and the bytes of each."""
    wanted = min(max(-(-samples // SHARDS), SMALL), LARGE, SHARD_BYTES // bytes_each)
    return max(1, wanted // batch) * batch


def _row_bytes(source: Source, tok: VisualTokenizer, options: Options) -> int:
    """What a row takes, about: its codes and latents."""
    traits = tok.codec.traits
    sides = [tok.settings.sides] if tok.settings.size else [(OPEN_SIDE, OPEN_SIDE)]
    pixels = max(height * width for height, width in list(options.buckets) or sides)
    places = -(-pixels // (traits.stride[-2] * traits.stride[-1]))
    if source.is_video:
        places *= -(-(clip_frames(options.clips) or OPEN_FRAMES) // traits.stride[0])
    codes = places * max(traits.depth, 1) * traits.dtype.itemsize
    latents = places * (traits.latent_channels or 0) * 2
    return max(1, {"codes": codes, "latents": latents, "both": codes + latents}[options.what])


def plan_with(plan: Plan, source: Source, tok: VisualTokenizer) -> Plan:
    """What the same wishes come to with this source and tokenizer, to compare with the plan."""
    here = {
        "kind": kind_of(source),
        "samples": len(source),
        "listing": listing_of(source.keys),
    }
    return plan.model_copy(
        update={
            "source": plan.source.model_copy(update=here),
            "tokenizer": _tokenizer(tok, plan.tokenizer.name),
            "preprocess": tok.settings.model_dump(mode="json"),
        }
    )


def kind_of(source: Source) -> str:
    """The name that a source's class is registered under."""
    from vqtok.sources import SOURCES

    names = (name for name in SOURCES if SOURCES[name] is type(source))
    return next(names, type(source).__name__.lower())


def label_of(source: Source, listing: str | None = None) -> Label:
    """The kind of labels that some samples over the whole source have; `InputError` if several."""
    kinds: dict[str, str] = {}
    for index in _looked_at(len(source), listing_of(source.keys) if listing is None else listing):
        try:
            sample = source[index]
        except VqtokError:
            continue
        kinds.setdefault(kind_of_label(sample.columns.get("label")), sample.key)
    kinds.pop("none", None)
    if len(kinds) > 1:
        raise InputError(
            f"labels are whole numbers or text, not both: {kinds['int']!r} has a number, "
            f"{kinds['text']!r} has text"
        )
    return "int" if "int" in kinds else "text" if "text" in kinds else "none"


def _looked_at(samples: int, listing: str) -> list[int]:
    """The first, the last and some that follow no pattern, the same for equal sources."""
    if samples <= LOOKED_AT:
        return list(range(samples))
    digests = (hashlib.sha256(f"{listing} {n}".encode()).digest() for n in range(LOOKED_AT))
    places = {int.from_bytes(digest, "big") % samples for digest in digests}
    return sorted({0, *places, samples - 1})


def kind_of_label(label: Any) -> Label:
    """What kind of a label a value is; one that is neither number nor text counts as none."""
    if isinstance(label, bool):
        return "none"
    return "int" if isinstance(label, int) else "text" if isinstance(label, str) else "none"
