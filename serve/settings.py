"""What a server is: every setting, its default and its meaning.

Where values come from is `vqtok.serve.layers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from vqtok.backends import AUTO, BACKENDS
from vqtok.geometry import POLICIES
from vqtok.serve.values import (
    KEY,
    NAME,
    ORIGIN,
    as_bool,
    as_bytes,
    as_devices,
    as_host,
    as_models,
    as_origins,
)
from vqtok.wanted import BackendName, Wanted

if TYPE_CHECKING:
    from vqtok.serve.load import Load

__all__ = ["PREFIX", "ModelSettings", "ServeSettings"]

PREFIX = "VQTOK_SERVE_"

COUNT = "a whole number of at least 1"
LEAST_HANG = 5.0  # seconds; a busy machine may keep a process waiting for some
SECONDS = "a number of seconds above 0"
SIZE = "a number of bytes, such as 64MB or 1.5GiB"
WHETHER = "true or false"

Bool = Annotated[bool, BeforeValidator(as_bool)]
Sides = Annotated[str, Field(pattern=r"^[0-9]{1,6}(x[0-9]{1,6})?$")]
Bytes = Annotated[int, BeforeValidator(as_bytes)]


class _Part(BaseModel):
    """Frozen; an unknown key or a value of another type is an error.

    The description of a field is what it looks like, for complaints.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSettings(_Part):
    """One tokenizer, and how it runs.

    tokenizer   as `vqtok -t` takes it: a folder, a name in the package, org/name on the hub,
                another project's checkpoint
    filename, family, config, settings  for other projects' checkpoints; `settings` stand over those
                of the file `config`
    size        the side of the square that pictures are brought to, or "HEIGHTxWIDTH"
    policy      how they are brought there; without both, as the tokenizer has it
    precision   by default that of the tokenizer's folder
    backend     what runs it: torch, or onnx for what `vqtok export` wrote; auto is what its folder
                is for
    """

    tokenizer: str = Field(min_length=1, description="the name of a tokenizer")
    revision: str | None = Field(None, description="a branch, tag or commit")
    subfolder: str | None = Field(None, description="a folder")
    variant: str | None = Field(None, description="the name of weights, such as fp16")
    filename: str | None = Field(None, description="the name of a file")
    family: str | None = Field(None, description="the name of a family")
    config: str | None = Field(None, description="the path of a YAML or JSON file")
    settings: dict[str, Any] = Field({}, description="a map of settings")
    size: int | Sides | None = Field(None, description="a number, or HEIGHTxWIDTH such as 256x384")
    policy: str | None = Field(
        None,
        pattern=f"^({'|'.join(POLICIES)})$",
        description=f"one of {', '.join(sorted(POLICIES))}",
    )
    precision: Literal["ieee32", "tf32", "bf16", "fp16"] | None = Field(
        None, description="ieee32, tf32, bf16 or fp16"
    )
    backend: BackendName = Field(AUTO, description=f"one of {', '.join((AUTO, *BACKENDS))}")

    def wanted(self) -> Wanted:
        """The tokenizer."""
        place = self.model_dump(exclude={"tokenizer", "size", "policy", "precision"})
        return Wanted(name=self.tokenizer, **place)

    def load(self, name: str, *, padding: str, max_batch: int) -> Load:
        """What makes its engine, under that name in paths."""
        from vqtok.serve.load import Load

        manner = self.model_dump(include={"size", "policy", "precision"})
        return Load(name, self.wanted(), **manner, padding=padding, max_batch=max_batch)


class ServeSettings(_Part):
    """A whole server.

    models         name in paths -> tokenizer; the first is that of paths without a name
    api_processes  processes that speak HTTP, and decode pictures in `decoder_threads` threads each
    device         of the workers: auto, cpu, cuda, cuda:1, mps
    devices        "all" GPUs or their numbers, such as "0,1": a worker of each model on each
    max_batch      pictures of one shape that go through a model together
    deterministic  each picture goes through the model alone, so that ids don't depend on what else
                   came
    slots          pictures of a model under way at once, in each API process; more are answered 429
    clip_slots     the same for clips
    slot_frames    of a clip that go into one slot; a longer one goes chunk by chunk, as a stream
    streams        clips under way at once that are longer, likewise; more wait for `timeout` first
    timeout        seconds after which a request is answered 504; of a stream each chunk has them
    drain_delay    seconds between SIGTERM, when /ready says no, and refusing new work
    hang_timeout   seconds without progress in a batch after which a worker is taken to hang, and
                   replaced; None as `hangs_after` has it
    start_timeout  seconds without progress that a worker has to load and warm up
    max_body       bytes of a request; but for one clip, whose frames go on as they come
    max_film       bytes of a request with one clip in a file; above `max_body` it is written to a
                   temporary file, of which each API process has twice as much at most
    max_pixels     of one uploaded picture, by its header
    max_area       pixels of a picture after preprocessing, where the tokenizer keeps sizes
    max_images     of a request; max_frames: of a clip
    api_key        that requests must carry; from VQTOK_SERVE_API_KEY or the file `api_key_file`
    cache          bytes of decoded pictures that each API process keeps; 0 for none
    log            "json": a line a request on standard output
    page           whether / is the page
    cors           origins that browsers may call from, such as https://example.org, or *
    """

    models: Annotated[dict[str, ModelSettings], BeforeValidator(as_models)] = Field(
        {}, description="a map of names to tokenizers"
    )
    host: Annotated[Literal["127.0.0.1", "0.0.0.0", "::"], BeforeValidator(as_host)] = Field(
        "127.0.0.1",
        description="127.0.0.1 (this machine alone), 0.0.0.0 (every IPv4 address) or :: (every "
        "address)",
    )
    port: int = Field(
        8000,
        ge=1024,
        le=65535,
        description="a whole number from 1024 to 65535 (ports below are for a proxy in front)",
    )
    api_processes: int = Field(2, ge=1, le=64, description="a whole number from 1 to 64")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$",
        description="auto, cpu, cuda, cuda:1 or mps",
    )
    devices: Annotated[str | None, BeforeValidator(as_devices)] = Field(
        None, pattern=r"^(all|[0-9]+(,[0-9]+)*)$", description="all, or numbers such as 0,1"
    )
    workers_per_device: int = Field(1, ge=1, le=64, description="a whole number from 1 to 64")
    max_batch: int = Field(32, ge=1, le=4096, description="a whole number from 1 to 4096")
    deterministic: Bool = Field(False, description=WHETHER)
    slots: int = Field(64, ge=1, le=4096, description="a whole number from 1 to 4096")
    clip_slots: int = Field(2, ge=1, le=256, description="a whole number from 1 to 256")
    slot_frames: int = Field(16, ge=1, le=4096, description="a whole number from 1 to 4096")
    streams: int = Field(2, ge=1, le=256, description="a whole number from 1 to 256")
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False, description=SECONDS)
    drain_delay: float = Field(
        2.0, ge=0, allow_inf_nan=False, description="a number of seconds, 0 or more"
    )
    hang_timeout: float | None = Field(None, gt=0, allow_inf_nan=False, description=SECONDS)
    start_timeout: float = Field(600.0, gt=0, allow_inf_nan=False, description=SECONDS)
    max_body: Bytes = Field(64_000_000, ge=1, description=SIZE)
    max_film: Bytes = Field(500_000_000, ge=1, description=SIZE)
    max_pixels: int = Field(50_000_000, ge=1, description=COUNT)
    max_area: int = Field(1_048_576, ge=1, description=COUNT)
    max_images: int = Field(256, ge=1, description=COUNT)
    max_frames: int = Field(100_000, ge=1, description=COUNT)
    decoder_threads: int = Field(2, ge=1, le=64, description="a whole number from 1 to 64")
    api_key: str | None = Field(None, repr=False, description="text")
    api_key_file: str | None = Field(None, description="the path of a file")
    cache: Bytes = Field(64_000_000, ge=0, description=f"{SIZE}, or 0")
    log: Literal["json", "off"] = Field("json", description="json or off")
    page: Bool = Field(True, description=WHETHER)
    cors: Annotated[tuple[str, ...], BeforeValidator(as_origins)] = Field(
        (), description="a list of origins, such as https://example.org, or *"
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        """A complaint begins with the key that it is about."""
        self._check_key()
        for origin in self.cors:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"cors has {origin!r}; an origin is *, or scheme://host or scheme://host:port, "
                    "such as https://example.org"
                )
        for name in self.models:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"models has the name {name!r}; a name is letters, digits, '.', '_' and '-', "
                    "for it stands in paths"
                )
        if self.devices is not None and self.device not in ("auto", "cuda"):
            raise ValueError(
                f"devices are GPUs, and device is {self.device!r}; leave one of the two out"
            )
        numbers = (self.devices or "").split(",")
        if len(set(numbers)) < len(numbers):
            raise ValueError(
                f"devices names a GPU twice: {self.devices}; workers_per_device gives one several"
            )
        return self

    @property
    def hangs_after(self) -> float:
        """`hang_timeout`; by default who waited for a worker that hung has time for another."""
        return self.hang_timeout or max(LEAST_HANG, 0.4 * self.timeout)

    def _check_key(self) -> None:
        """Never says what the key is."""
        if self.api_key == "":
            raise ValueError(
                "api_key is empty; it is the key that requests must carry, and unset where they "
                "need none"
            )
        if self.api_key is not None and not KEY.fullmatch(self.api_key):
            raise ValueError(
                "api_key holds what no header can carry; a key is letters, digits and signs of "
                "ASCII, without spaces"
            )
