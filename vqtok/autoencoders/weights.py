"""The weight files of a model folder, and what is wrong with them where something is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqtok.errors import LoadError

__all__ = ["check_readable", "model_file", "read_json", "stored_tensors", "weight_files"]


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names."""
    single, index = _files(folder, variant)
    if index.is_file():
        shards = read_json(index).get("weight_map")
        if not isinstance(shards, dict):
            raise LoadError(f"{index} is no index of weights: it has no object 'weight_map'")
        return [folder / name for name in sorted(set(shards.values()))]
    if not single.is_file():
        raise LoadError(
            f"{folder} holds no weights: there is neither {single.name} nor {index.name}"
        )
    return [single]


def model_file(folder: Path, variant: str | None = None) -> Path:
    """The one file of a model folder's weights, or the index of its shards."""
    single, index = _files(folder, variant)
    return index if index.is_file() else single


def _files(folder: Path, variant: str | None) -> tuple[Path, Path]:
    middle = f".{variant}" if variant else ""
    single = folder / f"diffusion_pytorch_model{middle}.safetensors"
    return single, folder / f"diffusion_pytorch_model.safetensors.index{middle}.json"


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LoadError(f"there is no file {file}") from None
    except ValueError as error:
        raise LoadError(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise LoadError(f"{file} holds a {type(found).__name__}; it should be an object")
    return found


def stored_tensors(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of several files, one at a time."""
    for file in files:
        with _reading(file), safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, tensors.get_tensor(name)


def check_readable(files: Iterable[Path]) -> None:
    """Raises `LoadError`, from the headers alone, where a file is cut or holds no weights."""
    for file in files:
        with _reading(file), safe_open(file, framework="pt"):
            pass


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        raise LoadError(f"{file} cannot be opened: {error.strerror}") from error
    try:
        yield
    except (SafetensorError, FileNotFoundError) as error:
        raise LoadError(f"{file} is not a readable safetensors file: {error}") from error
