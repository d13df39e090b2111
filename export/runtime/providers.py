"""Which provider runs graphs here: what was asked for, or what works, and in one line why.

A GPU is looked for through its driver before onnxruntime is asked, which would answer with a page
of warnings where there is none.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from vqtok.errors import ConfigError, did_you_mean
from vqtok.export.runtime.library import onnxruntime

__all__ = [
    "CPU",
    "PROVIDERS",
    "Target",
    "check_tf32",
    "chosen",
    "gpus",
    "in_build",
    "missing",
    "preloaded",
    "say",
    "why_not",
]

_log = logging.getLogger(__name__)

# What people write -> what onnxruntime calls it.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")
TF32_OFF = "NVIDIA_TF32_OVERRIDE"  # the only switch that TensorRT has


@dataclass(frozen=True)
class Target:
    """What sessions run on.

    provider  a name of `PROVIDERS`; what it lacks runs on the CPU
    index     of the GPU
    firm      whether it was asked for, so that nothing else will do
    """

    provider: str
    index: int = 0
    firm: bool = True

    @property
    def device(self) -> str:
        """As torch writes it: "cpu" or "cuda:0"."""
        return "cpu" if self.provider == "cpu" else f"cuda:{self.index}"


CPU = Target("cpu")


def chosen(device: Any, asked: Iterable[str] | None) -> Target:
    """What runs on a device, None for any, by the providers that were `asked` for, if any were.

    `ConfigError` where that is not here.
    """
    names = None if asked is None else _checked(asked)
    index = _index(device)
    if device is not None:
        _check_both(names, device, "cpu" if index is None else "gpu")
    if names == ("cpu",) or (device is not None and index is None):
        return CPU
    if names is not None or device is not None:
        return _first(names or ("cuda",), device, index or 0)
    if not in_build("cuda"):
        return CPU
    if not gpus():
        say(f"{PROVIDERS['cuda']} is in this build but there is no GPU here; running on the CPU")
        return CPU
    return Target("cuda", firm=False)


def _checked(asked: Iterable[str]) -> tuple[str, ...]:
    """The names, without a CPU that comes last anyway."""
    names = (asked,) if isinstance(asked, str) else tuple(asked)
    for name in names:
        if name not in PROVIDERS:
            raise ConfigError(
                f"there is no provider called {name!r}. {did_you_mean(name, PROVIDERS)}"
            )
    if not names:
        raise ConfigError(f"no provider was named; known: {', '.join(PROVIDERS)}")
    return names[: names.index("cpu") + 1] if "cpu" in names else names


def _index(device: Any) -> int | None:
    """The number of a GPU; None of the CPU, and where no device is named."""
    if device is None:
        return None
    match = DEVICE.fullmatch(str(device))
    if match is None:
        raise ConfigError(
            f"there is no device {str(device)!r} for ONNX graphs; they run on 'cpu', 'cuda' or "
            "'cuda:1' and so on"
        )
    return None if match[0] == "cpu" else int(match[1] or 0)


def _check_both(names: tuple[str, ...] | None, device: Any, kind: str) -> None:
    kinds = {"cpu" if name == "cpu" else "gpu" for name in names or ()}
    if names is not None and kind not in kinds:
        raise ConfigError(
            f"device={str(device)!r} and providers={', '.join(names)} exclude each other"
        )


def _first(names: tuple[str, ...], device: Any, index: int) -> Target:
    """The first of the providers that may work here; the CPU only where it was named, too."""
    reasons: list[str] = []
    for name in names:
        if name == "cpu":
            if device is not None:
                break
            say(f"{'; '.join(reasons)}; running on {PROVIDERS['cpu']}")
            return CPU
        reason = why_not(name, index)
        if reason is None:
            return Target(name, index, firm="cpu" not in names or device is not None)
        reasons.append(reason)
    what = f"there is no device {str(device)!r} here" if device is not None else "no provider works"
    raise ConfigError(f"{what}: {'; '.join(reasons)}")


def why_not(provider: str, index: int) -> str | None:
    """Why a provider cannot run on that GPU, as far as that is seen without starting it."""
    name = PROVIDERS[provider]
    if not in_build(provider):
        return f"{name} is not in this build of onnxruntime, which pip installs as onnxruntime-gpu"
    count = gpus()
    if not count:
        return f"{name} is in this build but there is no GPU here"
    if index >= count:
        return f"there are {count} GPUs, so the last is cuda:{count - 1}"
    return None


def in_build(provider: str) -> bool:
    """Whether the onnxruntime that is installed was built with it."""
    return PROVIDERS[provider] in onnxruntime().get_available_providers()


@cache
def gpus() -> int:
    """How many GPUs the driver lets this process see; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


@cache
def preloaded() -> None:
    """Loads CUDA's libraries where pip put them; onnxruntime does not look there by itself."""
    with redirect_stdout(StringIO()):  # it prints what it does not find; sessions tell
        onnxruntime().preload_dlls()


def missing(provider: str) -> str:
    """Why a provider's library does not start, in the loader's words."""
    folder = Path(onnxruntime().__file__).parent / "capi"
    name = f"onnxruntime_providers_{provider}"
    file = folder / (f"{name}.dll" if sys.platform == "win32" else f"lib{name}.so")
    try:
        ctypes.CDLL(str(file))
    except OSError as error:
        return str(error).splitlines()[0]
    return "its library loads, but not the GPU's; is the driver too old?"


def check_tf32(provider: str, precision: str) -> None:
    """TensorRT takes TF32 products wherever it may, and has no other switch than this."""
    if provider == "tensorrt" and precision == "ieee32" and os.environ.get(TF32_OFF) != "0":
        raise ConfigError(
            "TensorRT multiplies float32 in TF32, which changes ids: set the environment variable "
            f"{TF32_OFF}=0 before this process starts, or ask for precision='tf32'"
        )


_said: set[str] = set()


def say(line: str) -> None:
    """A warning, once in a process."""
    if line not in _said:
        _said.add(line)
        _log.warning(line)
