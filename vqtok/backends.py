"""What a tokenizer runs on: torch, ONNX Runtime, or what a caller brings. Importing it is light.

The one reference of this package that points up is a name in `BACKENDS`; ADR 0009 says why.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, runtime_checkable

from vqtok.contents import DISCRIMINATOR, ONNX, is_exported
from vqtok.errors import (
    ConfigError,
    ImageError,
    MismatchError,
    MissingExtraError,
    did_you_mean,
)
from vqtok.extras import require
from vqtok.hub import REPO, Resolved, resolve
from vqtok.precision import check_precision
from vqtok.preprocess import Preprocess
from vqtok.traits import Traits
from vqtok.types import Codec, Fingerprint
from vqtok.vocab import VisualVocab
from vqtok.zoo.aliases import aliases

if TYPE_CHECKING:
    from vqtok.autoencoders import AutoencoderBase

__all__ = [
    "AUTO",
    "BACKENDS",
    "Backend",
    "FolderCodec",
    "LocalCodec",
    "Parts",
    "Place",
    "TorchBackend",
    "check_backend",
    "check_parts",
    "load",
    "parts_of",
]

AUTO = "auto"
# Imported when they are asked for.
BACKENDS = {
    "torch": "vqtok.backends:TorchBackend",
    "onnx": "vqtok.export.runtime:OnnxBackend",
}


@runtime_checkable
class LocalCodec(Codec, Protocol):
    """A codec whose model is in this process."""

    def to(self, device: Any) -> None:
        """Moves the model; `ConfigError` where there is no such device here."""
        ...

    def with_fingerprint(self, fingerprint: Fingerprint) -> Self:
        """The same model under another print, which other preprocessing gives it."""
        ...


@runtime_checkable
class FolderCodec(Codec, Protocol):
    """A codec that is saved by copying the folder that it is of."""

    def save(self, folder: Path, vocab: VisualVocab, variant: str | None) -> None:
        """Copies it, with another vocabulary; `MismatchError` where it is another tokenizer now."""
        ...


class Parts(NamedTuple):
    """What a `VisualTokenizer` is made of."""

    codec: Codec
    settings: Preprocess
    vocab: VisualVocab
    conversion: dict[str, Any] | None = None
    discriminator: Path | None = None


@runtime_checkable
class Backend(Protocol):
    """What makes a codec of a tokenizer's folder."""

    def check(self, device: Any, precision: str | None) -> None:
        """Raises where it cannot run so here, before a tokenizer is looked for."""
        ...

    def load(
        self,
        folder: Path,
        *,
        device: Any = None,
        precision: str | None = None,
        variant: str | None = None,
    ) -> Parts:
        """The parts of the tokenizer in a folder; an error where it is not one for this backend.

        device     where it runs; None leaves that to the backend
        precision  the arithmetic of ids; None is that of the folder
        variant    of weights, where a folder holds several
        """
        ...


class Place(NamedTuple):
    """Where a tokenizer is found: the options of `vqtok.obtain.Request`."""

    name: str | os.PathLike[str]
    revision: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    token: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    local_files_only: bool = False
    filename: str | None = None
    family: str | None = None
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None


def load(place: Place, backend: str | Backend, device: Any, precision: str | None) -> Parts:
    """The parts of the tokenizer at a place, on the backend of that name, or that given.

    "auto" is ONNX Runtime for what `vqtok export` wrote, else torch. Of a folder here with ONNX
    graphs, and with another backend than torch, neither torch nor diffusers nor transformers is
    imported.
    """
    here = Path(os.path.expanduser(place.name)) / (place.subfolder or "")
    exported = is_exported(here)
    if backend == AUTO and not exported:
        found = _unseen(place, here, device, precision)
        runs = _named("onnx" if found.family == ONNX else "torch")
    else:
        runs = _named("onnx" if backend == AUTO else backend)
        runs.check(device, precision)
        weights = isinstance(runs, TorchBackend) and not exported
        found = _weights(place) if weights else _graphs(place, here)
    return runs.load(found.path, device=device, precision=precision, variant=place.variant)


def check_backend(name: object) -> str:
    """`name`, where it is "auto" or in `BACKENDS`; a `ConfigError` otherwise."""
    known = [AUTO, *BACKENDS]
    if not isinstance(name, str):
        raise ConfigError(f"backend is a name here, one of {', '.join(known)}; got {name!r}")
    if name not in known:
        raise ConfigError(f"there is no backend called {name!r}. {did_you_mean(name, known)}")
    return name


def _named(backend: str | Backend) -> Backend:
    """The backend of a name, or that given; a `ConfigError` for what is none."""
    if isinstance(backend, str):
        module, _, attribute = BACKENDS[check_backend(backend)].partition(":")
        made: Backend = getattr(import_module(module), attribute)()
        return made
    if isinstance(backend, type):
        name = backend.__name__
        raise ConfigError(f"backend is the class {name}; an object of it runs, such as {name}()")
    if not isinstance(backend, Backend):
        raise ConfigError(
            f"backend is one of {', '.join((AUTO, *BACKENDS))}, or an object with the methods of "
            f"`vqtok.backends.Backend`; got {backend!r}"
        )
    return backend


def _unseen(place: Place, here: Path, device: Any, precision: str | None) -> Resolved:
    """What a name leads to that is no export here: for torch, but for graphs on the hub."""
    try:
        _named("torch").check(device, precision)
    except MissingExtraError as error:
        return _without_torch(place, here, error)
    except ConfigError:
        if not _on_graphs(place, device):
            raise
    return _weights(place)


def _on_graphs(place: Place, device: Any) -> bool:
    """Whether a device that torch has not would do for graphs, which a repository may hold."""
    if not REPO.fullmatch(os.fspath(place.name)) or place.filename:
        return False
    try:
        _named("onnx").check(device, None)
    except (ConfigError, MissingExtraError):
        return False
    return True


def _without_torch(place: Place, here: Path, error: MissingExtraError) -> Resolved:
    """Graphs on the hub; what is wrong with a name; or that torch is missing."""
    name = os.fspath(place.name)
    options = place.filename, place.family, place.config
    if any(options) or (not here.exists() and name in aliases()):
        raise error
    found = _graphs(place, here)
    if found.family != ONNX:
        raise error
    return found


def _weights(place: Place) -> Resolved:
    """The folder that a name leads to, converted where that takes it; imports torch."""
    from vqtok.obtain import obtain

    return obtain(*place)


def _graphs(place: Place, here: Path) -> Resolved:
    """The folder of an export, here or on the hub."""
    name = os.fspath(place.name)
    if not here.exists() and name in aliases():
        raise ConfigError(
            f"{name!r} is a checkpoint of another project, for torch; what `vqtok export {name} "
            "OUT` writes runs on ONNX Runtime"
        )
    for option in ("filename", "family", "config"):
        if getattr(place, option):
            raise ConfigError(
                f"{option} is for checkpoints of other projects, which torch runs; {name!r} is to "
                "be a folder that `vqtok export` wrote"
            )
    options = place.revision, place.subfolder, place.variant, place.token, place.cache_dir
    return resolve(place.name, *options, place.local_files_only)


# --- torch ----------------------------------------------------------------------------------------


class TorchBackend:
    """torch, with the weights of a tokenizer's folder."""

    def check(self, device: Any, precision: str | None) -> None:
        """See `Backend.check`."""
        require("torch", "torch", "tokenizers run, but for ONNX graphs (backend='onnx'),")
        if precision is not None:
            check_precision(precision)
        if device is not None:
            from vqtok.codec import check_device

            check_device(device)

    def load(
        self,
        folder: Path,
        *,
        device: Any = None,
        precision: str | None = None,
        variant: str | None = None,
    ) -> Parts:
        """See `Backend.load`."""
        if is_exported(folder):
            raise ConfigError(
                f"{folder} holds ONNX graphs and no weights for torch; backend='onnx' runs them"
            )
        from vqtok.folders import load as load_folder
        from vqtok.folders import read_report

        model, fingerprint, settings, vocab = load_folder(folder, variant)
        parts = parts_of(model, fingerprint, settings, vocab, precision or "ieee32", variant)
        if device is not None:
            self.check(device, None)  # a name on the hub may have been let through for graphs
            model.to(device)
        kept = folder / DISCRIMINATOR
        return parts._replace(
            conversion=read_report(folder) or None, discriminator=kept if kept.is_file() else None
        )


def parts_of(
    model: AutoencoderBase,
    fingerprint: Fingerprint,
    settings: Preprocess,
    vocab: VisualVocab | None = None,
    precision: str = "ieee32",
    variant: str | None = None,
) -> Parts:
    """The parts of a tokenizer around a model of torch; `MismatchError` where they do not fit."""
    from vqtok.clip_codec import TorchClipCodec
    from vqtok.codec import TorchCodec
    from vqtok.folders import vocab_of

    vocab = vocab or vocab_of(model)
    kind = TorchClipCodec if model.is_video else TorchCodec
    codec = kind(model, fingerprint, precision, variant)
    check_parts(codec.traits, settings, vocab)
    return Parts(codec, settings, vocab)


def check_parts(traits: Traits, settings: Preprocess, vocab: VisualVocab) -> None:
    """Raises where a model, preprocessing and a vocabulary are not those of one tokenizer."""
    own = traits.codebook_size, traits.depth
    if (vocab.codebook_size, vocab.depth) != own:
        raise MismatchError(
            f"the vocabulary is for codebook_size={vocab.codebook_size} and depth={vocab.depth}, "
            f"the model has codebook_size={own[0]} and depth={own[1]}"
        )
    flat = traits.axes == 1
    if vocab.is_flat != flat:
        raise MismatchError(
            f"the codes of this model are {'one sequence' if flat else 'a grid'}, and the "
            f"vocabulary has order={vocab.order!r}; "
            + ("take 'sequence'" if flat else "take 'raster' or 'column'")
        )
    own_size = settings.size is None
    sides = (settings.stride,) * 2 if own_size else settings.sides
    frames = (traits.frames,) if traits.is_video else ()
    try:
        traits.latent_grid_of((*frames, *sides))
    except ImageError as error:
        named = f"stride={settings.stride}" if own_size else f"size={settings.size}"
        raise MismatchError(f"preprocessing with {named} does not fit the model: {error}") from None
