"""Killed and stopped at random, workers and whoever started them: the data set is the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import tiny
from offline_toys import contents
from PIL import Image

from vqtok.offline.check import verify
from vqtok.offline.leases import claims
from vqtok.offline.ledger import done
from vqtok.offline.store import Store, open_store

TESTS = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")


class Chaos:
    """A driver that is started until it comes to its end, and what happens to it meanwhile."""

    def __init__(self, arguments: list[str], seed: int) -> None:
        self._arguments = arguments
        self._random = random.Random(seed)
        self._stopped: dict[int, float] = {}
        self._driver: subprocess.Popen[bytes] | None = None
        self.hits: list[str] = []

    def run(self, hits: int, pause: tuple[float, float]) -> None:
        """Returns when the driver has ended well; `hits` times, something was killed or stopped."""
        store = open_store(self._arguments[1], create=True)
        with self._ending():
            while self._start() is None or self._driver is None or self._driver.returncode:
                time.sleep(self._random.uniform(*pause))
                if len(self.hits) < hits:
                    self._hit(store)
                self._wake(late=False)

    def _start(self) -> int | None:
        """The exit status of the driver; a new one is started in the place of one that failed."""
        if self._driver is None or self._driver.poll():
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "offline_chaos", *self._arguments],
                cwd=TESTS,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        return self._driver.poll()

    def _hit(self, store: Store) -> None:
        """One of those who work just now; now and then, who started them."""
        working = [claim.pid for claim in claims(store)]
        if not working or self._driver is None or self._driver.poll() is not None:
            return
        of_driver = self._random.random() < 0.2
        victim = self._driver.pid if of_driver else self._random.choice(working)
        kinds = [signal.SIGKILL, signal.SIGSTOP] + [signal.SIGINT, signal.SIGTERM] * of_driver
        kind = self._random.choice(kinds)
        with suppress(ProcessLookupError):
            os.kill(victim, kind)
            self.hits.append(f"{kind.name} {'driver' if of_driver else 'worker'}")
            if kind == signal.SIGSTOP:
                self._stopped[victim] = time.monotonic() + self._random.uniform(0.2, 3.0)

    def _wake(self, late: bool) -> None:
        """Those that were stopped, when it is time."""
        for pid, when in list(self._stopped.items()):
            if late or time.monotonic() > when:
                del self._stopped[pid]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._wake(late=True)
            if self._driver is not None:
                self._driver.kill()
                self._driver.wait()


def undisturbed(arguments: list[str]) -> dict[str, bytes]:
    subprocess.run([sys.executable, "-m", "offline_chaos", *arguments], cwd=TESTS, check=True)
    return contents(Path(arguments[1]))


def check(out: Path, expected: dict[str, bytes]) -> None:
    assert verify(open_store(str(out)), full=True) == []
    assert contents(out) == expected
    assert not (out / "claims").exists()


def test_a_few_hits(tmp_path: Path) -> None:
    expected = undisturbed(["toy", str(tmp_path / "reference")])
    chaos = Chaos(["toy", str(tmp_path / "out")], seed=0)
    chaos.run(5, (0.2, 0.4))
    assert len(chaos.hits) > 2
    check(tmp_path / "out", expected)


def test_an_interrupt_ends_the_workers_and_the_rest_is_done_later(tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = open_store(str(out), create=True)
    driver = subprocess.Popen(
        [sys.executable, "-m", "offline_chaos", "toy", str(out)],
        cwd=TESTS,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert driver.stdout is not None
    driver.stdout.readline()  # a shard is done
    workers = {claim.pid for claim in claims(store)}
    driver.send_signal(signal.SIGINT)
    assert driver.wait(20) != 0
    driver.stdout.close()
    assert not any(is_alive(pid) for pid in workers)
    assert 0 < len(done(store)) < 20
    undisturbed(["toy", str(out)])
    assert len(done(store)) == 20


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_24_hits(tmp_path: Path, seed: int) -> None:
    expected = undisturbed(["toy", str(tmp_path / "reference")])
    chaos = Chaos(["toy", str(tmp_path / "out")], seed)
    chaos.run(24, (0.05, 0.6))
    check(tmp_path / "out", expected)


@pytest.mark.slow
def test_24_hits_on_pictures(tmp_path: Path) -> None:
    for number in range(240):
        picture = Image.fromarray(tiny.picture(seed=number))
        folder = tmp_path / "pictures" / f"class {number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{number:03d}.v1 ü.png")
    (tmp_path / "pictures" / "class 0" / "broken.png").write_bytes(b"no picture")
    tiny.tokenizer().save_pretrained(tmp_path / "tokenizer")
    source = [str(tmp_path / "pictures"), str(tmp_path / "tokenizer")]
    expected = undisturbed(["pictures", str(tmp_path / "reference"), *source])
    chaos = Chaos(["pictures", str(tmp_path / "out"), *source], seed=1)
    chaos.run(24, (0.5, 4.0))
    check(tmp_path / "out", expected)
