"""From a name to an engine, in whatever process."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx_folders as graphs
import pytest
import tiny
from safetensors.torch import load_file, save_file

from vqtok.errors import ConfigError, LoadError, MismatchError
from vqtok.preprocess import preprocess
from vqtok.serve.engine import Item
from vqtok.serve.load import Load
from vqtok.serve.slab import Op
from vqtok.wanted import Wanted


def wanted(name: object) -> Wanted:
    return Wanted(name=str(name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "tok"
    tiny.tokenizer().save_pretrained(place)
    return place


def test_an_engine_of_a_folder(folder: Path) -> None:
    tok = tiny.tokenizer()
    load = pickle.loads(pickle.dumps(Load("toy", wanted(folder), max_batch=4)))
    facts = load.describe()
    assert (facts.name, facts.tokenizer, facts.check) == ("toy", str(folder), "exact")
    assert (facts.fingerprint, facts.grid) == (tok.fingerprint, (4, 4))
    engine = load.of(facts)("cpu")
    assert engine.facts == facts
    pixels = preprocess(tiny.picture(), tok.settings)
    (found,) = engine.run(Op.ENCODE, [Item({"pixels": pixels})])
    assert np.array_equal(found["codes"], tok.codec.encode(pixels[None]).ids[0])


@pytest.mark.parametrize(
    ("size", "policy", "sides"),
    [(32, None, (32, 32)), ("24x32", "stretch", (24, 32)), ((8, 16), "pad", (8, 16))],
)
def test_other_preprocessing(
    folder: Path, size: int | str | tuple[int, int], policy: str | None, sides: tuple[int, int]
) -> None:
    facts = Load("toy", wanted(folder), size=size, policy=policy).describe()
    assert facts.preprocess.sides == sides
    assert facts.preprocess.policy == (policy or "center")
    assert facts.grid == (sides[0] // 4, sides[1] // 4)
    assert facts.fingerprint.codebook == tiny.tokenizer().fingerprint.codebook
    assert facts.fingerprint.preprocess != tiny.tokenizer().fingerprint.preprocess


def test_a_published_policy_brings_its_resize(folder: Path) -> None:
    facts = Load("toy", wanted(folder), size=16, policy="adm").describe()
    assert (facts.preprocess.policy, facts.preprocess.resize) == ("adm", "adm-box-bicubic")


def test_precision_and_padding(folder: Path) -> None:
    engine = Load("toy", wanted(folder), precision="bf16", padding="alone", max_batch=3)("cpu")
    assert engine.facts.precision == "bf16"
    pixels = np.zeros((16, 16, 3), np.uint8)
    assert len(engine.run(Op.ENCODE, [Item({"pixels": pixels})] * 4)) == 4


def test_what_is_another_tokenizer_by_now(folder: Path) -> None:
    load = Load("toy", wanted(folder))
    other = load.of(Load("toy", wanted(folder), size=32).describe())
    assert other.described is not None
    with pytest.raises(MismatchError) as error:
        other("cpu")
    assert str(error.value) == (
        f"'{folder}' was {other.described.fingerprint} when the server started, and is "
        f"{tiny.tokenizer().fingerprint} now; start it again"
    )


def test_what_computes_in_another_precision_by_now(tmp_path: Path) -> None:
    """Of a folder of graphs the precision is its own, and the API has told the one before."""
    live = graphs.folder(tmp_path / "live")
    load = Load("toy", wanted(live))
    load = load.of(load.describe())
    assert load("cpu").facts.precision == "ieee32"
    shutil.rmtree(live)
    graphs.folder(live, precision="fp16", metadata={"encoder": {"vqtok.precision": "fp16"}})
    with pytest.raises(MismatchError) as error:
        load("cpu")
    assert str(error.value) == (
        f"'{live}' was of precision ieee32 when the server started, and is of precision fp16 now; "
        "start it again"
    )


def test_tf32_is_described_where_there_is_no_gpu(folder: Path, tmp_path: Path) -> None:
    exported = graphs.folder(tmp_path / "graphs")
    for place in (folder, exported):
        facts = Load("toy", wanted(place), precision="tf32").describe()
        assert (facts.precision, facts.check) == ("tf32", "exact")
    with pytest.raises(ConfigError) as error:
        Load("toy", wanted(exported), precision="tf32")("cpu")
    assert str(error.value) == "precision='tf32' is arithmetic of GPUs; the CPU has none"


def test_what_computes_otherwise_is_not_served(tmp_path: Path) -> None:
    place = tmp_path / "tok"
    tiny.tokenizer().save_pretrained(place)
    probe = place / "probe.safetensors"
    tensors = load_file(probe)
    tensors["latents"] += 1
    save_file(tensors, probe, metadata={"schema": "vqtok-probe/1"})
    for start in (Load("toy", wanted(place)).describe, lambda: Load("toy", wanted(place))("cpu")):
        with pytest.raises(MismatchError) as error:
            start()
        assert str(error.value).startswith(
            f"the tokenizer in '{place}' does not compute here what it did where it was saved: "
            "refused"
        )


def test_names_and_settings_that_are_not(folder: Path) -> None:
    with pytest.raises(LoadError) as name:
        Load("toy", wanted("photo-tny")).describe()
    assert str(name.value).startswith("there is no tokenizer called 'photo-tny'")
    with pytest.raises(ConfigError) as size:
        Load("toy", wanted(folder), size="big").describe()
    assert str(size.value) == "size is a number, or HEIGHTxWIDTH such as 256x384; got 'big'"
    with pytest.raises(ConfigError) as precision:
        Load("toy", wanted(folder), precision="fp32")("cpu")
    assert str(precision.value).startswith("there is no precision called 'fp32'")
    with pytest.raises(ConfigError) as device:
        Load("toy", wanted(folder))("gpu")
    assert str(device.value).startswith("there is no device 'gpu' here: ")
