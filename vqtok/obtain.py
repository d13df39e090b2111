"""From anything that names a tokenizer to its folder; other projects' checkpoints are converted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vqtok.checkpoints import FAMILIES
from vqtok.checkpoints.beside import PROCESSOR, names_beside, read_settings, settings_beside
from vqtok.checkpoints.building import AUTO
from vqtok.checkpoints.opening import INDEX, files_of, find_checkpoint
from vqtok.checkpoints.wrappers import merged
from vqtok.contents import CHECKPOINTS, WEIGHTS, is_tokenizer, other_checkpoints
from vqtok.conversions import Converting, Source, cached
from vqtok.errors import ConfigError, LoadError
from vqtok.folders import read_report
from vqtok.hub import REPO, Resolved, fetch, resolve
from vqtok.zoo import bundled
from vqtok.zoo.aliases import Alias, aliases

__all__ = ["Request", "find", "obtain", "taken"]

# In config.json of diffusers and transformers, which no file of single settings has.
MARKS = {"_class_name", "model_type"}
# Field of `Request` -> how people write it, on a command line and in Python.
OPTIONS = {
    "filename": "--filename (filename=)",
    "config": "--config (config=)",
    "settings": "--set (config=)",
}
NO_CHECKPOINT = "no file or folder with one, and no org/name with --filename"

Name = str | os.PathLike[str]
Config = Name | Mapping[str, Any]


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
    settings  single ones, over those; one that the family does not read is an error
    """
    return taken(find(Request(name, *options, **named)))


def taken(found: Resolved | Source, converting: Converting | None = None) -> Resolved:
    """The folder of what `find` found; `converting` is called before a conversion."""
    if isinstance(found, Resolved):
        return found
    folder = cached(found, converting)
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
        found = resolve(asked.name, *place, asked.local_files_only)
        if asked.family not in (None, AUTO, found.family):
            raise ConfigError(
                f"{os.fspath(asked.name)!r} is a tokenizer of the family {found.family}, by its "
                f"config.json; got family={asked.family!r}"
            )
        return found
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
    for option, shown in OPTIONS.items():
        if getattr(asked, option):
            raise ConfigError(
                f"{shown} is for checkpoints of other projects; {os.fspath(asked.name)!r} is "
                + ("a tokenizer already" if _is_tokenizer(asked) else NO_CHECKPOINT)
            )


def _is_tokenizer(asked: Request) -> bool:
    """Whether one is here; what is on the hub nobody has looked at yet."""
    folder = Path(os.path.expanduser(asked.name)) / (asked.subfolder or "")
    return os.fspath(asked.name) in bundled() or is_tokenizer(folder)


def _source(asked: Request, file: Path, origin: str, alias: Alias | None) -> Source:
    """A checkpoint on this machine."""
    if asked.family not in (None, AUTO):
        FAMILIES[asked.family]  # an unknown name is an error, before a large file is read
    config: Path | None
    if isinstance(asked.config, str | os.PathLike):
        config, own = Path(asked.config).expanduser(), merged(asked.settings)
        _check_config(config)
    else:
        config, own = settings_beside(file), merged(_single(asked.config or {}), asked.settings)
    given = asked.config if isinstance(asked.config, Mapping) else {}
    settings = merged(alias.settings if alias else {}, given, asked.settings)
    return Source(file, origin, asked.family or AUTO, config, settings, own, alias=alias)


def _single(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings that are meant one by one; of a whole file as mappings a family reads a part."""
    whole = any(isinstance(value, Mapping) for value in config.values()) or config.keys() & MARKS
    return {} if whole else config


def _check_config(config: Path) -> None:
    """Raises where the caller's file of settings is none."""
    if not config.exists():
        raise LoadError(f"there is no file {config} with settings, which config names")
    if not config.is_file():
        raise LoadError(f"{config}, which config names, is no file")
    read_settings(config)


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
