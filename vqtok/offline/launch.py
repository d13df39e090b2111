"""Which engine a job gets, and how many decoders, by options or by what started this process."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vqtok.errors import ConfigError
from vqtok.offline.engines import ENGINES, Engine
from vqtok.offline.engines.local import Local
from vqtok.offline.engines.ranks import Ranks

__all__ = ["Launch", "is_launched", "launch"]

MOST_DECODERS = 16
ELSEWHERE = 3  # on machines of which nothing is known; a worker takes a core more
# Of torchrun and accelerate, of srun, of a job array.
LAUNCHED = ("RANK", "SLURM_PROCID", "SLURM_ARRAY_TASK_ID")
# Some are lists such as "4(x2),3"; SLURM fills the first machines most.
BESIDE = (
    "LOCAL_WORLD_SIZE",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
)


class Launch(NamedTuple):
    """An engine, and what it means for this process.

    here      whether this very process makes shards
    leads     whether it is the one that speaks for all
    decoders  threads that usually decode for one worker
    """

    engine: Engine
    here: bool
    leads: bool
    decoders: int


def is_launched(environ: Mapping[str, str]) -> bool:
    """Whether this process is one of several that a launcher started."""
    return any(name in environ for name in LAUNCHED)


def launch(
    engine: str | Engine | None = None,
    processes: int | None = None,
    rank: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = "cpu",
) -> Launch:
    """The engine of that name; a `ConfigError` for a setting that it has not.

    engine    None: "ranks" where a launcher started this process or a rank is given, else "local"
    settings  others of the engine, by name
    device    where processes=None is one for each of several: None, "auto" or "cuda"
    """
    if engine is None:
        launched = rank is not None or (processes is None and is_launched(os.environ))
        engine = "ranks" if launched else "local"
    if not isinstance(engine, str):
        return Launch(engine, here=False, leads=True, decoders=ELSEWHERE)
    if engine == "local" and processes is None:
        processes = _devices(device)
    given = {"processes": processes, "rank": rank, **(settings or {})}
    chosen = {name: value for name, value in given.items() if value is not None}
    made = _made(engine, chosen)
    if isinstance(made, Ranks):
        beside = _beside(os.environ)
        return Launch(made, here=True, leads=made.place.rank == 0, decoders=_share(beside))
    if isinstance(made, Local):
        workers = int(chosen.get("processes", 1))
        return Launch(made, here=workers == 1, leads=True, decoders=_share(workers))
    return Launch(made, here=False, leads=True, decoders=ELSEWHERE)


def _made(name: str, chosen: Mapping[str, Any]) -> Engine:
    part = ENGINES[name]
    known = [each for each in inspect.signature(part).parameters if each != "making"]
    for each in chosen:
        if each not in known:
            has = f"it has {', '.join(known)}" if known else "it has no settings"
            raise ConfigError(f"the engine {name!r} has no setting {each!r}; {has}")
    return part(**chosen)


def _beside(environ: Mapping[str, str]) -> int:
    found = (re.match(r"\d+", environ.get(name, "")) for name in BESIDE)
    return max(1, next((int(each[0]) for each in found if each), 1))


def _devices(device: str | None) -> int | None:
    """How many there are, where a device stands for any of several."""
    if device not in (None, "auto", "cuda"):
        return None
    import torch

    count = torch.cuda.device_count()
    return count if count > 1 else None


def _share(workers: int) -> int:
    """Of this machine's cores."""
    affine = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if affine else os.cpu_count() or 1
    return min(max(1, cores // workers), MOST_DECODERS)
