"""What a tokenizer's folder holds, and in words what is wrong with one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from vqtok.errors import ConfigError, LoadError

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "DISCRIMINATOR",
    "EXPORTED",
    "GRAPHS",
    "ONNX",
    "WEIGHTS",
    "check_files",
    "check_place",
    "exported_files",
    "family_of",
    "is_exported",
    "is_tokenizer",
    "look",
    "other_checkpoints",
    "shown",
]

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"
DISCRIMINATOR = "discriminator.safetensors"  # that training goes on from
# The family of a folder that `vqtok export` wrote, what its config.json says, and its graphs.
ONNX, EXPORTED = "onnx", "vqtok_onnx"
GRAPHS = ("encoder.onnx", "decoder.onnx", "picture_encoder.onnx", "picture_decoder.onnx")
# What the classes in a config.json begin with: ours, and diffusers' own.
OURS, STOCK = "AutoencoderVQ", "VQModel"
VARIANT = re.compile(rf"{WEIGHTS}(?:\.([\w-]+?))?(?:-\d+-of-\d+)?\.safetensors")
# What files of other projects end with.
CHECKPOINTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")
# How many file names a message lists.
SHOWN = 8

# What a message calls a place, and the files there; asked only when something is wrong.
Look = Callable[[], tuple[str, list[str]]]


def is_tokenizer(folder: Path) -> bool:
    """Whether the config.json in a folder is that of a tokenizer, ours or a stock one."""
    try:
        family_of(folder, lambda: ("", []))
    except LoadError:
        return False
    return True


def is_exported(folder: Path) -> bool:
    """Whether the config.json in a folder is that of ONNX graphs that `vqtok export` wrote."""
    try:
        return family_of(folder, lambda: ("", [])) == ONNX
    except LoadError:
        return False


def check_place(folder: Path, family: str) -> None:
    """Raises where weights would be saved over ONNX graphs, or graphs over weights.

    family  of the tokenizer that is to be saved
    """
    kinds = {True: "ONNX graphs", False: "weights for torch"}
    if is_tokenizer(folder) and is_exported(folder) != (family == ONNX):
        raise LoadError(
            f"{folder} holds a tokenizer with {kinds[is_exported(folder)]}, and this one has "
            f"{kinds[family == ONNX]}; save it to another folder"
        )


def other_checkpoints(names: Iterable[str]) -> list[str]:
    """Of names of files those that may be another project's checkpoint."""
    own = WEIGHTS, DISCRIMINATOR, "probe."
    return [name for name in names if name.endswith(CHECKPOINTS) and not name.startswith(own)]


def look(folder: Path) -> tuple[str, list[str]]:
    """What a message calls a folder, and the files in it."""
    entries = sorted(folder.iterdir())
    inner = [f"{e.name}/{CONFIG}" for e in entries if (e / CONFIG).is_file()]
    return str(folder), [e.name for e in entries if e.is_file()] + inner


def family_of(folder: Path, look: Look) -> str:
    """ "vqtok", "diffusers_vq" or "onnx", by its config.json; `LoadError` where it is of none."""
    file = folder / CONFIG
    if not file.is_file():
        raise _no_config(*look())
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise LoadError(f"{file} is not JSON: {error}") from error
    named = config if isinstance(config, dict) else {}
    kind = str(named.get("_class_name"))
    if kind == STOCK:
        return "diffusers_vq"
    if kind.startswith(OURS) or named.get("model_type") == "vqtok":
        return "vqtok"
    if named.get("model_type") == EXPORTED:
        return ONNX
    if "AutoencoderKL" in kind:
        raise LoadError(
            f"{look()[0]} holds {kind}, a continuous autoencoder: its latents are a mean and a "
            "variance, and it has no codes to make a tokenizer of"
        )
    keys = [key for key in ("_class_name", "model_type") if named.get(key)]
    said = ", ".join(f"{key} {named[key]!r}" for key in keys)
    where, names = look()
    raise LoadError(
        f"{where} is no tokenizer: its {CONFIG} is that of {said or 'no model'}; a tokenizer's "
        f"names an {OURS}..., or {STOCK}{_other(names)}"
    )


def _no_config(where: str, names: list[str]) -> LoadError:
    inner = [str(PurePosixPath(name).parent) for name in names if name.endswith(f"/{CONFIG}")]
    hint = f". Pass one of these as subfolder: {', '.join(inner)}" if inner else ""
    return LoadError(
        f"{where} is no tokenizer, which holds {CONFIG} and {WEIGHTS}.safetensors; found: "
        f"{shown([name for name in names if '/' not in name])}{hint}{_other(names)}"
    )


def _other(names: list[str]) -> str:
    """The end of a message, where there are such files."""
    found = [name for name in other_checkpoints(names) if "/" not in name]
    if not found:
        return ""
    return f". To take another project's checkpoint, pass filename, one of: {shown(found)}"


def check_files(folder: Path, family: str, variant: str | None, look: Look) -> None:
    """Raises where the weights of a variant, or the graphs of an export, are not there."""
    if family != ONNX:
        _check_weights(folder, variant, look)
        return
    if variant is not None:
        raise ConfigError(
            f"variant={variant!r} chooses weights of torch; {look()[0]} holds ONNX graphs, of "
            "which there is one kind"
        )
    missing = [name for name in exported_files(folder) if not (folder / name).is_file()]
    if missing:
        raise LoadError(f"{look()[0]} lacks {shown(missing)}, which its {CONFIG} names")


def exported_files(folder: Path) -> list[str]:
    """The graphs, and what lies beside them, that the config.json of an export names."""
    file = folder / CONFIG
    files = json.loads(file.read_text(encoding="utf-8")).get("files")
    if not isinstance(files, dict) or GRAPHS[0] not in files:
        raise LoadError(f"{file} has no object called 'files' with {GRAPHS[0]}")
    strange = [name for name in files if PurePosixPath(name).name != name or name in ("", "..")]
    if strange:
        raise LoadError(f"{file} names {strange[0]!r}, which is no file of its own folder")
    return sorted(files)


def _check_weights(folder: Path, variant: str | None, look: Look) -> None:
    middle = f".{variant}" if variant else ""
    single = folder / f"{WEIGHTS}{middle}.safetensors"
    index = folder / f"{WEIGHTS}.safetensors.index{middle}.json"
    if index.is_file():
        _check_shards(index)
    elif not single.is_file():
        where, names = look()
        variants = {match[1] or "" for match in map(VARIANT.fullmatch, names) if match}
        has = ", ".join(f"variant={name or None!r}" for name in sorted(variants))
        raise LoadError(
            f"{where} lacks {single.name}, the weights of variant={variant!r}; "
            + (f"it has those of {has}" if has else f"found: {shown(names)}")
        )


def _check_shards(index: Path) -> None:
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{index} is not an index of weights: {type(error).__name__}: {error}"
        ) from error
    missing = [name for name in sorted(shards) if not (index.parent / name).is_file()]
    if missing:
        raise LoadError(f"{index.parent} lacks {shown(missing)}, which {index.name} names")


def shown(names: list[str]) -> str:
    """The first of several names."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest or "nothing"
