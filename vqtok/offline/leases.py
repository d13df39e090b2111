"""Who works on which shard: they save work, and nothing depends on them.

A lease is a file in claims/ that its holder touches now and then. One that has not been touched
for long, or whose holder is a process of this machine that is gone, can be taken over. Should two
workers come to do the same shard all the same, the first to commit wins.

Whoever is slower than its lease goes on all the same, until the shard is done, by itself or by
somebody else: were it to give up, two who are slow could take a shard from one another for ever.
Whoever took over has twice as long, so that not everybody who is idle begins the same shard.

Object stores have no leases: there a shard may be made twice, and one of the two loses.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vqtok.errors import LoadError
from vqtok.offline.folder import FolderStore, refusing
from vqtok.offline.ledger import record_name
from vqtok.offline.records import stem, unstem
from vqtok.offline.store import Store

__all__ = ["BEATS", "CLAIMS", "Claim", "LeaseLost", "Leases", "claims", "clear"]

CLAIMS = "claims/"
BEATS = 4  # a lease is touched this often before it would run out
MOST = 8  # leases that whoever took over may be silent
DOOR = ".door"
AGED = 60.0


class LeaseLost(Exception):
    """Out of `beat`: somebody else has done the shard, so whoever sees it goes on to the next."""


class Claim(NamedTuple):
    """Who has a shard.

    token  of this claim alone
    space  where `pid` means something
    since  when it was taken, by the holder's clock
    lease  seconds without a sign of life after which it is nobody's
    touched  when it last gave one, by the clock of the file system
    age    seconds since then; 0 where nobody asked for the time
    """

    shard: int
    attempt: int
    token: str
    host: str
    pid: int
    space: str
    since: float
    lease: float
    touched: float
    age: float = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether it is nobody's any more."""
        return self.age > self.lease


class Leases:
    """The leases of one worker.

    store    where the data set lies
    seconds  after which a lease without a touch is nobody's
    """

    def __init__(self, store: Store, seconds: float) -> None:
        folder = store.local(CLAIMS)
        self._store = store
        self._files = None if folder is None else FolderStore(folder)
        self._seconds = seconds
        self._clock = _Clock(seconds / BEATS)
        self._mine: dict[str, str] = {}
        self._touched: dict[str, float] = {}

    def take(self, shard: int, attempt: int = 0) -> bool:
        """Whether the shard is this worker's now; always, where there are no leases."""
        if self._files is None:
            return True
        name, token = stem(shard, attempt), secrets.token_hex(8)
        folder = self._files.local("")
        with refusing(folder, "made"):
            folder.mkdir(exist_ok=True)
        won = self._files.put_if_absent(name, _holder(token, self._seconds))
        if won or _take_over(self._files, name, token, self._seconds, self._clock):
            won = True
            self._mine[name] = token
            self._touched[name] = time.monotonic()
        return won

    def beat(self, shard: int, attempt: int = 0) -> Callable[[], None]:
        """What the worker calls while it works on the shard; it raises `LeaseLost`."""
        name = stem(shard, attempt)
        return lambda: self._beat(name)

    def release(self, shard: int, attempt: int = 0) -> None:
        """Gives it back, unless it is somebody else's by now."""
        name = stem(shard, attempt)
        token = self._mine.pop(name, None)
        if self._files is not None and token is not None:
            _drop(self._files, name, token)

    def release_all(self) -> None:
        """Gives back all that this worker has."""
        for name in list(self._mine):
            self.release(*unstem(name))

    def bury(self, shard: int, attempt: int, pid: int) -> None:
        """Gives back what a process of this machine held that is known to be dead."""
        if self._files is None:
            return
        held = _read(self._files, stem(shard, attempt))
        own = socket.gethostname(), _space(), pid
        if held is not None and (held.host, held.space, held.pid) == own:
            _drop(self._files, stem(shard, attempt), held.token)

    def _beat(self, name: str) -> None:
        now = time.monotonic()
        if now - self._touched.get(name, 0.0) < self._seconds / BEATS:
            return
        if self._store.exists(record_name(*unstem(name))):
            raise LeaseLost(name)
        self._touched[name] = now
        held = None if self._files is None else _read(self._files, name)
        if self._files is not None and held is not None and held.token == self._mine.get(name):
            with suppress(FileNotFoundError):
                os.utime(self._files.local(name))


def _take_over(files: FolderStore, name: str, token: str, seconds: float, clock: _Clock) -> bool:
    """Only one of those who see a stale lease gets it: they pass through a door of its name."""
    seen = _read(files, name)
    if seen is None:
        return files.put_if_absent(name, _holder(token, seconds))
    gone = _is_gone(seen)
    if not gone and not _aged(seen, clock(files.local(""))).is_silent:
        return False
    data = _holder(token, seconds if gone else min(2 * seen.lease, MOST * seconds))
    with _Door(files, name, seen.token, seconds) as passed:
        now = _read(files, name) if passed else None
        if now is None or now.token != seen.token:
            return False
        files.put(name, data)
        return True


class _Door:
    """Whoever changes the lease with this token does so inside; `with` says whether one is in."""

    def __init__(self, files: FolderStore, name: str, token: str, seconds: float) -> None:
        self._files = files
        self._name = f"{name}.{token}{DOOR}"
        self._seconds = seconds
        self._passed = False

    def __enter__(self) -> bool:
        self._passed = self._files.put_if_absent(self._name, b"")
        if not self._passed:
            with suppress(FileNotFoundError):
                if _age(self._files.local(self._name)) > self._seconds:
                    self._files.delete(self._name)  # who went in has died there
        return self._passed

    def __exit__(self, *error: object) -> None:
        if self._passed:
            self._files.delete(self._name)


def claims(store: Store) -> list[Claim]:
    """All leases there are, seen from any machine, also one that may only read."""
    folder = store.local(CLAIMS)
    if folder is None:
        return []
    files = FolderStore(folder)
    names = [name for name in files.list("") if not name.endswith(DOOR)]
    found = [claim for claim in (_read(files, name) for name in names) if claim is not None]
    now = _now(folder) if found else 0.0
    return [_aged(claim, now) for claim in found]


def clear(store: Store) -> None:
    """Takes claims/ away, when there is nothing left to be claimed."""
    folder = store.local(CLAIMS)
    if folder is None or not folder.is_dir():
        return
    with refusing(folder, "removed"):
        for left in folder.iterdir():
            left.unlink(missing_ok=True)
        with suppress(OSError):  # somebody claims again
            folder.rmdir()


def _drop(files: FolderStore, name: str, token: str) -> None:
    try:
        with _Door(files, name, token, AGED) as passed:
            if passed:
                _delete(files, name, token)
    except LoadError:  # a full disk has no room for a door, and the lease is to go all the same
        _delete(files, name, token)


def _delete(files: FolderStore, name: str, token: str) -> None:
    held = _read(files, name)
    if held is not None and held.token == token:
        with suppress(LoadError):
            files.delete(name)


def _read(files: FolderStore, name: str) -> Claim | None:
    """None where it is not there, or nobody's any more."""
    path = files.local(name)
    try:
        held = json.loads(path.read_bytes())
        shard, attempt = unstem(name)
        return Claim(shard=shard, attempt=attempt, touched=path.stat().st_mtime, **held)
    except (FileNotFoundError, ValueError, TypeError, LoadError):
        return None


def _aged(claim: Claim, now: float) -> Claim:
    return claim._replace(age=max(now - claim.touched, 0.0))


def _age(path: Path) -> float:
    """Seconds since it was touched, by the clock of its file system where that can be asked."""
    return max(_now(path.parent) - path.stat().st_mtime, 0.0)


class _Clock:
    """That of a file system, which is asked for the time every so many seconds only."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._asked = self._told = 0.0

    def __call__(self, folder: Path) -> float:
        now = time.monotonic()
        if not self._told or now - self._asked > self._seconds:
            self._asked, self._told = now, _now(folder)
        return self._told + now - self._asked


def _now(folder: Path) -> float:
    """What the time is, by the file system's clock."""
    probe = folder / f".{secrets.token_hex(8)}.part"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink()


def _holder(token: str, lease: float) -> bytes:
    held = {
        "token": token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "space": _space(),
        "since": time.time(),
        "lease": lease,
    }
    return json.dumps(held).encode()


@cache
def _space() -> str:
    """Where numbers of processes mean the same: this boot of a machine, and its container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_gone(claim: Claim) -> bool:
    """Whether it is known that its holder is no more."""
    if not claim.space or claim.space != _space():
        return False
    try:
        os.kill(claim.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
