"""From a file or folder of another project to `Foreign`: its tensors and settings, unwrapped.

Files are known by how they begin, not by what they are called. Pickles are read by
`vqtok.checkpoints.unpickling`, which runs nothing, and of any file only the tokenizer's tensors.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vqtok.checkpoints import Foreign
from vqtok.checkpoints.beside import (
    PROCESSOR,
    pixels_beside,
    read_settings,
    settings_beside,
    unread_beside,
)
from vqtok.checkpoints.numpy_pickles import Array
from vqtok.checkpoints.torch_files import ZIP, read_pickle, read_zip
from vqtok.checkpoints.unpickling import StoredTensor, damaged, plain
from vqtok.checkpoints.wrappers import hoisted, merged, stripped, unwrap
from vqtok.contents import CHECKPOINTS
from vqtok.errors import LoadError

__all__ = [
    "INDEX",
    "files_of",
    "find_checkpoint",
    "keys_of",
    "open_checkpoint",
]

INDEX = ".index.json"
# With the variant of the weights in it, as diffusers calls them.
INDICES = re.compile(r".+\.index(\.[\w-]+)?\.json")
# How many names a message lists.
SHOWN = 6
TENSORS = (StoredTensor, Array)

Loaders = dict[str, Callable[[], Tensor]]


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    origin: str | None = None,
) -> Foreign:
    """What a .safetensors, .pt, .pth, .ckpt or .bin file, or the folder of one, holds.

    Settings are the range of pixels of a processor beside it, over this those in the file, over
    these those of the YAML or JSON `config`, by default one that lies beside it, over these
    `settings`. `origin` is what messages call it, by default the path.
    """
    file = find_checkpoint(Path(path))
    loaders, inside, notes = _contents(file)
    chosen = stripped(loaders)
    if not chosen:
        raise LoadError(f"{file} holds no tensors, and so no model")
    _check_names(file, chosen)
    beside, said = _settings(file, config)
    tensors = {inner: loaders[name]() for name, inner in chosen.items()}
    left = len(loaders) - len(chosen)
    if left:
        were = "tensor" if left == 1 else "tensors"
        said = (
            f"{left} {were} of the model around the tokenizer {'was' if left == 1 else 'were'} "
            "not read",
            *said,
        )
    whole = hoisted(merged(_mapping(plain(inside)), beside))
    pixels = pixels_beside(file)
    if pixels:
        said = (*said, f"the range of pixels is that of {PROCESSOR}, unless settings tell it")
    found = merged(pixels, whole, settings or {})
    unread = _unread(file) if config is None else ""
    notes = (*notes, *said, unread) if unread else (*notes, *said)
    return Foreign(tensors, found, origin or str(file), notes, unread)


def keys_of(path: str | os.PathLike[str]) -> list[str]:
    """The keys that `open_checkpoint` gives, without reading their tensors."""
    file = find_checkpoint(Path(path))
    return list(stripped(_contents(file)[0]).values())


def find_checkpoint(path: Path) -> Path:
    """A file itself; of a folder the one checkpoint in it, or the index of its parts."""
    if not path.exists():
        raise LoadError(f"there is no file or folder {path}")
    if not path.is_dir():
        return path
    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
    indices = [name for name in names if name.endswith(INDEX)]
    if len(indices) == 1:
        return path / indices[0]
    found = [name for name in names if name.endswith(CHECKPOINTS)]
    # The same weights twice, as repositories on the hub have them.
    tensors = [name for name in found if name.endswith(".safetensors")]
    if len(found) != 1 and len(tensors) != 1:
        raise LoadError(
            f"{path} holds {'no checkpoint' if not found else 'several checkpoints'}: "
            f"{_shown(found or names)}"
            + (
                ". Name one of them with --filename (filename=)"
                if found
                else f"; one ends with {', '.join(CHECKPOINTS)}"
            )
        )
    return path / (tensors or found)[0]


def files_of(file: Path) -> list[Path]:
    """The files that are read of a checkpoint: itself, or of an index those it needs as well."""
    if not INDICES.fullmatch(file.name):
        return [file]
    parts = _parts(file)
    return [file, *(file.parent / name for name in sorted({parts[key] for key in stripped(parts)}))]


# --- files ------------------------------------------------------------------------------------


def _contents(file: Path) -> tuple[Loaders, Any, tuple[str, ...]]:
    """The tensors of a file, each to be loaded; settings in it; what was chosen."""
    if not INDICES.fullmatch(file.name):
        return _one(file)
    parts, found = _parts(file), {}
    for part in files_of(file)[1:]:
        if not part.is_file():
            raise LoadError(f"{file.parent} lacks {part.name}, which {file.name} names")
        found.update(_one(part)[0])
    elsewhere = {key: _never for key in parts if key not in found and key not in stripped(parts)}
    return found | elsewhere, {}, ()


def _never() -> Tensor:
    raise LoadError("this tensor is in a file that is not read")


def _parts(index: Path) -> dict[str, str]:
    """Which file has which tensor."""
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = set(found.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{index} is no index of weights: it has no object 'weight_map' of file names"
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise LoadError(f"{index} names {name!r}, which is no file beside it")
    return dict(found)


def _one(file: Path) -> tuple[Loaders, Any, tuple[str, ...]]:
    _refuse(file)
    with file.open("rb") as opened:
        start = opened.read(16)
    if file.suffix == ".safetensors" or start[8:9] == b"{":
        return _safetensors(file), {}, ()
    if start.startswith(ZIP):
        found = read_zip(file)
    elif start.startswith(b"\x80"):
        found = read_pickle(file)
    else:
        raise LoadError(
            f"{file} is no checkpoint: it is neither safetensors nor written by torch.save, and "
            f"begins with {start!r}"
        )
    if isinstance(found, TENSORS):
        raise LoadError(
            f"{file} holds one tensor and no names; a model's file names each of its own"
        )
    tensors, settings, notes = unwrap(found, TENSORS)
    return {name: tensor.load for name, tensor in tensors.items()}, settings, notes


def _refuse(file: Path) -> None:
    """Raises where a file is something that people often have in a checkpoint's place."""
    if not file.is_file():
        raise LoadError(f"{file} is no file")
    with file.open("rb") as opened:
        start = opened.read(256).lstrip()
    if not start:
        raise LoadError(f"{file} is empty; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise LoadError(
            f"{file} is a pointer of git-lfs and not the file itself; fetch that with git lfs pull"
        )
    if start.lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise LoadError(
            f"{file} is a web page and no checkpoint: the address that it came from shows one, so "
            "download it in a browser, or from the address behind the button"
        )
    if start.startswith(b"\x1f\x8b") or tarfile.is_tarfile(file):
        raise LoadError(f"{file} is an archive; unpack it and name the checkpoint that is in it")


def _safetensors(file: Path) -> Loaders:
    """Its tensors; one that is asked for opens the file again, and reads only its own part."""

    def loader(name: str) -> Callable[[], Tensor]:
        def load() -> Tensor:
            with _reading(file), safe_open(file, framework="pt") as opened:
                tensor: Tensor = opened.get_tensor(name)
            return tensor

        return load

    with _reading(file), safe_open(file, framework="pt") as opened:
        return {name: loader(name) for name in opened.keys()}  # noqa: SIM118 - no mapping


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise damaged(file, error) from error


def _check_names(file: Path, chosen: Mapping[str, str]) -> None:
    """Raises where two keys are one without their prefixes."""
    seen: dict[str, str] = {}
    for name, inner in chosen.items():
        if seen.setdefault(inner, name) != name:
            raise LoadError(f"{file} holds both {seen[inner]!r} and {name!r}, which are one tensor")


# --- settings ---------------------------------------------------------------------------------


def _settings(
    file: Path, config: str | os.PathLike[str] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the YAML or JSON says, and a note on which it is."""
    found = settings_beside(file) if config is None else Path(config)
    if found is None:
        return {}, ()
    return read_settings(found), (f"settings are those of {found.name}",)


def _unread(file: Path) -> str:
    found = None if settings_beside(file) else unread_beside(file)
    if found is None:
        return ""
    return (
        f"{found.name} beside it holds settings and was not read, for it is not called as the "
        "checkpoint: pass it as config if it is of this one"
    )


def _mapping(found: Any) -> dict[str, Any]:
    """Settings in a file: those of each container, one over the other."""
    return merged(*(layer for layer in found.values() if isinstance(layer, Mapping)))


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + rest or "it is empty"
