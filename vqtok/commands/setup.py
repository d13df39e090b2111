"""A tokenizer as the options of a verb describe it. Importing this brings no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtok.commands.progress import note
from vqtok.errors import ConfigError

if TYPE_CHECKING:
    from vqtok.conversions import Source
    from vqtok.hub import Resolved
    from vqtok.obtain import Request
    from vqtok.preprocess import Preprocess
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.wanted import Wanted

__all__ = ["Setup", "say_converting", "settings_from"]


def settings_from(choices: Iterable[str]) -> dict[str, Any]:
    """`a.b=c`, as --set takes it, as nested settings."""
    from vqtok.training.presets import parse_choice

    found: dict[str, Any] = {}
    for choice in map(parse_choice, choices):
        inner: Any = found
        for name in choice.path[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{choice.origin}: {name} is {inner!r}, by another --set")
        inner[choice.path[-1]] = choice.value
    return found


def say_converting(source: Source, folder: Path) -> None:
    """Tells people at a terminal what takes so long."""
    note(f"converting {source.origin} into {folder}")


@dataclass(frozen=True)
class Setup:
    """The options that say which tokenizer, where and how. Making one costs and checks nothing.

    filename, family, config and sets are for other projects' checkpoints, as `vqtok.obtain.Request`
    has them; each of `sets` is NAME=VALUE. A precision of None is that of the tokenizer's folder.
    """

    name: str
    revision: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    device: str = "auto"
    precision: str | None = None
    batch_size: int = 16
    size: str | None = None
    policy: str | None = None
    filename: str | None = None
    family: str = "auto"
    config: str | None = None
    sets: Sequence[str] | None = None
    backend: str = "auto"

    def wanted(self) -> Wanted:
        """The tokenizer that the options name."""
        from vqtok.backends import check_backend
        from vqtok.wanted import Wanted

        return Wanted(
            name=self.name,
            revision=self.revision,
            subfolder=self.subfolder,
            variant=self.variant,
            filename=self.filename,
            family=None if self.family == "auto" else self.family,
            config=self.config,
            settings=settings_from(self.sets or ()),
            backend=check_backend(self.backend),
        )

    def request(self) -> Request:
        """What is to be found."""
        return self.wanted().request()

    def resolve(self, found: Resolved | Source | None = None) -> Resolved:
        """Its folder; another project's checkpoint is converted first. `found` by its request."""
        from vqtok.obtain import find, taken

        return taken(found or find(self.request()), say_converting)

    def check(self) -> None:
        """Raises where an option cannot be, which costs nothing to find."""
        from vqtok.backends import check_backend
        from vqtok.precision import check_precision

        check_backend(self.backend)
        if self.precision is not None:
            check_precision(self.precision)
        if self.size is not None:
            from vqtok.preprocess import parse_size

            parse_size(self.size)

    def changes(self, now: Preprocess) -> dict[str, Any]:
        """What `size` and `policy` change of a tokenizer's own settings."""
        from vqtok.preprocess import parse_size

        size = None if self.size is None else parse_size(self.size)
        if size is not None and now.keeps_size and self.policy is None:
            raise ConfigError(
                "this tokenizer takes pictures in their own size; with --size say how to bring "
                "them to it: --policy center, stretch or pad"
            )
        return now.chosen(size, self.policy)

    def load(self, found: Resolved | None = None) -> VisualTokenizer:
        """The tokenizer, with the preprocessing that was asked for; `found` is its folder."""
        self.check()
        wanted = self.wanted()
        if not wanted.is_graphs():
            wanted = wanted.at((found or self.resolve()).path)
        tok = wanted.load(self.device, self.precision)
        changes = self.changes(tok.settings)
        tok = tok.with_preprocess(**changes) if changes else tok
        tok.batch_size = self.batch_size
        return tok
