"""Names for interchangeable parts: one file a part, found by importing its package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from vqtok.errors import ConfigError, UnknownNameError, did_you_mean

__all__ = ["Registry", "construct"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to parts of one kind, such as quantizers.

    The modules of `package` are imported at the first look-up, so a new part is one new file
    there that registers itself, and no edit anywhere else.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._parts: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files its argument under `name`."""

        def add(part: T) -> T:
            if name in self._parts:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._parts[name] = part
            return part

        return add

    def __getitem__(self, name: str) -> T:
        self._load()
        try:
            return self._parts[name]
        except KeyError:
            raise UnknownNameError(
                f"there is no {self.kind} called {name!r}. {did_you_mean(name, self._parts)}"
            ) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._parts))

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, self._package + "."):
            importlib.import_module(module.name)
        self._loaded = True


def construct(
    part: Callable[..., T], what: str, *arguments: Any, known: Iterable[str] = (), **settings: Any
) -> T:
    """part(*arguments, **settings); a setting that it has not is a `ConfigError` on `what`.

    known  the names of its settings, where its own signature does not tell them
    """
    try:
        return part(*arguments, **settings)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise ConfigError(f"{what}: {error}") from error
        names = known or inspect.signature(part).parameters
        raise ConfigError(
            f"{what} has no setting {unknown[1]!r}. {did_you_mean(unknown[1], names)}"
        ) from None
