"""One process a device, started by torchrun, accelerate, srun or a job array.

The processes don't speak with one another. Each does its own slice of the shards, then what
others have left, each in an order of its own, so that few try the same at once.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vqtok.errors import ConfigError
from vqtok.offline.engines import ENGINES, Watch, usual_worker
from vqtok.offline.job import Job, Making
from vqtok.offline.shard_loop import ShardLoop, device_of

__all__ = ["Place", "Ranks", "order_of", "place_of"]


class Place(NamedTuple):
    """Which of `world` processes this is, and which on its machine.

    It decides on nothing but the order in which shards are tried.
    """

    rank: int
    world: int
    local: int


@ENGINES.register("ranks")
class Ranks:
    """This process, as one of several.

    rank    "2/8" for the third of eight; without it, the environment tells
    making  what makes a worker on a device
    """

    def __init__(self, *, rank: str | None = None, making: Making = usual_worker) -> None:
        self.place = place_of(os.environ, rank)
        self._making = making

    def run(self, job: Job, todo: Sequence[int], watch: Watch) -> None:
        """See `Engine`."""
        device = device_of(job.device, self.place.local)
        with ShardLoop(job, self._making, device) as loop:
            loop.all(order_of(todo, self.place), watch)


def order_of(todo: Sequence[int], place: Place) -> list[int]:
    """Its own slice first, which is the same however much is done already; then that of others."""
    own = [shard for shard in todo if shard % place.world == place.rank]
    others = [shard for shard in todo if shard % place.world != place.rank]
    random.Random(place.rank).shuffle(others)
    return own + others


def place_of(environ: Mapping[str, str], rank: str | None = None) -> Place:
    """From "rank/world", else from the variables of torchrun or SLURM."""
    if rank is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", rank)
        if match is None:
            raise ConfigError(f"rank is a number and how many there are, such as 0/8; got {rank!r}")
        return _checked(int(match[1]), int(match[2]), 0)
    if "RANK" in environ and "WORLD_SIZE" in environ:
        local = _number(environ, "LOCAL_RANK", 0)
        place = _checked(_number(environ, "RANK"), _number(environ, "WORLD_SIZE"), local)
        return _in_array(environ, place)
    if "SLURM_PROCID" in environ or "SLURM_ARRAY_TASK_ID" in environ:
        return _of_slurm(environ)
    raise ConfigError(
        "the engine 'ranks' is started by torchrun, accelerate, srun or a job array, or is told "
        "its place with rank, such as 0/8"
    )


def _of_slurm(environ: Mapping[str, str]) -> Place:
    """Tasks of one step, jobs of an array, or tasks of each job of an array."""
    tasks = max(_number(environ, "SLURM_NTASKS", 1), 1)
    task = _number(environ, "SLURM_PROCID", 0)
    return _in_array(environ, Place(task % tasks, tasks, _number(environ, "SLURM_LOCALID", 0)))


def _in_array(environ: Mapping[str, str], place: Place) -> Place:
    """With the jobs of an array, each of which has such places.

    An array of jobs 3 and 7 alone, say of those that are started again, counts as one of five.
    """
    first = _number(environ, "SLURM_ARRAY_TASK_MIN", 0)
    step = max(_number(environ, "SLURM_ARRAY_TASK_STEP", 1), 1)
    last = _number(environ, "SLURM_ARRAY_TASK_MAX", first)
    jobs = max(_number(environ, "SLURM_ARRAY_TASK_COUNT", 1), (last - first) // step + 1, 1)
    job = (_number(environ, "SLURM_ARRAY_TASK_ID", first) - first) // step % jobs
    return Place(job * place.world + place.rank, jobs * place.world, place.local)


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise ConfigError(f"the environment's {name} is a whole number; got {text!r}")
    return int(text)


def _checked(rank: int, world: int, local: int) -> Place:
    if not 0 <= rank < world:
        raise ConfigError(f"there is no process {rank} of {world}; the first is 0")
    return Place(rank, world, local)
