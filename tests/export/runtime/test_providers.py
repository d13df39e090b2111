"""Which provider runs, by what was asked for and what is here. No GPU is needed: it is feigned."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from vqtok.errors import ConfigError
from vqtok.export.runtime import providers
from vqtok.export.runtime.providers import CPU, Target, check_tf32, chosen, missing

COUNT = providers.gpus.__wrapped__  # beneath its cache
BUILD = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the build of onnxruntime, and how many GPUs there are."""

    def feign(gpus: int, build: tuple[str, ...] = BUILD) -> None:
        class Library:
            get_available_providers = staticmethod(lambda: list(build))

        monkeypatch.setattr(providers, "onnxruntime", lambda: Library)
        monkeypatch.setattr(providers, "gpus", lambda: gpus)

    monkeypatch.setattr(providers, "_said", set())
    feign(0)
    return feign


def test_what_works_is_taken(machine: Any, caplog: pytest.LogCaptureFixture) -> None:
    machine(2)
    assert chosen(None, None) == Target("cuda", 0, firm=False)
    machine(0, BUILD[-1:])
    assert chosen(None, None) == CPU
    assert not caplog.records


def test_a_build_for_gpus_without_one_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    assert [chosen(None, None) for _ in range(3)] == [CPU] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "CUDAExecutionProvider is in this build but there is no GPU here; running on the CPU"
    ]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    ("device", "asked", "target"),
    [
        ("cpu", None, CPU),
        (None, ["cpu"], CPU),
        ("cuda", None, Target("cuda", 0)),
        ("cuda:1", None, Target("cuda", 1)),
        ("cuda:1", ["tensorrt", "cpu"], Target("tensorrt", 1)),
        ("cpu", ["cuda", "cpu"], CPU),
        (None, ["cuda"], Target("cuda", 0)),
        (None, ["tensorrt", "cuda", "cpu"], Target("tensorrt", 0, firm=False)),
        (None, "cuda", Target("cuda", 0)),
    ],
)
def test_what_was_asked_for(machine: Any, device: Any, asked: Any, target: Target) -> None:
    machine(2)
    assert chosen(device, asked) == target
    assert target.device == ("cpu" if target == CPU else f"cuda:{target.index}")


def test_the_last_resort_may_be_named(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(None, ["cuda", "cpu"]) == CPU
    assert [record.getMessage() for record in caplog.records] == [
        "CUDAExecutionProvider is in this build but there is no GPU here; running on "
        "CPUExecutionProvider"
    ]


NO_GPU = "CUDAExecutionProvider is in this build but there is no GPU here"


@pytest.mark.parametrize(
    ("gpus", "build", "device", "asked", "message"),
    [
        (0, BUILD, "cuda", None, f"there is no device 'cuda' here: {NO_GPU}"),
        (0, BUILD, None, ["cuda"], f"no provider works: {NO_GPU}"),
        (0, BUILD, "cuda", ["cuda", "cpu"], f"there is no device 'cuda' here: {NO_GPU}"),
        (
            2,
            BUILD,
            "cuda:2",
            None,
            "there is no device 'cuda:2' here: there are 2 GPUs, so the last is cuda:1",
        ),
        (
            1,
            BUILD[-1:],
            "cuda",
            None,
            "there is no device 'cuda' here: CUDAExecutionProvider is not in this build of "
            "onnxruntime, which pip installs as onnxruntime-gpu",
        ),
        (
            1,
            BUILD,
            "mps",
            None,
            "there is no device 'mps' for ONNX graphs; they run on 'cpu', 'cuda' or 'cuda:1' and "
            "so on",
        ),
        (1, BUILD, "cpu", ["cuda"], "device='cpu' and providers=cuda exclude each other"),
        (1, BUILD, "cuda", ["cpu"], "device='cuda' and providers=cpu exclude each other"),
        (
            1,
            BUILD,
            None,
            ["cudda"],
            "there is no provider called 'cudda'. Did you mean 'cuda'? Known: cpu, cuda, tensorrt.",
        ),
        (1, BUILD, None, [], "no provider was named; known: cpu, cuda, tensorrt"),
    ],
)
def test_what_is_not_here(
    machine: Any, gpus: int, build: tuple[str, ...], device: Any, asked: Any, message: str
) -> None:
    machine(gpus, build)
    with pytest.raises(ConfigError) as error:
        chosen(device, asked)
    assert str(error.value) == message


def test_gpus_are_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def __init__(self, name: str) -> None:
            assert name in ("libcuda.so.1", "nvcuda.dll")

        def cuInit(self, flags: int) -> int:  # the driver's name
            return failure

        def cuDeviceGetCount(self, count: Any) -> int:
            count._obj.value = 3
            return 0

    monkeypatch.setattr(providers.ctypes, "CDLL", Driver)
    failure = 0
    assert COUNT() == 3
    failure = 100  # no device
    assert COUNT() == 0
    monkeypatch.setattr(providers.ctypes, "CDLL", raises)
    assert COUNT() == 0


def raises(name: str) -> None:
    raise OSError(name)


def test_tensorrt_has_but_one_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    check_tf32("tensorrt", "tf32")
    check_tf32("cuda", "ieee32")
    with pytest.raises(ConfigError) as error:
        check_tf32("tensorrt", "ieee32")
    assert str(error.value) == (
        "TensorRT multiplies float32 in TF32, which changes ids: set the environment variable "
        "NVIDIA_TF32_OVERRIDE=0 before this process starts, or ask for precision='tf32'"
    )
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    check_tf32("tensorrt", "ieee32")


def test_the_loader_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        __file__ = "/nowhere/onnxruntime/__init__.py"

    monkeypatch.setattr(providers, "onnxruntime", lambda: Library)
    assert "onnxruntime_providers_cuda" in missing("cuda")
    monkeypatch.setattr(providers.ctypes, "CDLL", lambda name: None)
    assert missing("cuda") == "its library loads, but not the GPU's; is the driver too old?"
