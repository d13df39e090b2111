"""Graphs as sessions of onnxruntime, opened when they are first needed, anew in each process."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqtok.contents import CONFIG
from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.export.runtime.binding import DeviceGraph, Graph, HostGraph
from vqtok.export.runtime.folder import Exported
from vqtok.export.runtime.library import onnxruntime, quiet
from vqtok.export.runtime.providers import (
    CPU,
    PROVIDERS,
    Target,
    missing,
    preloaded,
    say,
)

__all__ = ["Options", "Sessions", "cores"]

QUOTAS = (
    ("/sys/fs/cgroup/cpu.max", None),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
# What config.json says of pixels and codes -> what sessions call it.
TENSORS = {
    "uint8": "tensor(uint8)",
    "float": "tensor(float)",
    "int64": "tensor(int64)",
    "int32": "tensor(int32)",
}
ERRORS = 3  # of onnxruntime's severities: what a session prints of itself


@dataclass(frozen=True)
class Options:
    """How sessions run: the fields of `OnnxBackend`, with the defaults filled in."""

    threads: int
    cuda_graphs: bool = False
    tensorrt: Mapping[str, Any] = field(default_factory=dict)


def cores() -> int:
    """Cores that this process may use: by its affinity, by its group's quota, at least one."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for limit, period in QUOTAS:
        quota = _quota(limit, period)
        if quota is not None:
            return max(1, min(own, int(quota)))
    return own


def _quota(limit: str, period: str | None) -> float | None:
    """The cores that a file of the kernel's grants; None where it is not there, or grants all."""
    try:
        words = Path(limit).read_text(encoding="ascii").split()
        words += [] if period is None else Path(period).read_text(encoding="ascii").split()
        granted, span = (int(word) for word in words)
    except (OSError, ValueError):
        return None
    return granted / span if granted > 0 and span > 0 else None


class Sessions:
    """The graphs of one folder, on one target. Picklable; what is open stays behind.

    A session does not survive a fork, in which its threads are gone: a child opens its own.
    """

    def __init__(
        self, exported: Exported, target: Target, options: Options, precision: str
    ) -> None:
        self.exported = exported
        self.options = options
        self.precision = precision
        self.target = target
        self._start()

    def _start(self) -> None:
        self._graphs: dict[str, Graph] = {}
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_graphs", "_lock", "_pid")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start()

    def settle(self) -> None:
        """Opens the encoder where a GPU may not start; the CPU runs it then, if that will do."""
        if self.target.provider != "cpu":
            self.graph("encoder")

    def graph(self, role: str) -> Graph:
        """A graph that is ready to run; `InputError` where the folder has none for that."""
        if self._pid != os.getpid():
            self._forked()
        with self._lock:
            if role not in self._graphs:
                if role not in self.exported.roles:
                    raise InputError(f"{self.exported.path} has no {role}.onnx, and so no {role}")
                self._graphs[role] = self._opened(role)
            return self._graphs[role]

    def _forked(self) -> None:
        """In a child of the process that opened sessions."""
        if self._graphs and self.target.provider != "cpu":
            raise ConfigError(
                "a GPU cannot be used in a process that was forked from one which used it; start "
                "workers by spawn (multiprocessing.get_context('spawn'))"
            )
        # Never to be freed: that would wait for threads that the child does not have.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._graphs))
        self._start()

    def _opened(self, role: str) -> Graph:
        session = None
        if self.target.provider != "cpu":
            session = self._on_gpu(role)
        if session is None:
            session = self._session(role, [PROVIDERS["cpu"]])
        if self.target.provider == "cpu":
            return HostGraph(session)
        return DeviceGraph(session, self.target.index, captures=self._captures)

    def _on_gpu(self, role: str) -> Any:
        """A session on the target; None where it does not start and something else will do."""
        provider = self.target.provider
        preloaded()
        with quiet():
            try:
                session = self._session(role, self._providers(role))
                fault = None
            except LoadError as error:
                session, fault = None, str(error)
        if session is not None and PROVIDERS[provider] in session.get_providers():
            return session
        fault = fault or f"{PROVIDERS[provider]} does not start here: {missing(provider)}"
        if self.target.firm or self._graphs or self.precision == "tf32":
            raise ConfigError(fault)
        say(f"{fault}; running on {PROVIDERS['cpu']}")
        self.target = CPU
        return None

    def _session(self, role: str, providers: list[Any]) -> Any:
        library, file = onnxruntime(), self.exported.file(role)
        options = library.SessionOptions()
        options.log_severity_level = ERRORS
        options.intra_op_num_threads = self.options.threads
        options.inter_op_num_threads = 1
        # Threads that wait by turning cost as much as ones that work, and other sessions' share.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # It would keep a plan of memory for each size that ever comes.
        options.enable_mem_pattern = False
        try:
            session = library.InferenceSession(
                str(file), options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # whatever the library raises
            raise LoadError(
                f"{file} does not load in onnxruntime {library.__version__}: {_line(error)}"
            ) from error
        # After it was opened: whatever was there before then is what is compared.
        self.exported.check_unchanged(role)
        self._check_types(session, role)
        return session

    def _check_types(self, session: Any, role: str) -> None:
        """Raises where a graph takes or gives other numbers than its folder says."""
        exported = self.exported
        pixels, codes = TENSORS[exported.pixels], TENSORS[exported.codes]
        said = (pixels, codes) if role.endswith("encoder") else (codes, pixels)
        here = tuple(one.type for one in (*session.get_inputs(), *session.get_outputs()))
        if here != said:
            raise MismatchError(
                f"{exported.file(role)} has {' and '.join(here)} for what goes in and comes out, "
                f"and its {CONFIG} says {' and '.join(said)}"
            )

    def _providers(self, role: str) -> list[Any]:
        """As a session takes them: each with its options."""
        cuda = (PROVIDERS["cuda"], self._cuda())
        if self.target.provider == "cuda":
            return [cuda, PROVIDERS["cpu"]]
        return [(PROVIDERS["tensorrt"], self._tensorrt(role)), cuda, PROVIDERS["cpu"]]

    def _cuda(self) -> dict[str, str]:
        return {
            "device_id": str(self.target.index),
            "use_tf32": str(int(self.precision == "tf32")),
            # The default tries all algorithms and takes the fastest, for each new size and not
            # always the same: ids would depend on what else the GPU was doing.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Not to the next power of two: sizes change, and memory is shared with others.
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": str(int(self._captures)),
        }

    @property
    def _captures(self) -> bool:
        """Whether CUDA's provider records runs; TensorRT's has an option of its own for that."""
        return self.options.cuda_graphs and self.target.provider == "cuda"

    def _tensorrt(self, role: str) -> dict[str, str]:
        """Engines take minutes to build, so they are kept, by file: it looks at no weights."""
        kept = _cache() / "tensorrt" / self.exported.files[f"{role}.onnx"][:16]
        kept.mkdir(parents=True, exist_ok=True)
        own = {
            "device_id": self.target.index,
            "trt_fp16_enable": self._half(role),
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": kept,
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": kept.parent,
            "trt_cuda_graph_enable": self.options.cuda_graphs,
        }
        return {name: str(value) for name, value in {**own, **self.options.tensorrt}.items()}

    def _half(self, role: str) -> bool:
        encodes = role.endswith("encoder")
        said = self.exported.precision if encodes else self.exported.decoder_precision
        return said == "fp16"


def _cache() -> Path:
    named = os.environ.get("VQTOK_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "vqtok"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
