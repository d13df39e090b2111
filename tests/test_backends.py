"""Which backend runs a folder, and what is said where none does."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import onnx_folders as made
import pytest
import tiny

from vqtok.backends import (
    BACKENDS,
    Backend,
    LocalCodec,
    Parts,
    TorchBackend,
    check_backend,
    check_parts,
)
from vqtok.errors import ConfigError, LoadError, MismatchError, MissingExtraError
from vqtok.export.runtime import OnnxBackend, OnnxCodec
from vqtok.hub import Resolved
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer
from vqtok.traits import Traits
from vqtok.vocab import VisualVocab


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("onnx") / "graphs")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("torch") / "weights"
    tiny.tokenizer().save_pretrained(place)
    return place


def load(name: Any, **options: Any) -> VisualTokenizer:
    return VisualTokenizer.from_pretrained(name, **options)


def refused(kind: type[Exception], name: Any, **options: Any) -> str:
    with pytest.raises(kind) as error:
        load(name, **options)
    return str(error.value)


def test_a_folder_says_what_runs_it(graphs: Path, weights: Path) -> None:
    for options in ({}, {"backend": "onnx"}, {"backend": OnnxBackend(threads=1)}):
        assert isinstance(load(graphs, device="cpu", **options).codec, OnnxCodec)
    for options in ({}, {"backend": "torch"}, {"backend": TorchBackend()}):
        assert load(weights, **options).model.config.num_vq_embeddings == 64
    for tok in (load(graphs, device="cpu"), load(weights)):
        assert isinstance(tok.codec, LocalCodec)
        assert tok.to("cpu") is tok


def test_what_does_not_run_there(graphs: Path, weights: Path) -> None:
    assert refused(ConfigError, graphs, backend="torch") == (
        f"{graphs} holds ONNX graphs and no weights for torch; backend='onnx' runs them"
    )
    assert refused(ConfigError, weights, backend="onnx", device="cpu") == (
        f"{weights} holds no ONNX graphs, which `vqtok export` writes of a tokenizer"
    )
    assert refused(ConfigError, "llamagen-vq16", backend="onnx", device="cpu") == (
        "'llamagen-vq16' is a checkpoint of another project, for torch; what `vqtok export "
        "llamagen-vq16 OUT` writes runs on ONNX Runtime"
    )
    assert refused(ConfigError, graphs, backend="onxn") == (
        "there is no backend called 'onxn'. Did you mean 'onnx'? Known: auto, onnx, torch."
    )


def test_options_that_are_not_for_graphs(graphs: Path) -> None:
    for option in ("filename", "family", "config"):
        assert refused(ConfigError, graphs, device="cpu", **{option: "x"}) == (
            f"{option} is for checkpoints of other projects, which torch runs; {str(graphs)!r} is "
            "to be a folder that `vqtok export` wrote"
        )
    assert refused(ConfigError, graphs, device="cpu", variant="fp16") == (
        f"variant='fp16' chooses weights of torch; {graphs} holds ONNX graphs, of which there is "
        "one kind"
    )
    assert refused(ConfigError, graphs, device="cpu", revision="main") == (
        f"revision='main' chooses a commit on the hub, but {str(graphs)!r} is the folder {graphs}"
    )
    assert refused(LoadError, graphs / "no", device="cpu", backend="onnx") == (
        f"there is no folder {graphs / 'no'}"
    )
    assert isinstance(load(graphs.parent, subfolder="graphs", device="cpu").codec, OnnxCodec)


def test_precisions(graphs: Path, weights: Path, tmp_path: Path) -> None:
    assert load(weights).precision == "ieee32"
    assert load(weights, precision="bf16").precision == "bf16"
    assert load(graphs, device="cpu", precision="ieee32").precision == "ieee32"
    assert refused(ConfigError, graphs, device="cpu", precision="fp16") == (
        f"the graphs in {graphs} compute in ieee32; precision='fp16' takes another export"
    )
    assert refused(ConfigError, graphs, device="cpu", precision="tf32") == (
        "precision='tf32' is arithmetic of GPUs; the CPU has none"
    )
    half = made.folder(
        tmp_path, precision="fp16", metadata={"encoder": {"vqtok.precision": "fp16"}}
    )
    assert load(half, device="cpu").precision == "fp16"
    assert refused(ConfigError, graphs, precision="fp61").startswith("there is no precision called")


def test_the_environment_names_providers(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQTOK_ONNX_PROVIDERS", "CPU")
    assert load(graphs).device == "cpu"
    monkeypatch.setenv("VQTOK_ONNX_PROVIDERS", "cpu,gpu")
    assert refused(ConfigError, graphs) == (
        "there is no provider called 'gpu'. Did you mean 'cpu'? Known: cpu, cuda, tensorrt."
    )


def test_a_backend_of_a_caller(weights: Path) -> None:
    class Mine:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def check(self, device: Any, precision: str | None) -> None:
            self.calls.append(("check", device, precision))

        def load(self, folder: Path, **options: Any) -> Parts:
            self.calls.append((folder, options))
            return TorchBackend().load(folder)

    mine = Mine()
    assert isinstance(mine, Backend)
    assert load(weights, backend=mine, device="abacus").codebook_size == 64
    options = {"device": "abacus", "precision": None, "variant": None}
    assert mine.calls == [("check", "abacus", None), (weights, options)]


def test_what_is_no_backend(weights: Path) -> None:
    methods = (
        "backend is one of auto, torch, onnx, or an object with the methods of "
        "`vqtok.backends.Backend`; got "
    )
    assert refused(ConfigError, weights, backend=None) == f"{methods}None"
    assert refused(ConfigError, weights, backend=3) == f"{methods}3"
    assert refused(ConfigError, weights, backend=OnnxBackend) == (
        "backend is the class OnnxBackend; an object of it runs, such as OnnxBackend()"
    )
    with pytest.raises(ConfigError) as error:
        check_backend(None)
    assert str(error.value) == "backend is a name here, one of auto, torch, onnx; got None"


def test_an_object_of_torch_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases and other projects' checkpoints go the same way."""
    asked: list[Any] = []

    def obtain(*place: Any) -> Any:
        asked.append(place)
        raise LoadError("not now")

    monkeypatch.setattr("vqtok.obtain.obtain", obtain)
    for backend in ("torch", TorchBackend()):
        options = {"filename": "x.ckpt", "family": "taming"}
        assert refused(LoadError, "llamagen-vq16", backend=backend, **options) == "not now"
    assert asked[0] == asked[1]


NO_TORCH = (
    "tokenizers run, but for ONNX graphs (backend='onnx'), with torch, which is not installed: "
    "pip install 'torch'"
)


def test_names_where_there_is_no_torch(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "vqtok.obtain", raising=False)
    for name, options in (
        (weights, {}),
        ("photo-tiny", {}),
        ("photo-tiny", {"device": "cpu"}),
        ("llamagen-vq16", {}),
        (tmp_path, {"filename": "x.ckpt"}),
        ("photo-tiny", {"backend": "torch"}),
        ("photo-tiny", {"backend": TorchBackend()}),
    ):
        assert refused(MissingExtraError, name, **options) == NO_TORCH
    assert refused(LoadError, "photo-tny").startswith(
        "there is no tokenizer called 'photo-tny', neither in the package nor as a folder. Did you "
        "mean 'photo-tiny'? "
    )
    assert refused(LoadError, "/no/such/folder") == "there is no folder /no/such/folder"
    assert refused(LoadError, weights, subfolder="x") == f"there is no folder {weights / 'x'}"


def test_graphs_on_the_hub_where_there_is_no_torch(
    graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found = Resolved(graphs, "org/graphs", "c", "onnx")
    monkeypatch.setattr("vqtok.backends.resolve", lambda *place: found)
    assert isinstance(load("org/graphs").codec, OnnxCodec)


def test_a_device_that_graphs_alone_have(monkeypatch: pytest.MonkeyPatch, graphs: Path) -> None:
    """Nobody knows what a repository holds before it is fetched."""
    asked: list[Any] = []
    monkeypatch.setattr(OnnxBackend, "check", lambda self, *given: asked.append(given))
    found = Resolved(graphs, "org/graphs", "c", "onnx")
    monkeypatch.setattr("vqtok.obtain.obtain", lambda *place: found)
    with pytest.raises(ConfigError) as error:
        load("org/graphs", device="cuda:70")
    assert asked == [("cuda:70", None)]
    assert "torch" not in str(error.value).lower()  # it was the backend that was asked


def test_weights_and_graphs_are_not_saved_over_each_other(
    graphs: Path, weights: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "torch", tmp_path / "onnx"
    shutil.copytree(weights, here)
    shutil.copytree(graphs, there)
    kinds = ("weights for torch", "ONNX graphs")
    for tok, place, (holds, has) in (
        (load(graphs, device="cpu"), here, kinds),
        (load(weights), there, kinds[::-1]),
    ):
        before = {file.name: file.read_bytes() for file in place.iterdir()}
        with pytest.raises(LoadError) as error:
            tok.save_pretrained(place)
        assert str(error.value) == (
            f"{place} holds a tokenizer with {holds}, and this one has {has}; save it to another "
            "folder"
        )
        assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    load(weights).save_pretrained(here)
    load(graphs, device="cpu").save_pretrained(there)


def test_names_lead_to_backends() -> None:
    from vqtok.backends import _named

    assert all(isinstance(_named(name), Backend) for name in BACKENDS)


def test_parts_that_do_not_belong_together() -> None:
    traits = Traits.of(tiny.model())
    for settings, named, sides in (
        (Preprocess(policy="native", stride=6), "stride=6", "6 x 6"),
        (Preprocess(size=(16, 18)), "size=(16, 18)", "16 x 18"),
    ):
        with pytest.raises(MismatchError) as error:
            check_parts(traits, settings, VisualVocab(64))
        assert str(error.value) == (
            f"preprocessing with {named} does not fit the model: the sides of a picture are "
            f"multiples of 4 x 4; got {sides}"
        )
    with pytest.raises(MismatchError) as order:
        check_parts(traits, Preprocess(size=16), VisualVocab(64, order="sequence"))
    assert str(order.value) == (
        "the codes of this model are a grid, and the vocabulary has order='sequence'; take "
        "'raster' or 'column'"
    )
    with pytest.raises(MismatchError) as other:
        check_parts(traits, Preprocess(size=16), VisualVocab(32, depth=2))
    assert str(other.value) == (
        "the vocabulary is for codebook_size=32 and depth=2, the model has codebook_size=64 and "
        "depth=0"
    )


def test_a_folder_of_parts_that_do_not_fit(tmp_path: Path) -> None:
    made.folder(tmp_path)
    file = tmp_path / "visual_tokenizer_config.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    stored["vocab"]["codebook_size"] = 32
    file.write_text(json.dumps(stored), encoding="utf-8")
    assert "the vocabulary is for codebook_size=32" in refused(
        MismatchError, tmp_path, device="cpu"
    )
