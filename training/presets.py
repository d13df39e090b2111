"""From a preset or a YAML file and `--set` to the settings of a run, and back to a file.

A file holds settings as `vqtok.training.settings` names them, and may say besides:

    about         a line on what it is, for lists
    base          the preset whose settings stand where this file is silent
    as_repo       what differs with `--as repo`: what the released code does, where that is not
                  what the paper says
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vqtok.errors import ConfigError, LoadError, UnknownNameError, did_you_mean
from vqtok.training.layering import Choice, Layered
from vqtok.training.settings import BROUGHT, Settings
from vqtok.training.wording import check_settings
from vqtok.training.yamls import read_yaml, write_yaml

__all__ = ["SETTINGS", "Resolved", "about", "load_settings", "parse_choice", "presets", "to_yaml"]

SETTINGS = "settings.yaml"  # in the folder of a run: what it was resolved to

SUFFIXES = (".yaml", ".yml")
Variant = Literal["paper", "repo"]


class Resolved(NamedTuple):
    """Settings, and what a person should know of how they came about."""

    settings: Settings
    notes: list[str]


def presets() -> dict[str, Path]:
    """The presets in the package: name -> file."""
    folder = Path(str(files("vqtok.training") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def about(name: str) -> str:
    """What a preset is, in a line."""
    return str(_read(presets()[name])["about"])


def load_settings(
    config: str | Path,
    choices: Sequence[Choice] = (),
    *,
    variant: Variant = "paper",
) -> Resolved:
    """The settings of a preset or file, with `choices` made on top of it."""
    path = _find(config)
    ours = path in presets().values()
    label = f"the preset {path.stem}" if ours else str(path)
    parts = list(_with_bases(path, label))
    layered = Layered()
    notes = [note for part, origin in parts for note in layered.lay(part, origin)]
    if variant == "repo":
        for part, origin in parts:
            notes += layered.lay(part.get("as_repo", {}), origin)
    if ours:  # what one preset leaves out of another is its own affair
        notes = []
    if variant == "repo" and not any("as_repo" in part for part, _ in parts):
        notes.append(f"{label} follows no released code: --as repo changes nothing")
    layered.values.setdefault("name", path.stem)
    notes += layered.choose(choices)
    return Resolved(check_settings(layered.finished(), layered.origins, label), notes)


def parse_choice(text: str) -> Choice:
    """`a.b=c`, as `--set` takes it."""
    key, equals, value = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set takes KEY=VALUE, such as optimizer.lr=1e-4; got {text!r}")
    origin = f"--set {text}"
    return Choice(path, read_yaml(value, origin), origin)


def to_yaml(settings: Settings) -> str:
    """A file that gives equal settings again."""
    # What the tokenizer brings is not said twice, and these would be the defaults of new ones.
    brought = set(BROUGHT) if settings.init is not None else set()
    return write_yaml(settings.model_dump(exclude=brought))


def _find(config: str | Path) -> Path:
    """The file of a preset's name, or of a path."""
    known = presets()
    text = str(config)
    if text in known:
        return known[text]
    path = Path(config).expanduser()
    if path.is_file():
        return path
    if path.suffix in SUFFIXES or path.name != text:
        raise LoadError(f"there is no file {text}")
    raise UnknownNameError(
        f"there is no preset called {text!r}, and no file of that name. {did_you_mean(text, known)}"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{path} cannot be read: {error}") from error
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a file is a map of settings; got {values!r}")
    return values


def _with_bases(path: Path, label: str) -> Iterator[tuple[dict[str, Any], str]]:
    """What a file says, and who says it, after the same of the preset under it."""
    own = _read(path)
    if "base" in own:
        known, name = presets(), own["base"]
        if name not in list(known):
            near = did_you_mean(name, known)
            raise UnknownNameError(f"{label}: base is no preset: {name!r}. {near}")
        yield from _with_bases(known[name], f"the preset {name}")
    yield own, label
