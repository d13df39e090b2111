"""The verbs on a folder that `vqtok export` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import pictures, tokenizer, vqtok
from onnx_exports import exported

from vqtok.offline import open_tokens
from vqtok.offline.named import recall
from vqtok.offline.store import open_store
from vqtok.serve.load import Load
from vqtok.wanted import Wanted

CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def graphs() -> str:
    return str(exported().folder)


@pytest.fixture(scope="module")
def made(graphs: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ with a bad one, and tokens/ of it."""
    root = tmp_path_factory.mktemp("made")
    pictures(root / "photos", "a.png", "b.png", "c.png")
    (root / "photos/d.png").write_text("no picture")
    arguments = (root / "photos", root / "tokens", "--tokenizer", graphs, *CPU)
    done = vqtok("tokenize", *arguments)
    assert done.status == 0, done.err
    return root


def test_lines_are_those_of_torch(graphs: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.png", "b.png")
    ours = vqtok("encode", tmp_path / "in", "-t", tokenizer(), *CPU)
    theirs = vqtok("encode", tmp_path / "in", "-t", graphs, *CPU)
    assert (theirs.status, theirs.raw) == (0, ours.raw)
    (tmp_path / "codes.jsonl").write_bytes(theirs.raw)
    done = vqtok("decode", tmp_path / "codes.jsonl", "-t", graphs, "-o", tmp_path / "back", *CPU)
    assert done.status == 0, done.err
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a.png", "b.png"]


def test_pictures_there_and_back(graphs: str, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.png", "b.png")
    arguments = (tmp_path / "in", "--side-by-side", "-o", tmp_path / "out", *CPU)
    done = vqtok("reconstruct", *arguments, "-t", graphs)
    ours = vqtok("reconstruct", tmp_path / "in", "-t", tokenizer(), *CPU)
    assert (done.status, done.out.splitlines()[-1]) == (0, ours.out.splitlines()[-1])


def test_a_data_set_is_that_of_torch(made: Path, graphs: str, tmp_path: Path) -> None:
    done = vqtok("tokenize", made / "photos", tmp_path / "torch", "-t", tokenizer(), *CPU)
    assert done.status == 0, done.err
    ours, theirs = open_tokens(tmp_path / "torch"), open_tokens(made / "tokens")
    pairs = zip(ours, theirs, strict=True)
    assert all(np.array_equal(one.codes, other.codes) for one, other in pairs)
    assert theirs.plan.tokenizer.precision == "ieee32"
    assert ours.plan.tokenizer.fingerprint == theirs.plan.tokenizer.fingerprint
    origin = recall(open_store(str(made / "tokens")))
    assert origin is not None and origin.tokenizer is not None
    assert (origin.tokenizer.name, origin.tokenizer.backend) == (graphs, "auto")


def test_a_data_set_is_looked_at_again(made: Path, tmp_path: Path) -> None:
    done = vqtok("verify", made / "tokens", "--sample", "100%", *CPU)
    assert done.status == 0, done.err
    assert "3 of 3 rows made again: 3 equal" in done.out
    done = vqtok("inspect", made / "tokens", "-o", tmp_path / "sheet.png", *CPU)
    assert done.status == 0, done.err
    assert (tmp_path / "sheet.png").is_file()


def test_what_failed_is_tried_again(made: Path) -> None:
    pictures(made / "photos", "d.png")
    done = vqtok("retry-failed", made / "tokens", *CPU)
    assert done.status == 0, done.err
    assert len(open_tokens(made / "tokens")) == 4


def test_latents_need_torch(made: Path, graphs: str, tmp_path: Path) -> None:
    arguments = (made / "photos", tmp_path / "out", "-t", graphs, "--what", "latents", *CPU)
    done = vqtok("tokenize", *arguments)
    assert (done.status, done.err) == (
        2,
        "vqtok: what='latents' needs torch: this tokenizer runs on ONNX Runtime here, which gives "
        "codes but no latents\n",
    )


def test_another_precision_than_the_graphs(graphs: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    done = vqtok("encode", tmp_path, "-t", graphs, "--precision", "fp16", *CPU)
    assert (done.status, done.err) == (
        2,
        f"vqtok: the graphs in {graphs} compute in ieee32; precision='fp16' takes another export\n",
    )


def test_another_backend_than_the_folder_s(graphs: str, tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    done = vqtok("encode", tmp_path, "-t", graphs, "--backend", "torch")
    assert (done.status, done.err) == (
        2,
        f"vqtok: {graphs} holds ONNX graphs and no weights for torch; backend='onnx' runs them\n",
    )
    done = vqtok("encode", tmp_path, "-t", graphs, "--backend", "onxx")
    known = "Known: auto, onnx, torch.\n"
    assert (done.status, done.err) == (
        2,
        f"vqtok: there is no backend called 'onxx'. Did you mean 'onnx'? {known}",
    )


def test_the_cpu_stands_over_the_environment(graphs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server looks at its graphs there, whatever its workers are to run on."""
    monkeypatch.setenv("VQTOK_ONNX_PROVIDERS", "tensorrt")
    facts = Load("graphs", Wanted(name=graphs)).describe()
    assert (facts.check, facts.traits.latent_channels) == ("exact", None)


# --- info -----------------------------------------------------------------------------------------


def test_what_is_known_of_graphs(graphs: str) -> None:
    done = vqtok("info", graphs, "--json", *CPU)
    assert done.status == 0, done.err
    facts = json.loads(done.out)
    ours = json.loads(vqtok("info", tokenizer(), "--json", *CPU).out)
    same = ("stride", "pixels", "grid", "codes", "dimensions", "codes_per_token", "bits_per_pixel")
    for name in (*same, "compression", "preprocessing", "vocabulary", "fingerprint"):
        assert facts[name] == ours[name]
    assert facts["family"] == "onnx"
    assert facts["runs_on"].startswith("ONNX Runtime 1.") and "CPU" in facts["runs_on"]
    assert (facts["precision"], facts["decoder_precision"]) == ("ieee32", "ieee32")
    files = {name: (Path(graphs) / name).stat().st_size for name in facts["graphs"]}
    assert facts["graphs"] == files and sorted(files) == ["decoder.onnx", "encoder.onnx"]
    assert facts["against_torch"]["ids"] == "all equal"
    behaviour = facts["behaviour_here"]
    assert (behaviour["verdict"], behaviour["latent_error"]) == ("exact", None)


def test_a_table_of_graphs(graphs: str) -> None:
    lines = vqtok("info", graphs, *CPU).out.splitlines()
    assert [line.split()[-1] for line in lines if "encoder.onnx" in line] == ["kB"]
    assert not [line for line in lines if "None" in line or "latent error" in line]


def test_precisions_are_torch_s(graphs: str) -> None:
    done = vqtok("info", graphs, "--precision", "all", *CPU)
    assert (done.status, done.err) == (
        2,
        "vqtok: --precision compares what torch computes, and this tokenizer runs on ONNX Runtime "
        "in ieee32\n",
    )
