"""The arithmetic that ids are made with.

Ids are defined by a float32 encoder with IEEE products. TF32 keeps ten bits of each factor and
moves a share of the ids, so it is off wherever ids are made unless somebody asks for it by name.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from vqtok.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch

__all__ = ["PRECISIONS", "Precision", "arithmetic", "check_precision", "ieee32"]

Precision = Literal["ieee32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def check_precision(name: str) -> Precision:
    """`name`, where it is one of `PRECISIONS`; a `ConfigError` otherwise."""
    for known in PRECISIONS:
        if name == known:
            return known
    raise ConfigError(f"there is no precision called {name!r}. {did_you_mean(name, PRECISIONS)}")


class _Flags(NamedTuple):
    """Torch's switches for less than float32: two old ones and, from 2.9, one an operation.

    An old one is None where torch refuses to tell, because somebody has moved the new ones alone.
    """

    matmul: str | None
    cudnn: bool | None
    operations: tuple[str, ...]

    @classmethod
    def read(cls) -> _Flags:
        import torch

        matmul: str | None
        cudnn: bool | None
        try:
            matmul = torch.get_float32_matmul_precision()
        except RuntimeError:
            matmul = None
        try:
            cudnn = torch.backends.cudnn.allow_tf32
        except RuntimeError:
            cudnn = None
        return cls(matmul, cudnn, tuple(part.fp32_precision for part in _operations()))

    def write(self) -> None:
        """Old ones first: they move new ones along, and mixing them is an error later on."""
        import torch

        if self.matmul is not None:
            torch.set_float32_matmul_precision(self.matmul)
        if self.cudnn is not None:
            torch.backends.cudnn.allow_tf32 = self.cudnn
        for part, value in zip(_operations(), self.operations, strict=True):
            part.fp32_precision = value


def _operations() -> list[Any]:
    """Whatever has a switch of its own; on CPUs, too, where oneDNN may multiply in bfloat16."""
    from torch import backends

    parts = (backends.cuda, "matmul"), (backends.cudnn, "conv"), (backends.cudnn, "rnn")
    cpu = ((backends.mkldnn, name) for name in ("matmul", "conv", "rnn"))
    found = (getattr(backend, name, None) for backend, name in (*parts, *cpu))
    return [part for part in found if hasattr(part, "fp32_precision")]


# The switches are the process's, so what is open in other threads counts as well: the first one in
# remembers how they stood, the last one out puts them back, and between them the strictest rules.
_lock = threading.Lock()
_open: list[bool] = []
_before: list[_Flags] = []


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    with _lock:
        if not _open:
            _before.append(_Flags.read())
        _open.append(allowed)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _open.remove(allowed)
            if _open:
                _apply()
            else:
                _before.pop().write()


def _apply() -> None:
    tf32 = all(_open)
    value = "tf32" if tf32 else "ieee"
    _Flags("high" if tf32 else "highest", tf32, (value,) * len(_operations())).write()


def ieee32() -> AbstractContextManager[None]:
    """Inside it, float32 products are float32 products, whatever torch's settings say."""
    return _tf32(False)


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside it, a float32 network computes in `precision` on `device`."""
    import torch

    with _tf32(precision == "tf32"):
        if precision in ("ieee32", "tf32"):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            half = torch.bfloat16 if precision == "bf16" else torch.float16
            with torch.autocast(device.type, dtype=half):
                yield
