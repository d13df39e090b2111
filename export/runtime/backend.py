"""`OnnxBackend`: how graphs are to run, and the parts of a tokenizer that runs them so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqtok.backends import Parts, check_parts
from vqtok.errors import ConfigError, did_you_mean
from vqtok.export.runtime.clips import OnnxClipCodec
from vqtok.export.runtime.codec import OnnxCodec
from vqtok.export.runtime.folder import opened
from vqtok.export.runtime.library import onnxruntime
from vqtok.export.runtime.providers import Target, check_tf32, chosen
from vqtok.export.runtime.sessions import Options, cores
from vqtok.precision import PRECISIONS

__all__ = ["OnnxBackend"]

PROVIDERS, THREADS = "VQTOK_ONNX_PROVIDERS", "VQTOK_ONNX_THREADS"
# What the graphs of a folder may compute in.
KNOWN = (*PRECISIONS, "int8")
# What would change ids behind the precision's back.
PRECISE = ("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable")


@dataclass(frozen=True)
class OnnxBackend:
    """How ONNX graphs run, for `VisualTokenizer.from_pretrained(..., backend=OnnxBackend(...))`.

    providers    "cuda", "tensorrt" and "cpu", of which the first that works here is taken; an error
                 where none does. By default those in the environment variable VQTOK_ONNX_PROVIDERS
                 ("cuda,cpu"), else CUDA where it works, else the CPU. TensorRT runs only where it
                 is named: it takes minutes to build an engine for each new size
    threads      on the CPU; by default VQTOK_ONNX_THREADS, else OMP_NUM_THREADS, else the cores
                 that this process may use
    cuda_graphs  on a GPU, records what runs for a size of batch and plays it again: faster for
                 small batches of few sizes, each of which keeps its memory
    tensorrt     options of onnxruntime's TensorRT provider, such as {"trt_max_workspace_size":
                 1 << 31}; engines are kept under VQTOK_CACHE, ~/.cache/vqtok by default
    """

    providers: tuple[str, ...] | None = None
    threads: int | None = None
    cuda_graphs: bool = False
    tensorrt: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Keeps what can be hashed."""
        named, options = self.providers, self.tensorrt
        if named is not None:
            object.__setattr__(self, "providers", (named,) if isinstance(named, str) else (*named,))
        pairs = options.items() if isinstance(options, Mapping) else options
        object.__setattr__(self, "tensorrt", tuple(sorted(pairs)))

    def check(self, device: Any, precision: str | None) -> None:
        """See `vqtok.backends.Backend.check`."""
        if precision is not None and precision not in KNOWN:
            raise ConfigError(
                f"there is no precision called {precision!r}. {did_you_mean(precision, KNOWN)}"
            )
        self._options(device)
        self._target(device)

    def load(
        self,
        folder: Path,
        *,
        device: Any = None,
        precision: str | None = None,
        variant: str | None = None,
    ) -> Parts:
        """The parts of the tokenizer in a folder that `vqtok export` wrote.

        Every file is read and compared with what the others say. Of the precisions the folder's own
        can be had, and on a GPU "tf32" of one that is "ieee32".
        """
        if variant is not None:
            raise ConfigError(f"variant={variant!r} names weights of torch; these are ONNX graphs")
        target, options = self._target(device), self._options(device)
        found = opened(Path(folder))
        precision = _precision(found.precision, precision, target, found.path)
        check_parts(found.traits, found.settings, found.vocab)
        kind = OnnxClipCodec if found.traits.is_video else OnnxCodec
        return Parts(kind(found, target, options, precision), found.settings, found.vocab)

    def _target(self, device: Any) -> Target:
        onnxruntime()
        return chosen(device, self._asked(device))

    def _asked(self, device: Any) -> tuple[str, ...] | None:
        """The providers that somebody named."""
        # Who names the CPU needs no other: a server looks at graphs there before its workers start.
        named = os.environ.get(PROVIDERS)
        if self.providers is not None or str(device) == "cpu" or not named:
            return self.providers
        return tuple(part.strip().lower() for part in named.split(","))

    def _options(self, device: Any) -> Options:
        """How sessions run; `ConfigError` where an option cannot be, or nothing would use it."""
        options = dict(self.tensorrt)
        for name in options:
            if name in PRECISE:
                raise ConfigError(
                    f"tensorrt={{{name!r}: ...}} would change ids; the precision of the folder "
                    "says what TensorRT may do"
                )
            if not str(name).startswith("trt_"):
                raise ConfigError(f"options of TensorRT are called 'trt_...'; got {name!r}")
        asked = self._asked(device)
        if options and "tensorrt" not in (asked or ()):
            raise ConfigError(
                f"tensorrt= has options of a provider that is not asked for: {_named(asked)}"
            )
        if self.cuda_graphs and (asked == ("cpu",) or str(device) == "cpu"):
            where = _named(asked) if asked == ("cpu",) else f"device={str(device)!r}"
            raise ConfigError(f"cuda_graphs=True is for GPUs, and this runs on none: {where}")
        return Options(_threads(self.threads), self.cuda_graphs, options)


def _named(asked: tuple[str, ...] | None) -> str:
    return "no providers are named" if asked is None else f"providers={', '.join(asked)}"


def _threads(asked: int | None) -> int:
    said: dict[str, Any] = {"threads": asked}
    said |= {name: os.environ.get(name) for name in (THREADS, "OMP_NUM_THREADS")}
    for name, value in said.items():
        if value is None or value == "":
            continue
        try:
            count = int(str(value).split(",")[0])
        except ValueError:
            count = 0
        if count < 1:
            raise ConfigError(f"{name} is a whole number, at least 1; got {value!r}")
        return count
    return cores()


def _precision(own: str, asked: str | None, target: Target, folder: Path) -> str:
    """The arithmetic of ids; an error where the graphs were not exported for it."""
    if asked in (None, own):
        check_tf32(target.provider, own)
        return own
    if asked == "tf32" and own == "ieee32":
        if target.provider == "cpu":
            raise ConfigError("precision='tf32' is arithmetic of GPUs; the CPU has none")
        return asked
    raise ConfigError(
        f"the graphs in {folder} compute in {own}; precision={asked!r} takes another export"
    )
