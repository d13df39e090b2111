"""Files as `torch.save` writes them, honest and hostile."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

LEGACY = {"zip": False, "legacy": True}


def save(found: Any, file: Path, kind: str = "zip") -> Path:
    """`found` in one of the forms zip, legacy and bare, which is pickle alone."""
    if kind == "bare":
        file.write_bytes(pickle.dumps(found, protocol=2))
    else:
        torch.save(found, file, _use_new_zipfile_serialization=not LEGACY[kind])
    return file


class Calls:
    """Pickled as the call of a function, which happens when the pickle is opened."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.function, self.given = function, given

    def __reduce__(self) -> Any:
        return self.function, self.given


def hostile(mark: Path) -> dict[str, tuple[Any, str]]:
    """name -> (what is pickled, what a message calls it); each would make the file `mark`."""
    command = f"touch {mark}"
    python = f"open({str(mark)!r}, 'w')"
    return {
        "os.system": (Calls(os.system, command), f"{os.system.__module__}.system"),
        "eval": (Calls(builtins.eval, python), "builtins.eval"),
        "exec": (Calls(builtins.exec, python), "builtins.exec"),
        "getattr": (Calls(builtins.getattr, "text", "upper"), "builtins.getattr"),
        "subprocess": (Calls(subprocess.Popen, ["touch", str(mark)]), "subprocess.Popen"),
        "torch.load": (Calls(torch.load, str(mark)), "torch.serialization.load"),
        "pickle": (Calls(pickle.loads, b"N."), "pickle.loads"),
        "open": (Calls(builtins.open, str(mark), "w"), f"{builtins.open.__module__}.open"),
        "range": (Calls(set, Calls(range, 10**12)), "builtins.range"),
    }


def of_module(name: str, *bases: type, **members: Any) -> type:
    """A class that a pickle finds in the module `name`, which is made for it."""
    full, _, own = name.rpartition(".")
    parts = full.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        sys.modules.setdefault(path, types.ModuleType(path))
    made = type(own, bases or (object,), {**members, "__module__": full})
    setattr(sys.modules[full], own, made)
    return made
