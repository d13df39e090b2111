"""Token data sets in the form that another trainer reads unchanged: one module a form.

How to add an export
--------------------
One new file here, with one function that is registered under the name the command line has for it:

    @export("kind", what="codes")
    def kind(tokens: Tokens, folder: Path, advance: Advance, *, option: int = 0) -> Told: ...

It writes into a folder that is there and empty, calls `advance(1)` after each row of the set, and
returns what `origin.json` says about the result. Data that the trainer could not tell from other
data, or would read wrongly, is an `InputError` of one sentence, raised before anything is written
where that can be. Bytes are a function of the rows and the options. The folder is moved to its
place when it is whole. tests/offline/exports/test_exports.py runs every export.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from vqtok.errors import ConfigError, InputError, did_you_mean
from vqtok.registry import Registry

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.rows import Row

__all__ = ["EXPORTS", "Advance", "Export", "Tokens", "Told", "Writer", "export"]

Advance = Callable[[int], object]
Told = Mapping[str, Any]
What = Literal["codes", "latents", "both"]


class Tokens(Protocol):
    """What an export needs of a `TokenSet`. Its rows are read more than once."""

    shift_factor: float | None
    scaling_factor: float | None

    @property
    def plan(self) -> Plan: ...
    @property
    def sha256(self) -> str: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Row]: ...


class Writer(Protocol):
    """Rows -> files in a folder."""

    def __call__(
        self, tokens: Tokens, folder: Path, advance: Advance, /, **options: Any
    ) -> Told: ...


@dataclass(frozen=True)
class Export:
    """One form that data sets can be written in.

    what  what rows have to hold; "both": either of the two, and both where there are both
    """

    name: str
    what: What
    write: Writer

    @property
    def options(self) -> tuple[str, ...]:
        """The names of its options."""
        parameters = inspect.signature(self.write).parameters.values()
        return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)

    def __call__(
        self,
        tokens: Tokens,
        out: Path,
        advance: Advance = lambda rows: None,
        *,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        """Writes the folder `out`, whole or not at all; one that is there only over an export."""
        from vqtok.offline.exports.outputs import new_folder, write_origin

        self._check(tokens, options)
        with new_folder(out, overwrite=overwrite) as folder:
            told = self.write(tokens, folder, advance, **options)
            # Whose classes were given stands in classes.json, and not where that lay.
            said = {name: value for name, value in options.items() if name != "classes"}
            write_origin(folder, self.name, tokens, {"options": said, **told})

    def _check(self, tokens: Tokens, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in self.options:
                raise ConfigError(
                    f"the {self.name} export has no option {name!r}. "
                    f"{did_you_mean(name, self.options)}"
                )
        if self.what != "both" and tokens.plan.what not in (self.what, "both"):
            raise InputError(
                f"the {self.name} export is of {self.what}, and this data set holds "
                f"{tokens.plan.what}; tokenize with --what {self.what}"
            )
        if len(tokens) == 0:
            raise InputError("this data set has no rows, so there is nothing to export")


EXPORTS: Registry[Export] = Registry("export", "vqtok.offline.exports")


def export(name: str, *, what: What) -> Callable[[Callable[..., Told]], Export]:
    """A decorator that registers a writer under `name`."""

    def add(write: Callable[..., Told]) -> Export:
        return EXPORTS.register(name)(Export(name, what, write))

    return add
