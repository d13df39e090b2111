"""A tokenizer and a source as people name them, kept in `job.json` for the verbs that come later.

Names and paths mean something on one machine, so they are no part of a plan: what they lead to is
compared with the plan wherever it is used.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vqtok.errors import InputError
from vqtok.offline.stored import Stored
from vqtok.wanted import Wanted, on_cpu

if TYPE_CHECKING:
    from vqtok.offline.plan import Plan
    from vqtok.offline.store import Store
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["JOB", "Loader", "Origin", "absolute", "called", "recall", "remember"]

JOB = "job.json"


class Origin(Stored):
    """`job.json`: where a data set's samples and codes came from, as whoever started it said it.

    absolute   the same sources from the root of that machine, for other working directories
    tokenizer  None where it was given as an object
    folder     the whole path of the tokenizer, where it is a folder
    """

    version: Literal["vqtok-job/1"] = Field(default="vqtok-job/1", alias="schema")
    source: list[str]
    absolute: list[str] = Field(default_factory=list)
    kind: str | None
    tokenizer: Wanted | None
    folder: str | None = None

    @classmethod
    def of(cls, source: Sequence[str], kind: str | None, tokenizer: Wanted | None) -> Origin:
        """As they are named in this working directory."""
        folder = None
        if tokenizer is not None and Path(tokenizer.name).exists():
            folder = absolute(tokenizer.name)
        return cls(
            source=list(source),
            absolute=[absolute(path) for path in source],
            kind=kind,
            tokenizer=tokenizer,
            folder=folder,
        )

    def sources(self) -> tuple[str, ...]:
        """As they were named, where these are here, else by their whole paths if those are."""
        here = all(map(_is_there, self.source))
        there = self.absolute and all(map(_is_there, self.absolute))
        return tuple(self.absolute if there and not here else self.source)

    def named(self) -> Wanted | None:
        """The tokenizer likewise."""
        if self.tokenizer is None or self.folder is None or Path(self.tokenizer.name).exists():
            return self.tokenizer
        if not Path(self.folder).exists():
            return self.tokenizer
        return self.tokenizer.model_copy(update={"name": self.folder})


def remember(store: Store, origin: Origin) -> None:
    """Writes job.json, over that of an earlier run, whose tokenizer stays if this has no name."""
    earlier = recall(store)
    if origin.tokenizer is None and earlier is not None:
        origin = origin.model_copy(
            update={"tokenizer": earlier.tokenizer, "folder": earlier.folder}
        )
    data = origin.to_bytes()
    if not (store.exists(JOB) and store.get(JOB) == data):
        store.put(JOB, data)


def recall(store: Store) -> Origin | None:
    """None where nobody wrote it, or took it away before publishing."""
    if not store.exists(JOB):
        return None
    return Origin.from_bytes(store.get(JOB), f"{store.url}/{JOB}")


class Loader:
    """`Job.load`: makes the tokenizer of a plan on a device; what goes elsewhere is its name.

    named  None: there is only the object
    held   one that is loaded already, for the process that it is in
    """

    def __init__(self, named: Wanted | None, held: VisualTokenizer | None, plan: Plan) -> None:
        self.named = named
        self._held = held
        self._precision, self._preprocess = plan.tokenizer.precision, plan.preprocess

    def __call__(self, device: str) -> VisualTokenizer:
        held = self._held
        if held is not None and (self.named is None or device in ("auto", str(held.device))):
            return held
        if self.named is None:
            raise InputError("a tokenizer that is given as an object stays in its process")
        tok = self.named.load(device, self._precision)
        settings = type(tok.settings).model_validate_json(json.dumps(self._preprocess))
        return tok if settings == tok.settings else tok.with_preprocess(**settings.model_dump())

    def look(self) -> VisualTokenizer:
        """The tokenizer on the CPU, where others are to make shards with it."""
        other = copy(self)
        other._precision = on_cpu(self._precision) or self._precision
        return other("cpu")

    def anywhere(self) -> Loader:
        """The same for processes with another working directory: folders by their whole paths."""
        other = copy(self)
        if self.named is not None and Path(self.named.name).exists():
            other.named = self.named.model_copy(update={"name": absolute(self.named.name)})
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}


def called(name: str) -> str:
    """What a plan calls a tokenizer: of a folder its own name, so that none says where it lies."""
    path = Path(name)
    if not path.is_dir():
        return name
    path = path.resolve()
    return path.parent.name if path.name == "tokenizer" else path.name


def _is_there(path: str) -> bool:
    """Whether there is such a file or folder, or one of a pattern; of a URL, it is taken so."""
    if "://" in path:
        return True
    path = os.path.expanduser(path)
    return os.path.exists(path) or bool(glob.glob(path, recursive=True))


def absolute(path: str) -> str:
    """A path or pattern of this machine from its root; a URL as it is."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))
