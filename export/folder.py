"""The folder that an export is: graphs, and files that say what they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqtok.config_file import CONFIG_FILE
from vqtok.contents import CONFIG, GRAPHS, is_exported
from vqtok.errors import LoadError, VqtokError
from vqtok.export.runtime.folder import PARITY, PROBE, sha256
from vqtok.preprocess import CONFIG_NAME

__all__ = [
    "CARD",
    "REFUSED",
    "check_place",
    "in_place",
    "printed",
    "write_config",
    "write_json",
    "writing",
]

CARD = "README.md"
# The verdict of parity.json where graphs are not what their model is.
REFUSED = "refused"
# All that an export writes.
OURS = {
    *GRAPHS,
    *(f"{name}.data" for name in GRAPHS),
    *(CONFIG, CONFIG_NAME, CONFIG_FILE, PROBE, PARITY, CARD),
}


def check_place(place: Path, *, overwrite: bool, keep_failed: bool = False) -> None:
    """Raises where a folder of graphs cannot be written, before hours of work."""
    there = next(folder for folder in place.absolute().parents if folder.exists())
    if not there.is_dir():
        raise LoadError(f"{there} is a file, so there can be no {place}")
    if keep_failed:
        _check_failed(_failed(place))
    if not _taken(place):
        return
    _check_ours(place)
    if not overwrite:
        raise LoadError(f"{place} is there already; --overwrite replaces it")


def _taken(place: Path) -> bool:
    """Whether there is anything but an empty folder."""
    return place.exists() and not (place.is_dir() and not any(place.iterdir()))


def _check_ours(place: Path) -> None:
    """Raises where a place holds anything that an export does not write."""
    if not place.is_dir() or not is_exported(place):
        raise LoadError(
            f"{place} is there already, and no folder that `vqtok export` wrote, so it is not "
            "replaced; name another"
        )
    for one in sorted(place.iterdir()):
        if one.name not in OURS or one.is_dir():
            raise LoadError(
                f"{place} holds {one.name!r}, which `vqtok export` did not write, so it is not "
                "replaced; move that, or name another"
            )


def _check_failed(failed: Path) -> None:
    """Raises where something but refused graphs lies where refused graphs would be kept."""
    if not _taken(failed):
        return
    _check_ours(failed)
    if not _was_refused(failed):
        raise LoadError(
            f"{failed} is there already, and its graphs were not refused, so those that are cannot "
            "be kept there; name another"
        )


def _was_refused(folder: Path) -> bool:
    try:
        parity = json.loads((folder / PARITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(parity, dict) and parity.get("verdict") == REFUSED


def _failed(place: Path) -> Path:
    return place.with_name(f"{place.name}.failed")


@contextmanager
def in_place(place: Path, *, keep_failed: bool) -> Iterator[Path]:
    """A folder whose files are moved to the place in the end; nothing is left after an error.

    A folder that is there stays the one that it is: somebody may stand in it, or it is a mount.

    keep_failed  moves it to the place's name with `.failed` where its parity.json refuses it
    """
    with _ending_in_order(), _room(place) as room:
        made = room / place.name
        made.mkdir()
        try:
            yield made
        except Exception as error:
            if keep_failed and _was_refused(made):
                error.add_note(_kept(made, _failed(place)))
            raise
        with writing(place):
            _settle(made, place, room)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """What a file system refuses is a `LoadError`."""
    try:
        yield
    except VqtokError:
        raise
    except OSError as error:
        raise LoadError(f"{place} cannot be written: {error.strerror or error}") from error


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM, which would end the process on the spot, is an exit, so that nothing is left.

    Where somebody listens for it already, it is theirs.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one is not to end the tidying
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _room(place: Path) -> Iterator[Path]:
    """A folder for a while, of the place's own file system: inside it, where it is there."""
    with writing(place):
        beside = place if place.is_dir() else place.parent
        beside.mkdir(parents=True, exist_ok=True)
        room = tempfile.TemporaryDirectory(
            prefix=f".{place.name}.", dir=beside, ignore_cleanup_errors=True
        )
    with room as folder:
        yield Path(folder)


def _settle(made: Path, place: Path, room: Path) -> None:
    """To the place; what is there comes back where that cannot be."""
    if room.parent != place:
        made.rename(place)
        return
    before = room / "before"
    before.mkdir()
    old = [one.name for one in place.iterdir() if one.name in OURS]
    new = [one.name for one in made.iterdir()]
    # While config.json is not there, nobody takes the folder for a whole one.
    old.sort(key=lambda name: name != CONFIG)
    new.sort(key=lambda name: name == CONFIG)
    try:
        _carry(old, place, before)
        _carry(new, made, place)
    except BaseException:
        _carry([name for name in new if not (made / name).exists()], place, made)
        _carry([name for name in old if not (place / name).exists()], before, place)
        raise


def _carry(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        os.replace(source / name, target / name)


def _kept(made: Path, failed: Path) -> str:
    """Keeps refused graphs, and says where."""
    try:
        _check_failed(failed)  # again, for hours may have gone by
        if failed.exists():
            shutil.rmtree(failed)
        shutil.move(made, failed)
    except OSError as error:
        return f"What was written could not be kept in {failed}: {error.strerror or error}"
    return f"What was written is in {failed}"


def write_config(folder: Path, settings: dict[str, Any], files: Sequence[Path]) -> dict[str, Any]:
    """Writes and returns config.json: the settings, and size and sha256 of the graphs' files."""
    config = settings | {"files": {path.name: printed(path) for path in files}}
    write_json(folder / CONFIG, config)
    return config


def printed(path: Path) -> dict[str, Any]:
    """The size and sha256 of a file."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Indented, and no number that JSON does not know."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")
