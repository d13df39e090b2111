"""From settings to a server that runs until somebody ends it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from vqtok.errors import ConfigError
from vqtok.extras import require
from vqtok.serve.lit.family import cores
from vqtok.serve.lit.ports import check_port
from vqtok.serve.lit.streams import hold_descriptors, say
from vqtok.serve.lit.supervise import Signals, Stopped

if TYPE_CHECKING:
    from vqtok.serve.engine import Engine
    from vqtok.serve.facts import Facts
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
    with hold_descriptors(), Signals() as signals:
        try:
            status = _run(settings, loads, signals)
        except Stopped:
            status = 0
        if not status:
            say("stopped")
        return status


def _run(settings: ServeSettings, loads: Loads | None, signals: Signals) -> int:
    for module in EXTRA:
        require(module, "vqtok[serve]", "tokenizers are served")
    if sys.platform == "win32":
        raise ConfigError("a server forks its API processes, which Windows cannot; use WSL")
    if not (loads or settings.models):
        raise ConfigError("there is no tokenizer to serve; name one")
    from vqtok.serve.lit.descriptors import allow_files

    check_port(settings.host, settings.port)
    devices = _devices(settings, check=loads is None)
    each = len(devices) * settings.workers_per_device
    allow_files(settings, len(loads or settings.models), each)
    found = loads or {name: _load(name, one, settings) for name, one in settings.models.items()}
    # Their weights are held by circles. What is left stays, here and in forked processes: to look
    # through it at the end took two seconds.
    gc.collect()
    gc.freeze()
    server = _server(found, settings, devices, signals)
    try:
        return server.serve()
    finally:
        server.supervisor.kill()


def _load(
    name: str, model: ModelSettings, settings: ServeSettings
) -> tuple[Facts, Callable[[str], Engine]]:
    """What a tokenizer is, by a copy on the CPU that is let go again."""
    import torch

    # Of a pool of threads a fork would copy none, and wait for them.
    torch.set_num_threads(1)
    say(f"loading {model.tokenizer}")
    padding = "alone" if settings.deterministic else "auto"
    load = model.load(name, padding=padding, max_batch=settings.max_batch)
    facts = load.describe()
    return facts, load.of(facts)


def _devices(settings: ServeSettings, *, check: bool) -> list[str]:
    """The devices that get workers; only with `check` it is looked whether they exist."""
    numbers = settings.devices
    if not check:
        if numbers not in (None, "all"):
            return [f"cuda:{number}" for number in str(numbers).split(",")]
        return ["cpu" if settings.device == "auto" else settings.device]
    graphs = [one.wanted().is_graphs() for one in settings.models.values()]
    # A worker asks the backend, which may see other GPUs than torch.
    if graphs and all(graphs) and numbers != "all":
        return [settings.device] if numbers is None else [f"cuda:{n}" for n in numbers.split(",")]
    import torch

    count = torch.cuda.device_count()
    if numbers is None:
        if settings.device == "auto" and any(graphs):  # which may see another GPU than torch
            return ["auto"]
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
    from vqtok.serve.line import Line
    from vqtok.serve.lit.api import Bench
    from vqtok.serve.lit.notes import Notes
    from vqtok.serve.lit.office import Office
    from vqtok.serve.lit.pulses import Pulses
    from vqtok.serve.lit.server import Server
    from vqtok.serve.meters import Meters
    from vqtok.serve.slab import slab_for

    each = len(devices) * settings.workers_per_device
    counts = dict.fromkeys(loads, each)
    apis, workers = settings.api_processes, each * len(loads)
    board, notes = Board(counts), Notes(counts)
    sizes = {name: facts.traits.codebook_size for name, (facts, _) in loads.items()}
    meters = Meters(sizes, apis + workers)
    kinds = {"slots": settings.slots, "clip_slots": settings.clip_slots, "desks": apis}
    lines = {
        name: Line(slab_for(facts, settings, **kinds), each) for name, (facts, _) in loads.items()
    }
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
            name: Desk(lines[name], api, facts, timeout=settings.timeout, streams=settings.streams)
            for name, (facts, _) in loads.items()
        },
        make=lambda desks, meters: make_app(desks, settings, board, meters),
        board=board,
        meters=meters,
        pulses=Pulses(apis),
    )
    return Server(benches, office, settings, devices, signals)
