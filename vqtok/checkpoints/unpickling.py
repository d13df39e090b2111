"""Pickles of tensors, read without running anything that they name.

A pickle is a program: it calls whatever importable things it names. Here a name stands for
something of this module or for nothing. Tensors become `StoredTensor`, which says where in the
file the numbers lie; classes of the libraries that checkpoints mention in passing become `Inert`,
which keeps what it is given; any other name ends the reading.
"""

from __future__ import annotations

import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from vqtok.checkpoints.numpy_pickles import NUMPY, Array, DType
from vqtok.errors import LoadError

__all__ = [
    "Archive",
    "Inert",
    "PathName",
    "Storage",
    "StorageKind",
    "StoredTensor",
    "damaged",
    "plain",
    "unpickle",
]

# Libraries whose objects lie beside the weights: callbacks, settings, types in annotations.
BYSTANDERS = frozenset(
    {
        "addict",
        "antlr4",
        "argparse",
        "datetime",
        "easydict",
        "jsonargparse",
        "lightning",
        "lightning_fabric",
        "lightning_utilities",
        "ml_collections",
        "munch",
        "omegaconf",
        "pytorch_lightning",
        "torchmetrics",
        "typing",
        "yacs",
    }
)
# Deeper settings than this, or more containers, are none.
DEPTH = 32
MOST = 100_000


def damaged(path: Path, why: object = "") -> LoadError:
    """The error for a file that is cut short or altered."""
    said = " ".join(str(why).split())
    return LoadError(f"{path} is damaged or cut short" + (f": {said}" if said else ""))


# --- tensors ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """A file, and where in it each storage lies: key -> (first byte, bytes)."""

    path: Path
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def storage(self, saved: Any) -> Storage:
        """What a pickle's reference to a storage means."""
        match saved:
            case ("storage", StorageKind(dtype), str(key), _, int(numbers), *views) if numbers >= 0:
                if any(view is not None for view in views):
                    raise pickle.UnpicklingError(f"the storage {key!r} is a view of another")
                return self.storages.setdefault(key, Storage(self, key, dtype, numbers))
        raise pickle.UnpicklingError("it refers to something that is no storage of tensors")


class StorageKind(NamedTuple):
    """What stands for torch.FloatStorage and its like."""

    dtype: torch.dtype


class Storage(NamedTuple):
    """Numbers in a row, in a file."""

    archive: Archive
    key: str
    dtype: torch.dtype
    numbers: int


class StoredTensor(NamedTuple):
    """A tensor that is still in its file."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> Tensor:
        """The tensor; only its own part of the file is read."""
        path, places = self.storage.archive.path, self.storage.archive.places
        start, room = places.get(self.storage.key, (0, -1))
        width, count = self.dtype.itemsize, 1
        for side in self.size:
            count *= side
        steps = zip(self.size, self.stride, strict=True)
        span = 1 + sum((side - 1) * step for side, step in steps) if count else 0
        if (self.offset + span) * width > room or count * width > room:
            raise damaged(path, f"a tensor of shape {self.size} is larger than its storage")
        if not count:
            return torch.empty(self.size, dtype=self.dtype)
        if start + room > path.stat().st_size:
            raise damaged(path, f"it ends within a tensor of shape {self.size}")
        data = bytearray(span * width)
        with path.open("rb") as file:
            file.seek(start + self.offset * width)
            file.readinto(data)
        flat = torch.frombuffer(data, dtype=torch.uint8).view(self.dtype)
        return flat.as_strided(self.size, self.stride).contiguous()


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor has no storage")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError(f"a tensor has the shape {size!r}, stride {stride!r}")
    return StoredTensor(storage, storage.dtype, offset, tuple(size), tuple(stride))


def _tensor_of_dtype(*given: Any) -> StoredTensor:
    """`_rebuild_tensor_v3`: of a dtype that no storage class has."""
    dtype = given[6]
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError(f"a tensor has the dtype {dtype!r}")
    return _tensor(*given)._replace(dtype=dtype)


def _tensor_of_kind(make: Any, kind: Any, given: Any, state: Any) -> StoredTensor:
    """`_rebuild_from_type_v2`: of a subclass, which does not matter here."""
    if make not in (_tensor, _tensor_of_dtype, _first):
        raise pickle.UnpicklingError("a tensor is made by something else than torch")
    made: StoredTensor = make(*given)
    return made


def _first(data: Any, *rest: Any) -> Any:
    return data


# --- everything else --------------------------------------------------------------------------


class Inert:
    """An object of a class that is not imported: it takes what a pickle gives it, and does nothing.

    given  what it was made of; state, what it held; entries and items, as a dict or list
    """

    def __new__(cls, *given: Any, **named: Any) -> Inert:
        made = object.__new__(cls)
        made.given, made.state, made.entries, made.items = given, None, {}, []
        return made

    def __init__(self, *given: Any, **named: Any) -> None:
        self.given: tuple[Any, ...]
        self.state: Any
        self.entries: dict[Any, Any]
        self.items: list[Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, item: Any) -> None:
        self.items.append(item)

    add = append

    def extend(self, items: Any) -> None:
        self.items.extend(items)


class PathName(Inert):
    """A path, of whatever system."""

    def __str__(self) -> str:
        return str(PurePosixPath(*map(str, self.given)))


def _inert(module: str, name: str) -> type[Inert]:
    return type(name, (Inert,), {"__module__": module})


def _reconstructed(kind: Any, *rest: Any) -> Any:
    """`copyreg._reconstructor` and `__newobj__`."""
    if isinstance(kind, type) and issubclass(kind, Inert):
        return kind()
    raise pickle.UnpicklingError("it makes an object of a class that checkpoints do not hold")


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, by which old pickles bring bytes."""
    return text.encode("latin1")


def _bytes(*given: Any) -> bytes:
    """`bytes`, by which they bring empty ones."""
    return b""


def _nothing(*given: Any) -> Inert:
    return Inert(*given)


def _globals() -> Iterator[tuple[str, Any]]:
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
        yield f"torch._utils.{name}", _tensor
    yield "torch._utils._rebuild_tensor_v3", _tensor_of_dtype
    for name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
        yield f"torch._utils.{name}", _first
    yield "torch._tensor._rebuild_from_type_v2", _tensor_of_kind
    yield "torch.nn.parameter.Parameter", _inert("torch.nn.parameter", "Parameter")
    yield "torch.Tensor", _inert("torch", "Tensor")
    yield "torch.Size", tuple
    yield "torch.device", _inert("torch", "device")
    yield "torch.serialization._get_layout", _nothing
    yield "torch.storage.UntypedStorage", StorageKind(torch.uint8)
    for name, dtype in STORAGES.items():
        yield f"torch.{name}Storage", StorageKind(dtype)
        yield f"torch.cuda.{name}Storage", StorageKind(dtype)
    for name in dir(torch):
        if isinstance(getattr(torch, name), torch.dtype):
            yield f"torch.{name}", getattr(torch, name)
    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path"):
        yield f"pathlib.{name}", PathName
        yield f"pathlib._local.{name}", PathName
    for kind in (OrderedDict, defaultdict, Counter):
        yield f"collections.{kind.__name__}", kind
    for name, made in (("set", set), ("frozenset", frozenset), ("complex", complex)):
        yield f"builtins.{name}", made
    # Named as the types of settings, and never to be made: list(range(10 ** 12)) fills a machine.
    for name in ("bool", "dict", "float", "int", "list", "object", "str", "tuple", "type"):
        yield f"builtins.{name}", _inert("builtins", name)
    for name in ("_reconstructor", "__newobj__"):
        yield f"copyreg.{name}", _reconstructed
    yield "_codecs.encode", _encoded
    yield "builtins.bytes", _bytes
    for module in ("operator", "_operator"):
        yield f"{module}.getitem", _nothing  # typing.Union[int, str]
    yield from NUMPY.items()


STORAGES = {
    "BFloat16": torch.bfloat16,
    "Bool": torch.bool,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Short": torch.int16,
}
GLOBALS: dict[str, Any] = dict(_globals())


class _Unpickler(pickle._Unpickler):
    """Python's own, and not the one in C, of which a damaged file can ask for any memory."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], archive: Archive) -> None:
        super().__init__(file, encoding="latin1")
        self._archive = archive

    def load_build(self) -> None:
        """Gives its state to what keeps one; a class or function must not be changed by a file."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state = stack.pop()
        if isinstance(stack[-1], Inert | DType | Array):
            stack[-1].__setstate__(state)
        elif callable(stack[-1]):
            raise pickle.UnpicklingError("it changes a class or a function")

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        # Pickles of the protocol that torch writes have Python 2's names.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if full in GLOBALS:
            return GLOBALS[full]
        if module.partition(".")[0] in BYSTANDERS:
            return _inert(module, name)
        raise LoadError(
            f"{self._archive.path} is refused: it names {full}, which no file of weights needs, "
            "and opening a pickle in full runs what it names"
        )

    def persistent_load(self, saved: Any) -> Storage:
        return self._archive.storage(saved)


def unpickle(file: IO[bytes], archive: Archive) -> Any:
    """The next pickle in `file`; a `LoadError` where it names what it should not, or is damaged."""
    try:
        return _Unpickler(file, archive).load()
    except LoadError:
        raise
    except Exception as error:  # bytes that are no pickle make it raise anything
        why = f"{type(error).__name__} in its pickle" + (f": {error}" if str(error) else "")
        raise damaged(archive.path, why) from error


# --- settings ---------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Settings as JSON has them, of whatever a pickle kept them in; None for what is none."""
    return _plain(value, DEPTH, iter(range(MOST)))


def _plain(value: Any, depth: int, budget: Iterator[int]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Array):
        return value.number()
    # Few bytes can hold themselves many times over.
    if depth == 0 or next(budget, None) is None:
        return None
    if isinstance(value, Inert):
        return _plain(_content(value), depth - 1, budget)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, depth - 1, budget) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and not isinstance(value, StoredTensor):
        return [_plain(item, depth - 1, budget) for item in value]
    return None


def _content(value: Inert) -> Any:
    """What an object of settings is about: OmegaConf's nodes wrap each value and its container."""
    if isinstance(value, PathName):
        return str(value)
    state = value.state
    if isinstance(state, Mapping):
        for name in ("_content", "_val"):
            if name in state:
                return state[name]
        return {**state, **value.entries}
    return value.entries or value.items or None
