"""Other projects' checkpoints as folders of a cache, each made once.

A folder is called by the sha256 of what went into it: the files, the family, the settings and the
version of this module's format.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vqtok import fingerprint
from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.weights import model_file
from vqtok.checkpoints.beside import pixels_beside
from vqtok.checkpoints.building import AUTO, Conversion, build
from vqtok.checkpoints.heed import Heed
from vqtok.checkpoints.opening import files_of, open_checkpoint
from vqtok.checkpoints.prints import remembered, sha256
from vqtok.contents import CONFIG, DISCRIMINATOR
from vqtok.errors import LoadError
from vqtok.files import save_tensors
from vqtok.folders import save, settings_of, vocab_of
from vqtok.hub import Resolved
from vqtok.preprocess import Preprocess
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab
from vqtok.zoo.aliases import Alias

__all__ = ["Converting", "Source", "cached", "stock", "write"]

# To be raised when a file is converted to something else than before.
VERSION = 2

# Gets what is converted, and the folder that it will be.
Converting = Callable[["Source", Path], None]


@dataclass(frozen=True)
class Source:
    """Another project's checkpoint on this machine, and how it is to be taken.

    file      the checkpoint, or the index of its parts
    origin    what messages and reports call it
    family    a name of `FAMILIES`, or "auto"
    config    the file of its settings, where one is named or lies beside it
    settings  what stands over those
    own       of these, what the caller says, and what the family is to read
    folder    of a stock VQModel, whose preprocessing stays as it is
    """

    file: Path
    origin: str
    family: str = AUTO
    config: Path | None = None
    settings: Mapping[str, Any] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    repo: str | None = None
    commit: str | None = None
    alias: Alias | None = None
    folder: Path | None = None

    def build(self) -> Conversion:
        """Its model; `ConfigError` where the caller sets what nothing of the family reads."""
        unseen = self._unseen()
        if unseen:
            warnings.warn(unseen, stacklevel=2)
        opened = open_checkpoint(
            self.file, config=self.config, settings=self.settings, origin=self.origin
        )
        with Heed(opened.settings, self.own) as heed:
            made = build(replace(opened, settings=heed.settings), self.family)
        heed.check(made.family, self.origin)
        if unseen:
            made = replace(made, report=replace(made.report, notes=(*made.report.notes, unseen)))
        if self.folder is not None:
            made = replace(made, preprocess=settings_of(self.folder, made.model))
        return made

    def _unseen(self) -> str:
        """What is to be known of a name that nobody has tried; "" of any other."""
        if self.alias is None or self.alias.seen:
            return ""
        return (
            f"{self.alias.name!r} names {self.alias.place} from its project's documentation; "
            "nobody has loaded that file with this package yet, so look at what it makes"
        )

    def prints(self, index: Path | None = None) -> dict[str, str]:
        """Name -> sha256 of each file that the weights are in; `index` is as in `remembered`."""
        files = files_of(self.file)
        found = {file.name: remembered(file, index) if index else sha256(file) for file in files}
        named = self.alias.sha256 if self.alias else None
        if named is not None and found[self.file.name] != named:
            raise LoadError(
                f"{self.origin} has the sha256 {found[self.file.name]}, and {named} is what "
                f"{self.alias.name if self.alias else ''!r} should have; it is another file or "
                "damaged"
            )
        return found

    def key(self, prints: Mapping[str, str]) -> str:
        """The name of its folder in the cache."""
        config = sha256(self.config) if self.config else ""
        told = [config, pixels_beside(self.file), self.settings or {}]
        parts = [VERSION, sorted(prints.values()), self.family, *told]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def stock(found: Resolved, variant: str | None = None) -> Source:
    """The folder of a stock VQModel as a checkpoint, to be converted as its bare file is."""
    return Source(
        model_file(found.path, variant),
        f"{found.repo} at {found.commit}" if found.repo else str(found.path),
        found.family,
        found.path / CONFIG,
        repo=found.repo,
        commit=found.commit,
        folder=found.path,
    )


@dataclass(frozen=True)
class _Parts:
    """A `folders.Savable`."""

    model: AutoencoderBase
    settings: Preprocess
    vocab: VisualVocab
    fingerprint: Fingerprint
    conversion: dict[str, Any] | None
    discriminator: None = None


def write(made: Conversion, folder: Path, source: Source, prints: Mapping[str, str]) -> None:
    """Writes a tokenizer's folder, with what is known of where it came from."""
    found = fingerprint.of_model(made.model, made.preprocess)
    report = made.report.to_dict() | {"source": _origin(source, prints)}
    tok = _Parts(made.model, made.preprocess, vocab_of(made.model), found, report)
    save(tok, folder, None, "10GB")
    if made.discriminator:
        # Contiguous, each with memory of its own, as safetensors wants them.
        tensors = {key: tensor.clone().contiguous() for key, tensor in made.discriminator.items()}
        save_tensors(tensors, folder / DISCRIMINATOR)


def cached(source: Source, converting: Converting | None) -> Path:
    """The folder of a conversion, made where there is none yet.

    It is renamed to its place when it is whole. Of two processes that make one the first wins.
    """
    prints = source.prints(_cache() / "prints")
    root = _cache() / "converted"
    place = root / source.key(prints)
    if place.is_dir():
        return place
    if converting is not None:
        converting(source, place)
    root.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{place.name[:16]}.", dir=root))
    try:
        beside.chmod(0o755)  # mkdtemp's is for this user alone, and caches are shared
        write(source.build(), beside, source, prints)
        try:
            beside.rename(place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return place


def _cache() -> Path:
    if named := os.environ.get("VQTOK_CACHE"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "vqtok"


def _origin(source: Source, prints: Mapping[str, str]) -> dict[str, Any]:
    return {
        "file": source.file.name,
        "sha256": dict(prints),
        "repository": source.repo,
        "commit": source.commit,
        "alias": source.alias.name if source.alias else None,
        "config": source.config.name if source.config else None,
    }
