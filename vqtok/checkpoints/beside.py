"""Settings in a YAML or JSON file, such as projects put beside their checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from vqtok.checkpoints.wrappers import hoisted
from vqtok.contents import CHECKPOINTS
from vqtok.errors import LoadError

__all__ = [
    "PIXELS",
    "PROCESSOR",
    "names_beside",
    "pixels_beside",
    "read_settings",
    "settings_beside",
    "unread_beside",
]

ENDINGS = (".yaml", ".yml", ".json")
NAMES = (
    *(f"config{ending}" for ending in ENDINGS),
    *(f"model{ending}" for ending in ENDINGS),
    "hparams.yaml",
    "args.json",
)
# Of a processor beside the settings, as projects on the hub have it, only the range of pixels.
PROCESSOR = "preprocessor_config.json"
PIXELS = ("image_mean", "image_std")
# What settings of a tokenizer have, one or the other, on top or where `hoisted` looks.
TELLING = {
    "codebook_embed_dim",
    "codebook_size",
    "ddconfig",
    "embed_dim",
    "n_embed",
    "num_vq_embeddings",
    "v_patch_nums",
    "vitconfig",
    "vq_model",
    "z_channels",
}
# Settings are short; a text tokenizer's JSON is not.
LONGEST = 1 << 20


def names_beside(name: str) -> list[str]:
    """What the settings of a checkpoint called `name` may be called, the likeliest first."""
    stem = name.removesuffix(".json").removesuffix(".index")
    stem = stem[: -len(Path(stem).suffix)] if Path(stem).suffix else stem
    return list(dict.fromkeys([*(stem + ending for ending in ENDINGS), *NAMES]))


def settings_beside(file: Path) -> Path | None:
    """The settings that lie beside a checkpoint, or None.

    taming-transformers keeps those of RUN/checkpoints/last.ckpt in RUN/configs.
    """
    return next((found for found in _places(file) if found.is_file() and found != file), None)


def pixels_beside(file: Path) -> dict[str, Any]:
    """image_mean and image_std, where the processor beside a checkpoint tells them."""
    processor = file.parent / PROCESSOR
    found = read_settings(processor) if processor.is_file() and processor != file else {}
    return {name: found[name] for name in PIXELS if found.get(name) is not None}


def unread_beside(file: Path) -> Path | None:
    """The one file beside a checkpoint that holds a tokenizer's settings under another name.

    It may be anybody's, so it is never read for the checkpoint; None where there are several, and
    for what is called as another checkpoint there.
    """
    if not file.parent.is_dir():
        return None
    there = [entry for entry in file.parent.iterdir() if entry.is_file() and entry != file]
    others = {entry.stem for entry in there if entry.suffix in CHECKPOINTS}
    known = {*names_beside(file.name), PROCESSOR}
    found = [
        entry
        for entry in there
        if entry.suffix in ENDINGS and entry.name not in known and entry.stem not in others
    ]
    telling = [entry for entry in found if _tells(entry)]
    return telling[0] if len(telling) == 1 else None


def _tells(file: Path) -> bool:
    try:
        return file.stat().st_size <= LONGEST and not TELLING.isdisjoint(
            hoisted(read_settings(file))
        )
    except (LoadError, OSError, RecursionError):
        return False


def _why(error: Exception) -> str:
    """What is wrong, and on which line; PyYAML would show that line as well."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}: {error.problem}"


def _places(file: Path) -> Iterator[Path]:
    yield from (file.parent / name for name in names_beside(file.name))
    if file.parent.name == "checkpoints":
        configs = file.parent.parent / "configs"
        yield from (configs / name for name in NAMES)
        # As its trainer names them, with the time in front; the other one there is lightning's.
        yield from sorted(configs.glob("*-project.yaml"))


def read_settings(file: Path) -> dict[str, Any]:
    """The object in a YAML or JSON file."""
    try:
        text = file.read_text(encoding="utf-8")
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise LoadError(f"there is no file {file}") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "YAML"
        raise LoadError(f"{file} is no {kind} that can be read: {_why(error)}") from error
    if not isinstance(found, dict):
        raise LoadError(f"{file} holds a {type(found).__name__}; settings are an object")
    return {str(key): value for key, value in found.items()}
