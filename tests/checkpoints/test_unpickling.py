from __future__ import annotations

import argparse
import io
import pickle
import re
import sys
import typing
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints.pickles import Calls, hostile, of_module, save

from vqtok.checkpoints.numpy_pickles import Array
from vqtok.checkpoints.torch_files import read_pickle, read_zip
from vqtok.checkpoints.unpickling import Archive, StoredTensor, plain, unpickle
from vqtok.errors import LoadError

READ = {"zip": read_zip, "legacy": read_pickle, "bare": read_pickle}
FORMS = ["zip", "legacy"]


def read(found: Any, file: Path, kind: str = "zip") -> Any:
    return READ[kind](save(found, file, kind))


def refused(found: Any, file: Path, kind: str = "zip") -> str:
    with pytest.raises(LoadError) as error:
        read(found, file, kind)
    return str(error.value)


@pytest.fixture
def modules() -> Iterator[None]:
    """Leaves sys.modules as it was."""
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


# --- tensors --------------------------------------------------------------------------------------


def many() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0)
    return {
        "plain": torch.randn(3, 4),
        "turned": torch.randn(3, 4).t(),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "double": torch.randn(2).double(),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "number": torch.tensor(3),
        "none": torch.zeros(0, 3),
        "part": base[5:9],
        "every third": base[::3],
        "wide": torch.randn(2, 1).expand(2, 1),
        "complex": torch.randn(2, dtype=torch.complex64),
    }


@pytest.mark.parametrize("kind", FORMS)
def test_tensors_come_back(tmp_path: Path, kind: str) -> None:
    made = many()
    found = read(made, tmp_path / "a.pt", kind)
    for name, tensor in made.items():
        assert isinstance(found[name], StoredTensor)
        loaded = found[name].load()
        assert (loaded.dtype, loaded.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(loaded, tensor), name


def test_a_dtype_without_a_storage_class(tmp_path: Path) -> None:
    made = torch.arange(6, dtype=torch.int32).to(torch.uint16)
    assert torch.equal(read({"a": made}, tmp_path / "a.pt")["a"].load(), made)


@pytest.mark.parametrize("kind", FORMS)
def test_parameters_and_modules_in_state_dicts(tmp_path: Path, kind: str) -> None:
    layer = torch.nn.Linear(2, 3)
    found = read({"a": layer.weight, "b": layer.state_dict()}, tmp_path / "a.pt", kind)
    assert torch.equal(found["a"].load(), layer.weight)
    assert torch.equal(found["b"]["bias"].load(), layer.bias)


def test_only_its_own_part_of_a_file_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    """Of a storage with a million numbers four are wanted."""
    found = read({"a": torch.zeros(10**6)[7:11]}, tmp_path / "a.pt")
    sizes: list[int] = []
    monkeypatch.setattr(
        "builtins.bytearray", lambda size: sizes.append(size) or memoryview(bytes(size)).tobytes()
    )
    with pytest.raises(TypeError):  # bytes cannot be written into
        found["a"].load()
    assert sizes == [16]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("name", hostile(Path("mark")))
def test_code_is_refused_and_not_run(tmp_path: Path, kind: str, name: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "a.ckpt"
    found, called = hostile(mark)[name]
    assert refused({"state_dict": {}, "x": found}, file, kind) == (
        f"{file} is refused: it names {called}, which no file of weights needs, and opening a "
        "pickle in full runs what it names"
    )
    assert not mark.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    assert "it names torch.nn.modules.linear.Linear, which no file" in refused(
        torch.nn.Linear(2, 2), tmp_path / "a.pt"
    )


def test_names_with_dots_and_names_of_attributes(tmp_path: Path) -> None:
    """A pickle may name `os.path.os.system`, and attributes of what is allowed."""
    for module, name in [
        ("torch", "serialization.load"),
        ("collections", "OrderedDict.__init__.__globals__"),
        ("pathlib", "os.system"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ]:
        data = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
        data += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
        with pytest.raises(LoadError, match=re.escape(f"it names {module}.{name}, which")):
            unpickle(io.BytesIO(data), Archive(tmp_path / "a"))


def test_a_stand_in_cannot_be_told_to_call_anything(tmp_path: Path, modules: None) -> None:
    """What lies beside the weights is made without its own code."""
    ran: list[str] = []
    loud = of_module(
        "pytorch_lightning.callbacks.Loud",
        __reduce__=lambda self: (type(self), ("a",), {"x": 1}),
        __init__=lambda self, *given: ran.append("made"),
        __setstate__=lambda self, state: ran.append("filled"),
    )
    made = loud()
    ran.clear()
    found = read({"a": made, loud: 1}, tmp_path / "a.pt")
    assert ran == []
    assert (found["a"].given, found["a"].state, plain(found["a"])) == (("a",), {"x": 1}, {"x": 1})


def four() -> Any:
    """The storage of four numbers, as `torch.save` takes it."""
    numbers = torch.zeros(4).untyped_storage()
    return torch.storage.TypedStorage(wrap_storage=numbers, dtype=torch.float32, _internal=True)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((0, (3, 3), (3, 1)), "a tensor of shape (3, 3) is larger than its storage"),
        ((2, (4,), (1,)), "a tensor of shape (4,) is larger than its storage"),
        ((0, (10**9,), (0,)), "a tensor of shape (1000000000,) is larger than its storage"),
    ],
)
def test_tensors_beyond_their_storage(tmp_path: Path, kind: str, given: Any, why: str) -> None:
    class Beyond:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (four(), *given, False, OrderedDict())

    file = tmp_path / "a.pt"
    found = read({"a": Beyond()}, file, kind)
    with pytest.raises(LoadError) as error:
        found["a"].load()
    assert str(error.value) == f"{file} is damaged or cut short: {why}"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("x", 0, (1,), (1,)), "UnpicklingError in its pickle: a tensor has no storage"),
        ((1, 2), "TypeError in its pickle: _tensor() missing 2 required positional arguments"),
    ],
)
def test_tensors_of_nothing(tmp_path: Path, given: Any, why: str) -> None:
    found = Calls(torch._utils._rebuild_tensor_v2, *given)
    assert f"damaged or cut short: {why}" in refused(found, tmp_path / "a.pt")


@pytest.mark.parametrize("numbers", [(-1, (1,), (1,)), (0, (-1,), (1,)), (0, (1.5,), (1,))])
def test_numbers_that_no_tensor_has(tmp_path: Path, numbers: Any) -> None:
    class Odd:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (four(), *numbers)

    assert refused(Odd(), tmp_path / "a.pt") == (
        f"{tmp_path / 'a.pt'} is damaged or cut short: UnpicklingError in its pickle: a tensor has "
        f"the shape {numbers[1]!r}, stride {numbers[2]!r}"
    )


# --- what lies beside the weights -----------------------------------------------------------------


def test_settings_of_every_kind(tmp_path: Path) -> None:
    made = {
        "args": argparse.Namespace(lr=0.1, deep={"a": (1, 2)}, path=PurePosixPath("/a/b")),
        "ordered": OrderedDict(a=1),
        "default": defaultdict(dict, a={"b": None}),
        "counter": Counter("aab"),
        "path": PureWindowsPath("c"),
        "set": {3},
        "numpy": np.float64(1.5),
        "int": np.int64(7),
        "array": np.arange(3),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "bytes": b"abc",
        "typing": typing.Any,
    }
    assert plain(read(made, tmp_path / "a.pt")) == {
        "args": {"lr": 0.1, "deep": {"a": [1, 2]}, "path": "/a/b"},
        "ordered": {"a": 1},
        "default": {"a": {"b": None}},
        "counter": {"a": 2, "b": 1},
        "path": "c",
        "set": [3],
        "numpy": 1.5,
        "int": 7,
        "array": None,
        "size": [1, 2],
        "dtype": None,
        "device": None,
        "bytes": None,
        "typing": None,
    }


def test_omegaconf(tmp_path: Path, modules: None) -> None:
    """The form that OmegaConf pickles itself in: nodes around values, and their containers."""
    metadata = of_module("omegaconf.base.ContainerMetadata")
    node, config, items = (
        of_module(f"omegaconf.{name}") for name in ("nodes.AnyNode", "DictConfig", "ListConfig")
    )

    def make(kind: Any, **state: Any) -> Any:
        made = kind()
        made.__dict__.update(state, _metadata=metadata())
        return made

    numbers = make(items, _content=[make(node, _val=1), make(node, _val=2)])
    root = make(config)
    root.__dict__["_content"] = {
        "embed_dim": make(node, _val=256, _parent=root),
        "ch_mult": numbers,
        "inner": make(config, _content={"a": make(node, _val="b")}, _parent=root),
        "missing": make(config, _content=None),
    }
    assert plain(read({"hyper_parameters": root}, tmp_path / "a.pt")) == {
        "hyper_parameters": {
            "embed_dim": 256,
            "ch_mult": [1, 2],
            "inner": {"a": "b"},
            "missing": None,
        }
    }


def test_dictionaries_of_lightning(tmp_path: Path, modules: None) -> None:
    kind = of_module("pytorch_lightning.utilities.parsing.AttributeDict", dict)
    listed = of_module("lightning.fabric.Listed", list)
    made = {"hparams": kind(a=1), "callbacks": {kind: {"best": 2}}, "list": listed([1, 2])}
    found = plain(read(made, tmp_path / "a.pt"))
    assert (found["hparams"], found["list"]) == ({"a": 1}, [1, 2])


def test_settings_that_hold_themselves(tmp_path: Path) -> None:
    around: dict[str, Any] = {"a": 1}
    around["self"] = [around, around, around]
    found = plain(read(around, tmp_path / "a.pt"))
    assert (found["a"], found["self"][0]["a"]) == (1, 1)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2", "u1", "b1"])
def test_arrays(tmp_path: Path, protocol: int, dtype: str) -> None:
    for made in (
        np.arange(6).reshape(2, 3).astype(dtype),
        np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        np.zeros((0, 2), dtype),
    ):
        found = unpickle(io.BytesIO(pickle.dumps(made, protocol)), Archive(tmp_path / "a"))
        assert isinstance(found, Array)
        assert np.array_equal(found.load().numpy(), made)
        assert found.load().numpy().dtype == made.dtype.newbyteorder("=")


@pytest.mark.parametrize("made", [np.array(["a"]), np.array([{}], object), np.zeros(1, "V3")])
def test_arrays_of_something_else_are_empty(tmp_path: Path, made: Any) -> None:
    found = unpickle(io.BytesIO(pickle.dumps(made)), Archive(tmp_path / "a"))
    assert found.load().shape == (0,)


def test_bytes_that_are_no_pickle(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    for data, why in [
        (b"\x80\x02}", "EOFError in its pickle"),
        (b"\x80\x02h\x05.", "UnpicklingError in its pickle: Memo value not found at index 5"),
        (b"\x80\x02(" * 3 + b"o", "IndexError in its pickle: pop from empty list"),
    ]:
        file.write_bytes(data)
        with pytest.raises(LoadError) as error:
            read_pickle(file)
        assert str(error.value).startswith(f"{file} is damaged or cut short: {why}")


@pytest.mark.parametrize("name", ["collections\nCounter", "torch._utils\n_rebuild_tensor_v2"])
@pytest.mark.parametrize("state", [b"}U\x01xK\x01s", b"N}U\x06updateK\x01s\x86"])
def test_classes_and_functions_stay_as_they_are(tmp_path: Path, name: str, state: bytes) -> None:
    """BUILD sets attributes of whatever it is given."""
    data = b"\x80\x02c" + name.encode() + b"\n" + state + b"b."
    with pytest.raises(LoadError, match=r"in its pickle: it changes a class or a function$"):
        unpickle(io.BytesIO(data), Archive(tmp_path / "a"))
    assert callable(Counter.update)


@pytest.mark.parametrize("data", [b"\x96" + b"\xff" * 5 + b"\0" * 3, b"Nr\xff\xff\xff\x7f"])
def test_sizes_that_no_file_has(tmp_path: Path, data: bytes) -> None:
    """A memo of 2^31 places, and an array of 2^40 bytes, would fill a machine."""
    with pytest.raises(LoadError, match="damaged or cut short"):
        unpickle(io.BytesIO(b"\x80\x05" + data), Archive(tmp_path / "a"))
