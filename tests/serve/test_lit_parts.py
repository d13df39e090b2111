"""What stands beside LitServe: notes, ends in words, signals, ports, files and streams."""

from __future__ import annotations

import os
import signal
import socket
import sys

import pytest

from vqtok.errors import ConfigError
from vqtok.serve.lit import family
from vqtok.serve.lit.descriptors import allow_files
from vqtok.serve.lit.notes import Notes
from vqtok.serve.lit.ports import listen
from vqtok.serve.lit.streams import Patient, say
from vqtok.serve.settings import ServeSettings


def test_notes_keep_a_line_for_each_worker() -> None:
    notes = Notes({"small": 2, "large": 1})
    notes.write("small", 1, "x" * 5000)
    notes.write("large", 0, "no memöry")
    assert notes.take("small", 0) == ""
    assert notes.take("small", 1) == "x" * 1024
    assert notes.take("small", 1) == ""
    assert notes.take("large", 0) == "no memöry"
    assert not notes.ended
    notes.end()
    assert notes.ended


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "still running"),
        (-35, "signal 35"),
        (-9, "SIGKILL"),
        (70, "its device failed"),
        (3, "status 3"),
    ],
)
def test_ends_in_words(status: int | None, words: str) -> None:
    assert family.ended_by(status) == words


def test_interrupts_are_held_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []

    def start() -> None:  # what unblocks them when it starts a process
        held.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()))

    monkeypatch.setattr(family.resource_tracker, "ensure_running", start)
    with family.interrupts_held():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    assert held == [False]


def test_line_without_a_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    say("nobody hears it")
    assert capsys.readouterr().out == ""


def test_text_that_nobody_takes_is_dropped() -> None:
    reader, writer = os.pipe()
    try:
        stream = Patient(writer)
        text = "x" * 100_000  # more than a pipe holds
        assert stream.write(text) == len(text)
        held = os.read(reader, 100_000)
        assert 0 < len(held) < len(text)
        assert stream.write("again") == 5
        assert os.read(reader, 100) == b"again"
        os.close(reader)
        assert stream.write("nobody") == 6
    finally:
        os.close(writer)


# --- ports and files --------------------------------------------------------------------------


def test_two_that_bound_one_port() -> None:
    """As two servers that start together do; only one of them can listen."""
    with socket.socket() as first, socket.socket() as second:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        second.bind(("127.0.0.1", port))
        listen([first], "127.0.0.1", port)
        with pytest.raises(ConfigError) as error:
            listen([second], "127.0.0.1", port)
    free = port + 1 if port < 65535 else 8000
    assert str(error.value) == (
        f"port {port} of 127.0.0.1 is another program's; name one that is free, such as "
        f"--port {free}"
    )


@pytest.mark.parametrize(("soft", "hard", "expected"), [(300, 4096, 4096), (5000, 5000, None)])
def test_limit_of_files_is_raised(
    soft: int, hard: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr("resource.getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr("resource.setrlimit", lambda kind, limits: chosen.append(limits[0]))
    allow_files(ServeSettings(api_processes=16), models=1, workers=8)
    assert chosen == ([] if expected is None else [expected])


def test_too_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (256, 512))
    monkeypatch.setattr("resource.setrlimit", lambda kind, limits: None)
    with pytest.raises(ConfigError) as error:
        allow_files(ServeSettings(api_processes=16), models=1, workers=8)
    assert str(error.value) == (
        "16 API processes and 8 workers take 644 open files, and a process may have 512 here "
        "(ulimit -n); allow more, or lower api_processes, workers_per_device or slots"
    )
