"""Files that are whole or not there, written beside their place, then moved; and who reads them."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["save_tensors", "share_like", "whole"]


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """`path` open for writing; after an error or an interruption it is as it was before."""
    place = path.resolve()  # a link stays a link
    if place.exists() and not place.is_file():  # a pipe or a device
        with place.open("wb") as file:
            yield file
        return
    part = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        with _cleaned(part), part.open("wb") as file:
            yield file
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _cleaned(part: Path) -> Iterator[None]:
    """SIGTERM, which would end the process on the spot, removes `part` first.

    Where somebody listens for it already, it is theirs.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def end(number: int, frame: Any) -> None:
        if os.getpid() == owner:  # and no fork, whose parent still writes
            part.unlink(missing_ok=True)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file that is read by whom other files of this process are.

    The library makes its own readable to nobody but the user who runs it, so that a server under
    another user's name would not find a tokenizer in a folder that was handed to it.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    path.chmod(stat.S_IMODE(mode))


def share_like(path: Path, others: Iterator[Path]) -> None:
    """Others are read by whom `path` is; see `save_tensors`."""
    mode = stat.S_IMODE(path.stat().st_mode)
    for other in others:
        other.chmod(mode)
