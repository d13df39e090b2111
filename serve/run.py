"""From settings to a server that runs until somebody ends it."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vqtok.errors import ConfigError
from vqtok.extras import require
from vqtok.serve.lit.family import cores, say
from vqtok.serve.lit.supervise import Signals, Stopped

if TYPE_CHECKING:
    from vqtok.serve.engine import Engine
    from vqtok.serve.facts import Facts
    from vqtok.serve.line import Line
    from vqtok.serve.lit.server import Server
    from vqtok.serve.settings import ModelSettings, ServeSettings

    Loads = Mapping[str, tuple[Facts, Callable[[str], Engine]]]

__all__ = ["run"]

EXTRA = ("litserve", "orjson", "prometheus_client")


def run(settings: ServeSettings, loads: Loads | None = None) -> int:
    """Serves until SIGTERM or SIGINT; the exit status: 0, or 1 where something broke.

    It belongs in the main thread of a program that has done nothing else with threads or a GPU, for
    API processes are forked from it.

    loads  name in paths -> what the model is, and what makes its engine on a device: picklable, for
           workers are spawned. By default the tokenizers of `settings.models`
    """
    with Signals() as signals:
        try:
            return _run(settings, loads, signals)
        except Stopped:
            return 0


def _run(settings: ServeSettings, loads: Loads | None, signals: Signals) -> int:
    for module in EXTRA:
        require(module, "vqtok[serve]", "tokenizers are served")
    if sys.platform == "win32":
        raise ConfigError("a server forks its API processes, which Windows cannot; use WSL")
    if not (loads or settings.models):
        raise ConfigError("there is no tokenizer to serve; name one")
    _check_port(settings.host, settings.port)
    devices = _devices(settings, check=loads is None)
    found = loads or {name: _load(name, one, settings) for name, one in settings.models.items()}
    server = _server(found, settings, devices, signals)
    try:
        return server.serve()
    finally:
        server.supervisor.kill()


def _check_port(host: str, port: int) -> None:
    """Raises where nobody can listen there, before a model is loaded for it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is another program's; name one that is free, such as "
                f"--port {port + 1 if port < 65535 else 8000}"
            ) from error
        raise ConfigError(f"nobody can listen at {host}, port {port}: {error.strerror}") from error


def _load(
    name: str, model: ModelSettings, settings: ServeSettings
) -> tuple[Facts, Callable[[str], Engine]]:
    """What a tokenizer is, by a copy on the CPU that is let go again."""
    import torch

    from vqtok.serve.load import Load

    # Of a pool of threads a fork would copy none, and wait for them.
    torch.set_num_threads(1)
    say(f"loading {model.tokenizer}")
    padding = "full" if settings.deterministic else "auto"
    load = Load(name=name, padding=padding, max_batch=settings.max_batch, **dict(model))
    facts = load.describe()
    return facts, load.of(facts)


def _devices(settings: ServeSettings, *, check: bool) -> list[str]:
    """The devices that get workers; only with `check` it is looked whether they exist."""
    numbers = settings.devices
    if not check:
        if numbers not in (None, "all"):
            return [f"cuda:{number}" for number in str(numbers).split(",")]
        return ["cpu" if settings.device == "auto" else settings.device]
    import torch

    count = torch.cuda.device_count()
    if numbers is None:
        return [_device(settings.device, count)]
    if not count:
        raise ConfigError(f"devices is {numbers!r}, and torch sees no GPU here")
    chosen = range(count) if numbers == "all" else [int(number) for number in numbers.split(",")]
    return [_device(f"cuda:{number}", count) for number in chosen]


def _device(name: str, count: int) -> str:
    """One device by its full name, of `count` GPUs."""
    import torch

    if name == "auto":
        name = "cuda" if count else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("there is no device 'mps' here")
    if not name.startswith("cuda"):
        return name
    number = int(name.partition(":")[2] or 0)
    if number >= count:
        raise ConfigError(f"there is no device {name!r} here: torch sees {count} GPUs")
    return f"cuda:{number}"


def _server(
    loads: Loads, settings: ServeSettings, devices: Sequence[str], signals: Signals
) -> Server:
    """All that processes share, and the server that starts them."""
    from vqtok.serve.board import Board
    from vqtok.serve.desk import Desk
    from vqtok.serve.http import make_app
    from vqtok.serve.lit.api import Bench
    from vqtok.serve.lit.notes import Notes
    from vqtok.serve.lit.office import Office
    from vqtok.serve.lit.server import Server
    from vqtok.serve.meters import Meters

    each = len(devices) * settings.workers_per_device
    counts = dict.fromkeys(loads, each)
    apis, workers = settings.api_processes, each * len(loads)
    board, notes = Board(counts), Notes(counts)
    sizes = {name: facts.codebook_size for name, (facts, _) in loads.items()}
    meters = Meters(sizes, apis + workers)
    lines = {name: _line(facts, settings, each) for name, (facts, _) in loads.items()}
    benches = [
        Bench(
            name=name,
            make=make,
            line=lines[name],
            board=board,
            meters=meters,
            notes=notes,
            max_batch=settings.max_batch,
            first_row=apis + number * each,
            threads=max(1, cores() // workers),
        )
        for number, (name, (_, make)) in enumerate(loads.items())
    ]
    office = Office(
        desks=lambda api: {
            name: Desk(lines[name], api, facts, timeout=settings.timeout)
            for name, (facts, _) in loads.items()
        },
        make=lambda desks, meters: make_app(desks, settings, board, meters),
        board=board,
        meters=meters,
    )
    return Server(benches, office, settings, devices, signals)


def _line(facts: Facts, settings: ServeSettings, workers: int) -> Line:
    """The slots of one model, and its pipes."""
    from vqtok.serve.line import Line
    from vqtok.serve.slab import Slab

    picture, larger = facts.slot_bytes(settings)
    kinds = [(settings.slots, picture)] + ([(settings.clip_slots, larger)] if larger else [])
    return Line(Slab(kinds, settings.api_processes), workers)
