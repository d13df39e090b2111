"""Where the weights of the networks that metrics need are found, and what they are.

Only LPIPS's linear heads (`lpips_heads.safetensors`, 11 kB) come with the package. The networks
under them are other people's files of 5 to 550 MB, looked for in this order:

1. the path that the caller names: a file, or a folder that holds one of the known names
2. the environment variable of the network, such as VQTOK_VGG16: likewise
3. the folder that VQTOK_METRIC_WEIGHTS names
4. torch's hub cache (TORCH_HOME), where torchvision, lpips and torch-fidelity put their files
5. the network, only where the caller allows it

A place that was named and holds nothing is an error, never a reason to look further, but for
3, since such a folder may hold some of the files only.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vqtok.errors import LoadError, UnknownNameError, did_you_mean

__all__ = ["FOLDER", "MissingWeights", "find_weights", "read_tensors", "weights_print"]

FOLDER = "VQTOK_METRIC_WEIGHTS"
HERE = Path(__file__).resolve().parent
# torch's hub has the first digits of a file's sha256 in its name.
PREFIX = re.compile(r"-([0-9a-f]{8})\.(?:pth|pt)$")


class MissingWeights(LoadError):
    """A network's weights are in none of the places; the message lists these and the cure."""


class _Known(NamedTuple):
    """title: for messages; files: names in the order of preference; url: of the first one."""

    title: str
    variable: str
    files: tuple[str, ...]
    url: str | None = None


HUB = "https://download.pytorch.org/models"
FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
KNOWN = {
    "vgg16": _Known(
        "VGG16 (the network of LPIPS-VGG)",
        "VQTOK_VGG16",
        ("vgg16-397923af.pth", "lpips_vgg16_features.safetensors"),
        f"{HUB}/vgg16-397923af.pth",
    ),
    "alexnet": _Known(
        "AlexNet (the network of LPIPS-Alex)",
        "VQTOK_ALEXNET",
        ("alexnet-owt-7be5be79.pth", "lpips_alexnet_features.safetensors"),
        f"{HUB}/alexnet-owt-7be5be79.pth",
    ),
    "lpips": _Known("LPIPS's heads", "VQTOK_LPIPS", ("lpips_heads.safetensors",)),
    "inception": _Known(
        "FID's Inception",
        "VQTOK_INCEPTION",
        (
            "weights-inception-2015-12-05-6726825d.pth",
            "pt_inception-2015-12-05-6726825d.pth",
            "fid_inception_2015_12_05.safetensors",
        ),
        f"{FIDELITY}/weights-inception-2015-12-05-6726825d.pth",
    ),
    "i3d": _Known(
        "I3D (the network of FVD)",
        "VQTOK_I3D",
        ("i3d_kinetics400.safetensors", "i3d_pretrained_400.pt"),
    ),
}


def find_weights(
    name: str, path: str | os.PathLike[str] | None = None, *, allow_download: bool = False
) -> Path:
    """The file with the weights of "vgg16", "alexnet", "lpips" (heads), "inception" or "i3d".

    path            a file or a folder to take it from; no other place is looked at then
    allow_download  whether a file that is nowhere may be fetched into torch's hub cache

    A file whose name carries the beginning of its sha256 has that checked.
    """
    try:
        known = KNOWN[name]
    except KeyError:
        raise UnknownNameError(
            f"there are no metric weights called {name!r}. {did_you_mean(name, KNOWN)}"
        ) from None
    if path is not None:
        return _checked(_named(known, path, "the path given"))
    if known.variable in os.environ:
        return _checked(_named(known, os.environ[known.variable], known.variable))
    for folder in _folders():
        if (found := _inside(known, folder)) is not None:
            return _checked(found)
    if allow_download and known.url:
        return _download(known)
    raise MissingWeights(_missing(known))


def weights_print(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, in hexadecimal."""
    file = Path(path)
    about = file.stat()
    return _sha256(file, about.st_size, about.st_mtime_ns)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a checkpoint of torch that holds nothing else."""
    file = Path(path)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise LoadError(f"{file} cannot be read as weights: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise LoadError(f"{file} holds something else than tensors by their names")
    return dict(content)


@functools.lru_cache(maxsize=32)
def _sha256(file: Path, size: int, changed: int) -> str:
    """Size and time of the last change are there for the cache to see a file that was replaced."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _named(known: _Known, place: str | os.PathLike[str], who: str) -> Path:
    """What is at a place that somebody named."""
    path = Path(place).expanduser()
    found = _inside(known, path) if path.is_dir() else path if path.is_file() else None
    if found is not None:
        return found
    holds = f"a folder without {_either(known)}" if path.is_dir() else "not there"
    raise MissingWeights(f"no weights of {known.title}: {who} says {path}, which is {holds}")


def _inside(known: _Known, folder: Path) -> Path | None:
    files = (folder / file for file in known.files)
    return next((file for file in files if file.is_file()), None)


def _folders() -> Iterator[Path]:
    yield HERE
    if FOLDER in os.environ:
        folder = Path(os.environ[FOLDER]).expanduser()
        if not folder.is_dir():
            raise MissingWeights(f"{FOLDER} says {folder}, which is no folder")
        yield folder
    yield _cache()


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _checked(file: Path) -> Path:
    given = PREFIX.search(file.name)
    if given and not weights_print(file).startswith(given[1]):
        raise LoadError(
            f"{file} is damaged or another file: its sha256 begins with "
            f"{weights_print(file)[:8]}, its name says {given[1]}"
        )
    return file


def _download(known: _Known) -> Path:
    file, given = _cache() / known.files[0], PREFIX.search(known.files[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(
            str(known.url), str(file), hash_prefix=given[1] if given else None
        )
    except (OSError, RuntimeError) as error:
        raise LoadError(f"{known.url} cannot be fetched: {error}") from error
    return file


def _either(known: _Known) -> str:
    return " or ".join(known.files)


def _missing(known: _Known) -> str:
    folder = os.environ.get(FOLDER)
    return (
        f"no weights of {known.title}: {_either(known)} is not in {_cache()}, "
        + (f"not in {folder} ({FOLDER}), " if folder else f"{FOLDER} is not set, ")
        + f"and {known.variable} is not set. "
        + (f"Allow the download of {known.url}, or fetch it and " if known.url else "To have it, ")
        + f"name the file in {known.variable} or its folder in {FOLDER}."
    )
