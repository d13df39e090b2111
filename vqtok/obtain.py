"""From anything that names a tokenizer to its folder; other projects' checkpoints are converted.

A conversion is done once, into a folder of the cache that is called by the sha256 of what went
into it: the files, the family, the settings and the version of this module's format.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from vqtok import fingerprint
from vqtok.autoencoders import AutoencoderBase
from vqtok.checkpoints.beside import (
    PROCESSOR,
    names_beside,
    pixels_beside,
    settings_beside,
)
from vqtok.checkpoints.building import AUTO, Conversion, build
from vqtok.checkpoints.opening import (
    INDEX,
    files_of,
    find_checkpoint,
    open_checkpoint,
)
from vqtok.checkpoints.wrappers import merged
from vqtok.contents import CHECKPOINTS, WEIGHTS, is_tokenizer, other_checkpoints
from vqtok.errors import ConfigError, LoadError
from vqtok.folders import CONVERSION, read_report, save, vocab_of
from vqtok.hub import REPO, Resolved, fetch, resolve
from vqtok.preprocess import Preprocess
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab
from vqtok.zoo import bundled
from vqtok.zoo.aliases import Alias, aliases

__all__ = [
    "CONVERSION",
    "DISCRIMINATOR",
    "Request",
    "Source",
    "find",
    "obtain",
    "read_report",
    "write",
]

DISCRIMINATOR = "discriminator.safetensors"
# To be raised when a file is converted to something else than before.
VERSION = 2

Name = str | os.PathLike[str]
Config = Name | Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Another project's checkpoint on this machine, and how it is to be taken.

    file      the checkpoint, or the index of its parts
    origin    what messages and reports call it
    family    a name of `FAMILIES`, or "auto"
    config    the file of its settings, where one is named or lies beside it
    settings  what stands over those
    """

    file: Path
    origin: str
    family: str = AUTO
    config: Path | None = None
    settings: Mapping[str, Any] | None = None
    repo: str | None = None
    commit: str | None = None
    alias: Alias | None = None

    def build(self) -> Conversion:
        """Its model."""
        if self.alias is not None and not self.alias.seen:
            warnings.warn(
                f"{self.alias.name!r} names {self.alias.place} from its project's documentation; "
                "nobody has loaded that file with this package yet, so look at what it makes",
                stacklevel=2,
            )
        opened = open_checkpoint(
            self.file, config=self.config, settings=self.settings, origin=self.origin
        )
        return build(opened, self.family)

    def prints(self) -> dict[str, str]:
        """Name -> sha256 of each file that the weights are in."""
        found = {file.name: _sha256(file) for file in files_of(self.file)}
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
        config = _sha256(self.config) if self.config else ""
        told = [config, pixels_beside(self.file), self.settings or {}]
        parts = [VERSION, sorted(prints.values()), self.family, *told]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    """A name, and the options of `obtain`. `settings` stand over those of `config`."""

    name: Name
    revision: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    token: str | None = None
    cache_dir: Name | None = None
    local_files_only: bool = False
    filename: str | None = None
    family: str | None = None
    config: Config | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def obtain(name: Name, *options: Any, **named: Any) -> Resolved:
    """The folder of a tokenizer, which may be another project's checkpoint; options: `Request`.

    As `vqtok.hub.resolve` takes names, and: a checkpoint's file, a folder that holds one, an alias
    (`vqtok.zoo.aliases`), or with `filename` a file of a folder or of `org/name` on the hub. What
    was converted lies under the environment variable VQTOK_CACHE, by default ~/.cache/vqtok.

    family  of the checkpoint, where its keys do not tell
    config  the YAML or JSON that it was trained with, or its settings; by default what is beside it
    settings  single ones, over those
    """
    found = find(Request(name, *options, **named))
    if isinstance(found, Resolved):
        return found
    folder = _cached(found)
    return Resolved(folder, found.repo, found.commit, read_report(folder)["family"])


def find(asked: Request) -> Resolved | Source:
    """What a name means: a tokenizer's folder, or what makes one."""
    alias = _alias(asked.name)
    if alias is None:
        return _found(asked, None)
    asked = _of(alias, asked)
    try:
        return _found(asked, alias)
    except LoadError as error:
        raise LoadError(
            f"{alias.name!r} is {alias.place}, which was not fetched: {error}. Where it was "
            "downloaded by other means, its path does in place of the name"
        ) from error


def _found(asked: Request, alias: Alias | None) -> Resolved | Source:
    local = _local(asked)
    if local is None and not _is_hub_file(asked):
        _check_file(asked)
        _check_own(asked)
        place = asked.revision, asked.subfolder, asked.variant, asked.token, asked.cache_dir
        return resolve(asked.name, *place, asked.local_files_only)
    if asked.variant is not None:
        raise ConfigError(
            f"variant={asked.variant!r} chooses weights in a tokenizer's folder; "
            f"{os.fspath(asked.name)!r} is a checkpoint of another project, which has one kind"
        )
    if local is None:
        return _fetched(asked, alias)
    if asked.revision is not None:
        raise ConfigError(
            f"revision={asked.revision!r} chooses a commit on the hub; {local} is here"
        )
    return _source(asked, local, str(local), alias)


# --- names ------------------------------------------------------------------------------------


def _alias(name: Name) -> Alias | None:
    """The entry of a name, unless a folder or a bundled tokenizer is called so."""
    text = os.fspath(name)
    if not isinstance(name, str) or text in bundled() or Path(text).exists():
        return None
    return aliases().get(text)


def _of(alias: Alias, asked: Request) -> Request:
    """A request for what an alias names; what the caller says wins."""
    if alias.repo is None:
        raise LoadError(
            f"{alias.name!r} has no file to fetch by name: download it from {alias.address}, "
            "unpack it if it is an archive, put its YAML beside the file, and pass the file's path"
        )
    return replace(
        asked,
        name=alias.repo,
        revision=asked.revision or alias.commit,
        subfolder=asked.subfolder or alias.subfolder,
        filename=asked.filename or alias.filename,
        family=asked.family or (None if alias.filename is None else alias.family),
        config=asked.config or alias.config,
    )


def _local(asked: Request) -> Path | None:
    """The checkpoint here that is meant, or None where a tokenizer is, or something on the hub."""
    text, path = os.fspath(asked.name), Path(os.path.expanduser(asked.name))
    if path.is_file():
        if asked.filename is not None or asked.subfolder is not None:
            raise ConfigError(f"filename and subfolder are of folders; {text} is a file")
        if path.name.startswith(WEIGHTS) and is_tokenizer(path.parent):
            raise LoadError(f"{text} is the weights of a tokenizer: name the folder {path.parent}")
        return path
    folder = path / asked.subfolder if asked.subfolder else path
    if not text or not folder.is_dir():
        return None
    if asked.filename is not None:
        if not (folder / asked.filename).is_file():
            raise LoadError(f"{folder} has no file {asked.filename!r}")
        return folder / asked.filename
    names = [entry.name for entry in folder.iterdir()]
    if text in bundled() or is_tokenizer(folder) or not other_checkpoints(names):
        return None
    return find_checkpoint(folder)


def _is_hub_file(asked: Request) -> bool:
    text = asked.name if isinstance(asked.name, str) else ""
    return asked.filename is not None and REPO.fullmatch(text) is not None


def _check_file(asked: Request) -> None:
    """Raises where a name is that of a checkpoint's file, and there is none."""
    text = os.fspath(asked.name)
    if text.endswith(CHECKPOINTS) and "://" not in text and not Path(text).expanduser().exists():
        raise LoadError(f"there is no file {text}")


def _check_own(asked: Request) -> None:
    """Raises where what is for other projects' checkpoints is passed with a tokenizer."""
    for option in ("filename", "family", "config", "settings"):
        if getattr(asked, option):
            raise ConfigError(
                f"{option} is for checkpoints of other projects; {os.fspath(asked.name)!r} is no "
                "file or folder with one, and no org/name with filename"
            )


def _source(asked: Request, file: Path, origin: str, alias: Alias | None) -> Source:
    """A checkpoint on this machine."""
    layers: list[Mapping[str, Any]] = [alias.settings] if alias else []
    config: Path | None
    if isinstance(asked.config, str | os.PathLike):
        config = Path(asked.config)
    else:
        config = settings_beside(file)
        layers += [asked.config] if asked.config else []
    settings = merged(*layers, asked.settings)
    return Source(file, origin, asked.family or AUTO, config, settings, alias=alias)


def _fetched(asked: Request, alias: Alias | None) -> Source:
    """A checkpoint of a repository on the hub, with its settings and the parts of an index."""
    repo, filename = os.fspath(asked.name), str(asked.filename)
    names = ("revision", "subfolder", "token", "cache_dir", "local_files_only")
    reach = {name: getattr(asked, name) for name in names}
    named = alias is not None and asked.config == alias.config
    there = isinstance(asked.config, str) and (named or not Path(asked.config).exists())
    wanted = [str(asked.config)] if there else names_beside(Path(filename).name)
    file, commit = fetch(repo, filename, [*wanted, PROCESSOR], **reach)
    if file.name.endswith(INDEX):
        parts = [part.name for part in files_of(file)]
        fetch(repo, filename, parts, **{**reach, "revision": commit})
    if there:
        asked = replace(asked, config=file.parent / wanted[0])
        if not Path(str(asked.config)).is_file():
            raise LoadError(f"there is no file {wanted[0]!r}, neither here nor in {repo!r}")
    source = _source(asked, file, f"{filename} of {repo}", alias)
    return replace(source, repo=repo, commit=commit)


# --- conversions ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """A `folders.Savable`."""

    model: AutoencoderBase
    settings: Preprocess
    vocab: VisualVocab
    fingerprint: Fingerprint
    conversion: dict[str, Any] | None


def write(made: Conversion, folder: Path, source: Source, prints: Mapping[str, str]) -> None:
    """Writes a tokenizer's folder, with what is known of where it came from."""
    found = fingerprint.of_model(made.model, made.preprocess)
    report = made.report.to_dict() | {"source": _origin(source, prints)}
    tok = _Parts(made.model, made.preprocess, vocab_of(made.model), found, report)
    save(tok, folder, None, "10GB")
    if made.discriminator:
        # Contiguous, each with memory of its own, as safetensors wants them.
        tensors = {key: tensor.clone().contiguous() for key, tensor in made.discriminator.items()}
        save_file(tensors, folder / DISCRIMINATOR)


def _cached(source: Source) -> Path:
    """The folder of a conversion, made where there is none yet.

    It is renamed to its place when it is whole. Of two processes that make one the first wins.
    """
    prints = source.prints()
    root = _cache() / "converted"
    place = root / source.key(prints)
    if place.is_dir():
        return place
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


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _origin(source: Source, prints: Mapping[str, str]) -> dict[str, Any]:
    return {
        "file": source.file.name,
        "sha256": dict(prints),
        "repository": source.repo,
        "commit": source.commit,
        "alias": source.alias.name if source.alias else None,
        "config": source.config.name if source.config else None,
    }
