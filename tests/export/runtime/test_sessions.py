"""Sessions: their settings, their processes, and GPUs, which are feigned by the CPU."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx_folders as made
import onnxruntime
import pytest
from onnx_folders import PICTURES, codes_of, pixels_of

from vqtok.errors import ConfigError, LoadError
from vqtok.export.runtime import OnnxBackend, OnnxCodec, binding, library, providers, sessions
from vqtok.export.runtime.binding import KEPT, PATIENCE, HostGraph
from vqtok.export.runtime.providers import Target

CUDA = "CUDAExecutionProvider"


class FeignedValue:
    """OrtValue, whose GPU is the CPU."""

    real = onnxruntime.OrtValue
    places: ClassVar[list[tuple[str, int]]] = []

    @classmethod
    def ortvalue_from_shape_and_type(
        cls, shape: Any, kind: Any, device: str = "cpu", index: int = 0
    ) -> Any:
        cls.places.append((device, index))
        return cls.real.ortvalue_from_shape_and_type(shape, kind)

    ortvalue_from_numpy = real.ortvalue_from_numpy


class Feigned:
    """onnxruntime with GPUs; what it was asked for is in `asked`, `starts` says what works."""

    __version__ = onnxruntime.__version__
    __file__ = "/nowhere/onnxruntime/__init__.py"
    SessionOptions, RunOptions = onnxruntime.SessionOptions, onnxruntime.RunOptions
    OrtValue = FeignedValue

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.severities: list[int] = []
        self.runs: list[str] = []
        self.starts = True

    def get_available_providers(self) -> list[str]:
        return ["TensorrtExecutionProvider", CUDA, "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        print("a page of what was not found")

    def set_default_logger_severity(self, severity: int) -> None:
        self.severities.append(severity)

    def InferenceSession(  # the library's name
        self, file: str, options: Any, *, providers: list[Any], enable_fallback: int
    ) -> Any:
        assert not enable_fallback
        self.asked.append(providers)
        names = [name if isinstance(name, str) else name[0] for name in providers]
        real = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return FeignedSession(real, names if self.starts else names[-1:], self.runs)


class FeignedSession:
    def __init__(self, real: Any, names: list[str], runs: list[str]) -> None:
        self._real, self._names, self._runs = real, names, runs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return self._names

    def run_with_iobinding(self, bound: Any, options: Any = None) -> None:
        self._runs.append("" if options is None else options.get_run_config_entry("gpu_graph_id"))
        self._real.run_with_iobinding(bound)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Feigned:
    feigned = Feigned()
    for module in (library, providers, sessions, binding):
        monkeypatch.setattr(module, "onnxruntime", lambda: feigned)
    monkeypatch.setattr(providers, "gpus", lambda: 2)
    monkeypatch.setattr(providers, "_said", set())
    monkeypatch.setattr(FeignedValue, "places", [])
    providers.preloaded.cache_clear()
    return feigned


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("onnx") / "plain")


def codec_of(
    place: Path, device: str | None = None, precision: str | None = None, **how: Any
) -> Any:
    codec = OnnxBackend(**how).load(place, device=device, precision=precision).codec
    assert isinstance(codec, OnnxCodec)
    return codec


# --- the CPU --------------------------------------------------------------------------------------


def test_cores_are_those_that_are_granted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    quota, period = tmp_path / "quota", tmp_path / "period"
    monkeypatch.setattr(
        sessions, "QUOTAS", ((str(tmp_path / "max"), None), (str(quota), str(period)))
    )
    assert sessions.cores() == 8
    for text, cores in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "max").write_text(text)
        assert sessions.cores() == cores
    (tmp_path / "max").unlink()
    period.write_text("100000")
    for text, cores in (("-1", 8), ("300000", 3), ("900000", 8)):
        quota.write_text(text)
        assert sessions.cores() == cores


@pytest.mark.parametrize(
    ("asked", "environment", "threads"),
    [
        (3, {"VQTOK_ONNX_THREADS": "2"}, 3),
        (None, {"VQTOK_ONNX_THREADS": "2", "OMP_NUM_THREADS": "5"}, 2),
        (None, {"VQTOK_ONNX_THREADS": "", "OMP_NUM_THREADS": "5,4"}, 5),
        (None, {}, 7),
    ],
)
def test_threads(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: int | None,
    environment: dict[str, str],
    threads: int,
) -> None:
    for name in ("VQTOK_ONNX_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("vqtok.export.runtime.backend.cores", lambda: 7)
    codec = codec_of(place, "cpu", threads=asked)
    codec.encode(pixels_of(1, (4, 4)))
    options = codec._sessions.graph("encoder")._session.get_session_options()
    assert options.intra_op_num_threads == threads
    assert not options.enable_mem_pattern
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_threads_that_cannot_be(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        codec_of(place, "cpu", threads=0)
    assert str(error.value) == "threads is a whole number, at least 1; got 0"
    monkeypatch.setenv("VQTOK_ONNX_THREADS", "many")
    with pytest.raises(ConfigError) as named:
        codec_of(place, "cpu")
    assert str(named.value) == "VQTOK_ONNX_THREADS is a whole number, at least 1; got 'many'"


@pytest.mark.parametrize(
    ("how", "device", "message"),
    [
        ({"threads": 0}, None, "threads is a whole number, at least 1; got 0"),
        (
            {"tensorrt": {"device_id": 1}},
            None,
            "options of TensorRT are called 'trt_...'; got 'device_id'",
        ),
        (
            {"tensorrt": {"trt_a": 1}},
            None,
            "tensorrt= has options of a provider that is not asked for: no providers are named",
        ),
        (
            {"tensorrt": {"trt_a": 1}, "providers": ("cuda", "cpu")},
            None,
            "tensorrt= has options of a provider that is not asked for: providers=cuda, cpu",
        ),
        (
            {"cuda_graphs": True, "providers": ["cpu"]},
            None,
            "cuda_graphs=True is for GPUs, and this runs on none: providers=cpu",
        ),
        (
            {"cuda_graphs": True},
            "cpu",
            "cuda_graphs=True is for GPUs, and this runs on none: device='cpu'",
        ),
    ],
)
def test_options_that_nothing_would_use(
    how: dict[str, Any], device: str | None, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        OnnxBackend(**how).check(device, None)
    assert str(error.value) == message


def test_backends_are_values() -> None:
    one = OnnxBackend(("tensorrt",), tensorrt={"trt_b": 2, "trt_a": "1"})
    other = OnnxBackend(["tensorrt"], tensorrt={"trt_a": "1", "trt_b": 2})  # type: ignore[arg-type]
    assert one == other == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(other)
    assert OnnxBackend("cpu") == OnnxBackend(("cpu",))  # type: ignore[arg-type]
    assert one != OnnxBackend(("tensorrt",), tensorrt={"trt_a": "1"})


def test_graphs_open_when_they_are_needed(place: Path) -> None:
    codec = codec_of(place, "cpu")
    assert codec._sessions._graphs == {}
    codec.encode(pixels_of(1, (4, 4)))
    assert list(codec._sessions._graphs) == ["encoder"]
    assert pickle.loads(pickle.dumps(codec))._sessions._graphs == {}


def test_a_graph_opens_once_for_all_threads(place: Path) -> None:
    codec = codec_of(place, "cpu")
    pixels = pixels_of(4, (8, 8))
    results: list[Any] = []
    work = [
        threading.Thread(target=lambda: results.append(codec.encode(pixels).ids)) for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert all(np.array_equal(ids, codes_of(pixels, PICTURES)) for ids in results)
    assert len(results) == 8


def test_a_graph_that_the_library_cannot_read(tmp_path: Path) -> None:
    made.folder(tmp_path)
    codec = codec_of(tmp_path, "cpu")
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    with pytest.raises(LoadError) as error:
        codec.encode(pixels_of(1, (4, 4)))
    start = f"{tmp_path / 'encoder.onnx'} does not load in onnxruntime {onnxruntime.__version__}: "
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)


def test_memory_goes_back_when_batches_stay_small(place: Path) -> None:
    graph = HostGraph(
        codec_of(place, "cpu")._sessions._session("encoder", ["CPUExecutionProvider"])
    )
    assert graph._options(1000) is None
    gone = [graph._options(100) for _ in range(2 * PATIENCE)]
    entry = "memory.enable_memory_arena_shrinkage"
    assert [one and one.get_run_config_entry(entry) for one in gone] == [
        "cpu:0" if turn == PATIENCE - 1 else None for turn in range(2 * PATIENCE)
    ]
    assert [graph._options(size) for size in (300, 1000, 250) * PATIENCE] == [None] * 3 * PATIENCE
    small, large = pixels_of(1, (4, 4)), pixels_of(2, (64, 64))
    codec = codec_of(place, "cpu")
    for pixels in (large, *[small] * (PATIENCE + 1), large):
        assert np.array_equal(codec.encode(pixels).ids, codes_of(pixels, PICTURES))


def test_pixels_that_do_not_lie_in_a_row(place: Path) -> None:
    pixels = pixels_of(2, (8, 16))[:, :, ::2][:, ::-1]
    assert np.array_equal(codec_of(place, "cpu").encode(pixels).ids, codes_of(pixels, PICTURES))


# --- GPUs -----------------------------------------------------------------------------------------


def test_a_gpu_is_settled_when_it_loads(
    gpu: Feigned, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = codec_of(place, "cuda:1")
    assert (codec.device, codec.provider) == ("cuda:1", "cuda")
    options = {
        "device_id": "1",
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": "0",
    }
    assert gpu.asked == [[(CUDA, options), "CPUExecutionProvider"]]
    assert gpu.severities == [4, 2]
    assert capsys.readouterr() == ("", "")
    pixels = pixels_of(3, (8, 8))
    for _ in range(2):
        codes = codec.encode(pixels)
        assert np.array_equal(codes.ids, codes_of(pixels, PICTURES))
    assert FeignedValue.places == [("cuda", 1)] * 2
    assert codec.decode(codes).shape == pixels.shape
    assert repr(codec) == f"OnnxCodec({str(place)!r} on cuda)"


def test_tf32_where_it_is_asked_for(gpu: Feigned, place: Path) -> None:
    codec = codec_of(place, "cuda", "tf32")
    assert gpu.asked[0][0][1]["use_tf32"] == "1"
    assert codec.precision == "tf32"
    with pytest.raises(ConfigError) as error:
        codec.to("cpu")
    assert str(error.value) == "precision='tf32' is arithmetic of GPUs; the CPU has none"


def test_a_gpu_that_does_not_start(
    gpu: Feigned, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.starts = False
    codec = codec_of(place)
    assert (codec.device, codec.provider) == ("cpu", "cpu")
    start = f"{CUDA} does not start here: /nowhere/onnxruntime/capi/"
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(start)
    assert line.endswith("; running on CPUExecutionProvider")
    assert np.array_equal(
        codec.encode(pixels := pixels_of(1, (4, 4))).ids, codes_of(pixels, PICTURES)
    )
    for options in ({"device": "cuda"}, {"providers": ("cuda",)}, {"precision": "tf32"}):
        with pytest.raises(ConfigError) as error:
            codec_of(place, **options)  # type: ignore[arg-type]
        assert str(error.value).startswith(start)


def test_recorded_runs(gpu: Feigned, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "CAPTURED", 2)
    codec = codec_of(place, "cuda", cuda_graphs=True)
    assert gpu.asked[0][0][1]["enable_cuda_graph"] == "1"
    sizes = [(4, 4), (8, 4), (8, 8), (4, 4), (8, 4)]
    for size in sizes:
        pixels = pixels_of(1, size)
        assert np.array_equal(codec.encode(pixels).ids, codes_of(pixels, PICTURES))
    assert gpu.runs == ["0", "1", "-1", "0", "1"]


def test_few_buffers_stay_on_a_gpu(gpu: Feigned, place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(binding, "CAPTURED", 1)
    for captures in (False, True):
        codec = codec_of(place, "cuda", cuda_graphs=captures)
        for rows in (*range(1, 9), 1):
            codec.encode(pixels_of(rows, (4, 4)))
        held = codec._sessions.graph("encoder")._buffers
        first = [1] if captures else []
        later = [6, 7, 8, 1] if not captures else [5, 6, 7, 8, 1]
        assert [key[0][0] for key in held] == later
        assert len(held) == KEPT + len(first)


def test_tensorrt(gpu: Feigned, place: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("VQTOK_CACHE", str(tmp_path))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    how = {"trt_max_workspace_size": 1 << 20}
    codec = codec_of(place, "cuda", providers=("tensorrt", "cpu"), tensorrt=how)
    assert (codec.device, codec.provider) == ("cuda:0", "tensorrt")
    (name, options), (second, _), last = gpu.asked[0]
    assert [name, second, last] == gpu.get_available_providers()
    kept = Path(options["trt_engine_cache_path"])
    assert kept.is_dir()
    assert kept.parent == tmp_path / "tensorrt"
    assert options == {
        "device_id": "0",
        "trt_fp16_enable": "False",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(kept),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(kept.parent),
        "trt_cuda_graph_enable": "False",
        "trt_max_workspace_size": "1048576",
    }
    codec.to("cuda:1")
    assert (codec.device, codec.provider) == ("cuda:1", "tensorrt")
    with pytest.raises(ConfigError) as error:
        OnnxBackend(tensorrt={"trt_fp16_enable": True}).check(None, None)
    assert str(error.value) == (
        "tensorrt={'trt_fp16_enable': ...} would change ids; the precision of the folder says what "
        "TensorRT may do"
    )
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    with pytest.raises(ConfigError, match="TensorRT multiplies float32 in TF32"):
        codec_of(place, providers=("tensorrt",))


def test_moving(gpu: Feigned, place: Path) -> None:
    codec = codec_of(place, "cpu")
    pixels = pixels_of(2, (8, 8))
    codes = codec.encode(pixels)
    codec.to("cuda:1")
    assert codec.device == "cuda:1"
    assert codec.encode(pixels) == codes
    codec.to("cpu")
    assert codec.device == "cpu"
    assert codec.encode(pixels) == codes
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        codec.to("cuda:2")
    assert codec.device == "cpu"


def test_a_gpu_and_a_fork(gpu: Feigned, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = codec_of(place, "cuda")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(ConfigError) as error:
        codec.encode(pixels_of(1, (4, 4)))
    assert str(error.value) == (
        "a GPU cannot be used in a process that was forked from one which used it; start workers "
        "by spawn (multiprocessing.get_context('spawn'))"
    )


def test_targets_are_said_as_torch_says_them() -> None:
    assert [Target("cpu").device, Target("cuda", 1).device, Target("tensorrt").device] == [
        "cpu",
        "cuda:1",
        "cuda:0",
    ]
