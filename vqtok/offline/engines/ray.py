"""Workers on the machines of a Ray cluster: actors of Ray's core, and a task for every shard.

Ray finds machines and GPUs for the workers and tells when one is gone. What it says of a shard is
a hint: a task on a machine that has been cut off may hang for minutes though its shard is there,
so records are looked for every few seconds, and a task without a shard to make is given up.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from vqtok.errors import ConfigError, LoadError, plural
from vqtok.extras import require
from vqtok.offline.engines import ENGINES, Watch, usual_worker
from vqtok.offline.engines.deaths import Deaths
from vqtok.offline.engines.ray_worker import RayWorker
from vqtok.offline.job import Job, Making
from vqtok.offline.ledger import News
from vqtok.offline.store import open_store

__all__ = ["Needs", "Ray", "alive", "places"]

TICK = 0.5
LOOK = 3.0  # between two looks at the records
PATIENCE = 10.0  # with an address that does not answer
GRACE = 10.0  # for a task to return after its record is there
ASIDE = "aside"  # what answers while a shard is being made

_log = logging.getLogger(__name__)


class Needs(NamedTuple):
    """What one worker takes of a node."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        text = _count(self.cpus, "CPU")
        return f"{text} and {_count(self.gpus, 'GPU')}" if self.gpus else text

    def fit(self, resources: Mapping[str, float]) -> int:
        """How many workers have room in these at once."""
        rooms = [int(resources.get("CPU", 0) / self.cpus)]
        if self.gpus:
            rooms.append(int(resources.get("GPU", 0) / self.gpus))
        return min(rooms)


@ENGINES.register("ray")
class Ray:
    """Workers in actors; how many come to work at once is up to the cluster.

    address    of the cluster; "auto" for the one that this machine belongs to, None or "local" for
               one of this machine alone, which ends with the job
    actors     how many workers; by default one for each GPU (or share of one), else for each node
    gpus       of each worker: 1, or a share such as 0.5; by default 1 where the cluster has GPUs.
               It decides on the device: 0 is for CPUs
    namespace  Ray's, for what the job puts there
    wait       seconds that a cluster may take to grow until any node has room for a worker
    making     what makes a worker on a device; it is pickled, and importable on every node

    Each worker also takes a CPU for every decoder, and one for itself. Where Ray runs in this
    process already, that is what is used.
    """

    def __init__(
        self,
        *,
        address: str | None = "auto",
        actors: int | None = None,
        gpus: float | None = None,
        namespace: str | None = None,
        wait: float = 60.0,
        making: Making = usual_worker,
    ) -> None:
        if actors is not None and actors < 1:
            raise ConfigError(f"actors is a whole number, at least 1; got {actors!r}")
        if gpus is not None and not 0 <= gpus <= 1:
            raise ConfigError(f"gpus of a worker is 1, a share such as 0.5, or 0; got {gpus!r}")
        self._ray = require("ray", "vqtok[ray]", "the engine 'ray' runs")
        self._address = address or "local"
        self._actors, self._gpus, self._namespace = actors, gpus, namespace
        self._wait = wait
        self._making = making

    def run(self, job: Job, todo: Sequence[int], watch: Watch) -> None:
        """See `Engine`."""
        if not todo:
            return
        ours = not self._ray.is_initialized()
        if ours:
            self._connect(job)
        try:
            needs = self._needs(job)
            nodes = alive(self._ray)
            size = self._actors or max(1, places(nodes, needs))
            job = replace(job, device="cuda" if needs.gpus else job.device)
            crew = _Crew(self._ray, job, self._making, needs, self._wait, todo, watch)
            crew.run(min(size, len(todo)))
        finally:
            if ours:
                self._ray.shutdown()

    def _connect(self, job: Job) -> None:
        own: dict[str, Any] = {}
        if self._address == "local":
            # Ray only counts CPUs; a machine with fewer is to work all the same.
            own["num_cpus"] = max(os.cpu_count() or 1, (self._actors or 1) * (job.decoders + 1))
            own["include_dashboard"] = False
        try:
            _knock(self._address)
            self._ray.init(
                self._address, namespace=self._namespace, logging_level=logging.WARNING, **own
            )
        except (OSError, RuntimeError, ValueError) as error:
            self._ray.shutdown()
            raise LoadError(
                f"there is no Ray cluster to be reached at {self._address!r}: {_line(error)}. "
                "Start one with `ray start --head`, give its address, or 'local' for this machine "
                "alone"
            ) from error

    def _needs(self, job: Job) -> Needs:
        there = any(node["Resources"].get("GPU", 0) for node in alive(self._ray))
        gpus = float(there) if self._gpus is None else self._gpus
        if not gpus and job.device.startswith("cuda"):
            why = "the Ray cluster has no GPU" if self._gpus is None else "gpus=0 gives it none"
            raise ConfigError(f"a job for the device {job.device!r} needs GPUs, and {why}")
        return Needs(job.decoders + 1, gpus)


def alive(ray: Any) -> list[dict[str, Any]]:
    """The nodes of a cluster."""
    return [node for node in ray.nodes() if node["Alive"]]


def places(nodes: Sequence[Mapping[str, Any]], needs: Needs) -> int:
    """How many workers a cluster gets: as many as have room with GPUs, else one a node."""
    fit = [needs.fit(node["Resources"]) for node in nodes]
    return sum(fit) if needs.gpus else sum(map(bool, fit))


# --- inside ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Member:
    """An actor, as the crew sees it.

    task   what Ray gave for what it does now; None: nothing
    node   where it is; None before it is ready
    since  when it was given that, or was last known to be further on
    done   when the record of its shard was seen
    asked  what Ray gave for the question how far it is
    far    the answer to that
    """

    actor: Any
    task: Any
    node: str | None = None
    shard: int | None = None
    since: float = 0.0
    done: float | None = None
    asked: Any = None
    far: tuple[int, int] | None = None


class _Crew:
    """Hands out shards until all are done.

    left  not done and nobody's; `held` comes back into it: shards of others, to be tried later
    """

    def __init__(
        self,
        ray: Any,
        job: Job,
        making: Making,
        needs: Needs,
        wait: float,
        todo: Sequence[int],
        watch: Watch,
    ) -> None:
        self._ray, self._needs, self._lease = ray, needs, job.lease
        self._packed = ray.cloudpickle.dumps((replace(job, opened=None), making))
        self._worker = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={ASIDE: 1},
        )(RayWorker)
        self._news = News(open_store(job.out), job.attempt, todo, watch)
        self._deaths = Deaths(job.plan)
        self._left = deque(todo)
        self._held: list[int] = []
        self._members: list[_Member] = []
        self._wait = wait
        self._looked = self._roomy = time.monotonic()
        self._told = False

    def run(self, size: int) -> None:
        try:
            self._news.look()
            for _ in range(min(size, len(self._news.left))):
                self._hire()
            while self._news.left - self._deaths.lost:
                self._hand_out()
                self._listen()
                if time.monotonic() - self._looked > LOOK:
                    self._look_around()
        finally:
            for member in list(self._members):
                self._dismiss(member)
        self._deaths.settle(self._news.left)

    def _hire(self) -> None:
        actor = self._worker.remote(self._packed, os.getcwd())
        self._members.append(_Member(actor, actor.ready.remote(), since=time.monotonic()))

    def _dismiss(self, member: _Member) -> None:
        self._members.remove(member)
        self._ray.kill(member.actor)

    def _hand_out(self) -> None:
        for member in self._members:
            if member.task is None:
                shard = self._deaths.next_of(self._left, self._news)
                if shard is not None:
                    member.shard, member.done = shard, None
                    member.since = time.monotonic()
                    member.task = member.actor.one.remote(shard)

    def _listen(self) -> None:
        tasks = {member.task: member for member in self._members if member.task is not None}
        if not tasks:
            time.sleep(TICK)
            return
        ready, _ = self._ray.wait(list(tasks), num_returns=1, timeout=TICK)
        for task in ready:
            self._hear(tasks[task])

    def _hear(self, member: _Member) -> None:
        try:
            word, about = self._ray.get(member.task)
        except self._ray.exceptions.RayError as error:
            word, about = "crashed", _line(error)
        shard, member.task, member.shard = member.shard, None, None
        if word == "refused":
            raise about
        if word == "crashed":
            self._replace(member, shard, about)
        elif word == "ready":
            member.node = about
        elif shard is not None and not self._news.of(shard):
            self._held.append(shard)

    def _replace(self, member: _Member, shard: int | None, reason: str) -> None:
        """It has died; its shard goes to whoever is next."""
        self._dismiss(member)
        where = f" on node '{member.node}'" if member.node else ""
        _log.info("a worker%s has ended: %s", where, reason)
        if shard is None or not self._news.of(shard):
            self._deaths.count(shard, reason)
            self._left.extendleft([] if shard is None else [shard])
        self._hire()

    # --- every few seconds ------------------------------------------------------------------

    def _look_around(self) -> None:
        """Asks what others have done, and takes back what is with workers that don't return."""
        self._looked = time.monotonic()
        self._news.look()
        self._left.extend(self._held)
        self._held.clear()
        for member in list(self._members):
            if member.shard is not None:
                self._ask(member)
                self._look_at(member, member.shard)
        self._look_for_room()

    def _ask(self, member: _Member) -> None:
        """Notes the answer to what was asked the last time, and asks again."""
        if member.asked is not None:
            if not self._ray.wait([member.asked], timeout=0)[0]:
                return
            with suppress(self._ray.exceptions.RayError):  # its task tells that it is dead
                far = self._ray.get(member.asked)
                if far and far != member.far:
                    member.far, member.since = far, self._looked
                    self._news.working(*far)
        member.asked = member.actor.far.options(concurrency_group=ASIDE).remote()

    def _look_at(self, member: _Member, shard: int) -> None:
        if shard in self._news.left:
            # Tried by somebody idle: it is held, unless whoever has it is cut off.
            silent = self._looked - member.since > self._lease
            if silent and shard not in self._left:
                self._left.append(shard)
        elif member.done is None:
            member.done = self._looked
        elif self._looked - member.done > GRACE:
            _log.warning(
                "the worker on node '%s' does not return though its shard %d is done; another "
                "takes its place",
                member.node,
                shard,
            )
            self._dismiss(member)
            self._hire()

    def _look_for_room(self) -> None:
        """A LoadError where no node is, or comes to be, large enough for a worker."""
        nodes = alive(self._ray)
        if any(member.node for member in self._members) or places(nodes, self._needs):
            self._roomy = self._looked
            return
        asked = f"each asks for {self._needs} of one node (a CPU for each decoder, and one)"
        if not self._told:
            _log.warning("no node of the Ray cluster has room for a worker; %s", asked)
            self._told = True
        if self._looked - self._roomy > self._wait:
            has = "; ".join(_resources(node) for node in nodes) or "no node"
            raise LoadError(
                f"no node of the Ray cluster has room for a worker: {asked}, and the cluster has "
                f"{has}. Ask for fewer decoders or a smaller share of a GPU, or add nodes"
            )


def _resources(node: Mapping[str, Any]) -> str:
    has = node["Resources"]
    name = node.get("NodeManagerHostname") or node.get("NodeManagerAddress")
    return (
        f"'{name}' with {_count(has.get('CPU', 0), 'CPU')} and {_count(has.get('GPU', 0), 'GPU')}"
    )


def _count(number: float, what: str) -> str:
    whole = number == int(number)
    return plural(int(number), what) if whole else f"{number:g} {what}s"


def _knock(address: str) -> None:
    """An OSError where nobody listens at host:port, over which Ray itself broods for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def _line(error: Exception) -> str:
    """What Ray has to say, as one: where it shows a traceback, what that ends with."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).strip()
    if "Traceback" in text:
        text = text.rpartition("\n")[2]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."
