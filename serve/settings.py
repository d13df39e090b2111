"""What a server is: every setting, its default and its meaning, and where its values come from.

A flag stands over an environment variable (VQTOK_SERVE_ and the setting's name in capitals), that
over a file, that over the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vqtok.errors import ConfigError, LoadError, did_you_mean

__all__ = [
    "PREFIX",
    "Layer",
    "ModelSettings",
    "ServeSettings",
    "environment",
    "file_layer",
    "flags",
    "name_of_model",
    "resolve",
]

PREFIX = "VQTOK_SERVE_"

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9} | {
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}
BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)")
WORDS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}
# What may stand in a path as it is.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
COUNT = "a whole number of at least 1"
SECONDS = "a number of seconds above 0"
SIZE = "a number of bytes, such as 64MB or 1.5GiB"


def _bytes(value: Any) -> Any:
    """ "64MB" as a number; what is none is left to the complaint that follows."""
    match = BYTES.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in UNITS:
        return value
    return int(float(match[1]) * UNITS[match[2]])


def _tuple(value: Any) -> Any:
    """A list, or words with commas, as a tuple."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(value) if isinstance(value, list) else value


def _devices(value: Any) -> Any:
    """[0, 1], as a file may have it, as "0,1"."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _models(value: Any) -> Any:
    """NAME=TOKENIZER with commas, and tokenizers that are named and nothing else, written out."""
    if isinstance(value, str):
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        value = {name if equals else name_of_model(name): rest if equals else name
                 for name, equals, rest in pairs}  # fmt: skip
    if not isinstance(value, dict):
        return value
    return {
        name: {"tokenizer": one} if isinstance(one, str) else one for name, one in value.items()
    }


Bytes = Annotated[int, BeforeValidator(_bytes)]


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
    """

    tokenizer: str = Field(min_length=1, description="the name of a tokenizer")
    revision: str | None = Field(None, description="a branch, tag or commit")
    subfolder: str | None = Field(None, description="a folder")
    variant: str | None = Field(None, description="the name of weights, such as fp16")
    filename: str | None = Field(None, description="the name of a file")
    family: str | None = Field(None, description="the name of a family")
    config: str | None = Field(None, description="the path of a YAML or JSON file")
    settings: dict[str, Any] = Field({}, description="a map of settings")
    size: int | str | None = Field(None, description="a number, or HEIGHTxWIDTH such as 256x384")
    policy: str | None = Field(None, description="the name of a policy")
    precision: Literal["ieee32", "tf32", "bf16", "fp16"] = Field(
        "ieee32", description="ieee32, tf32, bf16 or fp16"
    )


class ServeSettings(_Part):
    """A whole server.

    models         name in paths -> tokenizer; the first is that of paths without a name
    api_processes  processes that speak HTTP, and decode pictures in `decoder_threads` threads each
    device         of the workers: auto, cpu, cuda, cuda:1, mps
    devices        "all" GPUs or their numbers, such as "0,1": a worker of each model on each
    max_batch      pictures of one shape that go through a model together
    deterministic  every batch is padded to `max_batch`, so that ids don't depend on what else came
    slots          pictures of a model under way at once, in each API process; more are answered 429
    clip_slots     the same for clips
    timeout        seconds after which a request is answered 504
    drain_delay    seconds between SIGTERM, when /ready says no, and refusing new work
    hang_timeout   seconds of one batch after which a worker is taken to hang, and replaced
    max_body       bytes of a request
    max_pixels     of one uploaded picture, by its header
    max_area       pixels of a picture after preprocessing, where the tokenizer keeps sizes
    max_images     of a request; max_frames: of a clip
    api_key        that requests must carry; from VQTOK_SERVE_API_KEY or the file `api_key_file`
    cache          bytes of decoded pictures that each API process keeps; 0 for none
    log            "json": a line a request on standard output
    page           whether / is the page
    cors           origins that browsers may call from, such as https://example.org, or *
    """

    models: Annotated[dict[str, ModelSettings], BeforeValidator(_models)] = Field(
        {}, description="a map of names to tokenizers"
    )
    host: Literal["127.0.0.1", "0.0.0.0", "::"] = Field(
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
    devices: Annotated[str | None, BeforeValidator(_devices)] = Field(
        None, pattern=r"^(all|[0-9]+(,[0-9]+)*)$", description="all, or numbers such as 0,1"
    )
    workers_per_device: int = Field(1, ge=1, le=64, description="a whole number from 1 to 64")
    max_batch: int = Field(32, ge=1, le=4096, description="a whole number from 1 to 4096")
    deterministic: bool = Field(False, description="true or false")
    slots: int = Field(64, ge=1, le=4096, description="a whole number from 1 to 4096")
    clip_slots: int = Field(2, ge=1, le=256, description="a whole number from 1 to 256")
    timeout: float = Field(30.0, gt=0, allow_inf_nan=False, description=SECONDS)
    drain_delay: float = Field(
        2.0, ge=0, allow_inf_nan=False, description="a number of seconds, 0 or more"
    )
    hang_timeout: float = Field(60.0, gt=0, allow_inf_nan=False, description=SECONDS)
    max_body: Bytes = Field(64_000_000, ge=1, description=SIZE)
    max_pixels: int = Field(50_000_000, ge=1, description=COUNT)
    max_area: int = Field(1_048_576, ge=1, description=COUNT)
    max_images: int = Field(256, ge=1, description=COUNT)
    max_frames: int = Field(512, ge=1, description=COUNT)
    decoder_threads: int = Field(2, ge=1, le=64, description="a whole number from 1 to 64")
    api_key: str | None = Field(None, min_length=1, repr=False, description="text")
    api_key_file: str | None = Field(None, description="the path of a file")
    cache: Bytes = Field(64_000_000, ge=0, description=f"{SIZE}, or 0")
    log: Literal["json", "off"] = Field("json", description="json or off")
    page: bool = Field(True, description="true or false")
    cors: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = Field(
        (), description="a list of origins, such as https://example.org, or *"
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        """A complaint begins with the key that it is about."""
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


def name_of_model(tokenizer: str) -> str:
    """What a tokenizer is called in paths where nobody says: the last part of its own name."""
    parts = [part for part in re.split(r"[/\\]", tokenizer) if part not in ("", ".", "..", "~")]
    if len(parts) > 1 and parts[-1] == "tokenizer":  # of a training run
        parts.pop()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", parts[-1] if parts else "").strip("-._")
    return name or "tokenizer"


# --- layers -----------------------------------------------------------------------------------


class Layer(NamedTuple):
    """Values of settings, and who says so: the origin of a key, or of a whole layer."""

    values: Mapping[str, Any]
    origin: Callable[[str], str]


def file_layer(values: Any, name: str) -> Layer:
    """What a YAML file holds, as it was read."""
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: a file is a map of settings; got {values!r}")
    if "api_key" in values:
        raise ConfigError(
            f"{name}: a key doesn't belong into settings; put it into a file of its own, which "
            f"api_key_file names, or into {PREFIX}API_KEY"
        )
    return Layer(values, lambda key: name)


def environment(environ: Mapping[str, str]) -> Layer:
    """Variables such as VQTOK_SERVE_PORT=8000."""
    values = {}
    for variable, text in environ.items():
        if variable.startswith(PREFIX):
            key = variable.removeprefix(PREFIX).lower()
            _check_variable(variable, key, text)
            values[key] = _typed(key, text)
    return Layer(values, lambda key: f"{PREFIX}{key.upper()}")


def flags(values: Mapping[str, Any]) -> Layer:
    """What a command line says, by names of settings; None is what it leaves open."""
    given = {key: value for key, value in values.items() if value is not None}
    whole = "the command line"
    return Layer(given, lambda key: whole if key == "models" else f"--{key.replace('_', '-')}")


def _check_variable(variable: str, key: str, text: str) -> None:
    if text.startswith("tcp://") or key.startswith(("service_", "port_")):
        raise ConfigError(
            f"{variable} is what Kubernetes sets for a Service of that name; the pod needs "
            "enableServiceLinks: false, or the Service another name"
        )
    if key not in ServeSettings.model_fields:
        near = did_you_mean(variable, [PREFIX + name.upper() for name in _known()])
        raise ConfigError(f"there is no variable {variable}. {near}")


def _known() -> list[str]:
    return list(ServeSettings.model_fields)


def _typed(key: str, text: str) -> Any:
    """Text as the setting takes it; what cannot be read stays, for the complaint that follows."""
    kind = ServeSettings.model_fields[key].annotation
    text = text.strip()
    if kind is bool:
        return WORDS.get(text.lower(), text)
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def resolve(layers: Sequence[Layer] = ()) -> ServeSettings:
    """Settings of layers, the last on top. A complaint names who set the value, key and value."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        origins |= {key: layer.origin(key) for key in layer.values}
    _take_key(values, origins)
    try:
        return ServeSettings.model_validate(values)
    except ValidationError as error:
        complaints = list(_complaints(error))
    lines = [f"{origins[key]}: {text}" if key in origins else text for key, text in complaints]
    lines = list(dict.fromkeys(lines))
    if len(lines) > 1:  # sentences, for who prints them in one line
        lines = [line.rstrip(".") + "." for line in lines]
    raise ConfigError("\n".join(lines))


def _take_key(values: dict[str, Any], origins: Mapping[str, str]) -> None:
    """Reads the key where a file is named, unless the environment holds one."""
    file = values.get("api_key_file")
    if not isinstance(file, str) or values.get("api_key"):
        return
    where = f"{origins['api_key_file']}: {file}"
    try:
        key = Path(file).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LoadError(f"{where} cannot be read: {reason}") from error
    if not key:
        raise ConfigError(f"{where} is empty; it holds the key that requests must carry")
    values["api_key"] = key


def _complaints(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(the setting that a complaint is about, what is wrong)"""
    for one in error.errors():
        # As deep as settings have names: not into the sides of an `or`.
        path = [str(step) for step in one["loc"]][: 3 if one["loc"][:1] == ("models",) else 1]
        key = ".".join(path)
        match one["type"]:
            case "value_error":
                text = str(one["ctx"]["error"])
                yield text.partition(" ")[0], text
            case "extra_forbidden":
                kind = ModelSettings if len(path) > 1 else ServeSettings
                known = [".".join((*path[:-1], name)) for name in kind.model_fields]
                yield path[0], f"there is no setting {key!r}. {did_you_mean(key, known)}"
            case "missing":
                yield path[0], f"{key} is missing; it is {_phrase(path)}"
            case _:
                yield path[0], f"{key} is {_phrase(path)}; got {one['input']!r}"


def _phrase(path: Sequence[str]) -> str:
    """What a setting looks like, in words."""
    if path[0] == "models" and len(path) == 2:
        return "the name of a tokenizer, or a map of its settings"
    fields = ModelSettings.model_fields if path[0] == "models" and len(path) > 2 else None
    field = fields[path[2]] if fields else ServeSettings.model_fields[path[0]]
    return str(field.description)
