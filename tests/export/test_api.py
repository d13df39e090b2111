from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
import torch
from commandline import pictures
from onnx import numpy_helper
from onnx_exports import copied, exported
from safetensors import safe_open

from vqtok import VisualTokenizer
from vqtok.errors import ConfigError, InputError, LoadError, MismatchError
from vqtok.export import export, job
from vqtok.export.graphs import write_graphs
from vqtok.export.kinds import Kinds
from vqtok.preprocess import Preprocess
from vqtok.traits import Traits
from vqtok.types import Fingerprint


def test_what_is_in_a_folder() -> None:
    report, tok = exported(), tiny.tokenizer()
    folder = report.folder
    assert (
        sorted(os.listdir(folder))
        == sorted(report.files)
        == [
            "README.md",
            "config.json",
            "decoder.onnx",
            "encoder.onnx",
            "parity.json",
            "preprocessor_config.json",
            "probe.safetensors",
            "visual_tokenizer_config.json",
        ]
    )
    config = json.loads((folder / "config.json").read_text())
    assert config["schema"] == "vqtok-onnx/1"
    assert Fingerprint.from_dict(config["fingerprint"]) == tok.fingerprint
    assert Traits.from_dict(config["traits"]) == tok.codec.traits
    kinds = ("precision", "decoder_precision", "pixels", "codes")
    assert [config[name] for name in kinds] == ["ieee32", "ieee32", "uint8", "int64"]
    assert set(config["files"]) == {"encoder.onnx", "decoder.onnx"}
    assert Preprocess.load(folder) == tok.settings


def test_the_same_object_and_the_same_ids() -> None:
    tok = tiny.tokenizer()
    there = VisualTokenizer.from_pretrained(exported().folder, backend="onnx", device="cpu")
    picture = tiny.picture()
    assert there.encode(picture) == tok.encode(picture)
    assert (there.fingerprint, there.vocab) == (tok.fingerprint, tok.vocab)
    assert there.codec.verify().verdict == "exact"


def test_the_probe() -> None:
    tok = tiny.tokenizer()
    with safe_open(exported().folder / "probe.safetensors", framework="np") as stored:
        assert stored.metadata() == {"schema": "vqtok-onnx-probe/1"}
        found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    assert set(found) == {"pixels", "codes", "ties"}
    assert found["pixels"].dtype == np.uint8
    assert found["pixels"].shape[1:] == (*tok.model.probe_size(), 3)
    assert np.array_equal(found["codes"], tok.codec.encode(found["pixels"]).ids)
    assert found["ties"].shape == found["codes"].shape
    assert found["ties"].mean() < 0.05


def test_parity() -> None:
    report = exported()
    found = json.loads((report.folder / "parity.json").read_text())
    assert found == json.loads(json.dumps(report.parity))
    assert (found["schema"], found["faults"]) == ("vqtok-parity/1", [])
    assert found["verdict"] in ("exact", "near ties")
    assert found["pictures"] == {
        "from": "the samples of the package",
        "are": "pictures",
        "found": 4,
        "compared": 4,
        "rows": 12,
        "skipped": {},
    }
    runs = [(tuple(run["size"]), run["batch"]) for run in found["runs"]]
    assert runs == [(size, n) for size in ((16, 16), (12, 20)) for n in (1, 3, 8)]
    assert found["encoder"]["ids"] == 12 * (16 + 15)
    assert set(found["made_with"]) == {"vqtok", "torch", "onnx", "onnxscript", "numpy"}
    assert found["onnxruntime"]["provider"] == "CPUExecutionProvider"


def test_what_the_report_says() -> None:
    report = exported()
    said, seen = str(report).splitlines(), report.parity["codebook"]["seen"]
    assert 1 < seen <= 64
    words = [line.split("  ")[0] for line in said]
    assert words == ["decoder.onnx", "encoder.onnx", "compared", "ids", "pixels", "written"]
    assert said[2] == (
        "compared      4 pictures of the samples of the package, 12 with those turned over; sizes "
        f"16 x 16, 12 x 20; batches of 1, 3, 8; 372 ids, {seen} of 64 codes among them"
    )
    assert said[-1] == f"written       {report.folder}"


def refuses(error: type[Exception], out: Path, **options: Any) -> str:
    with pytest.raises(error) as found:
        export(options.pop("tok", "photo-tiny"), out, **options)
    assert not out.exists()
    return str(found.value)


def test_arithmetic_that_gives_other_ids(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert refuses(ConfigError, out, dtype="int8") == (
        "an int8 encoder gives other ids: 75 to 90 % of them were measured to change where the "
        "arithmetic is int8, and 4 % where the weights alone are, as they are here, so that it is "
        "another tokenizer. dtype='fp32' keeps them, 'fp16' most of them, and "
        "decoder_dtype='int8' makes the decoder small; accept_other_ids=True "
        "(--accept-other-ids) takes it all the same"
    )
    for options in ({}, {"accept_other_ids": True}):
        assert refuses(ConfigError, out, dtype="bf16", **options) == (
            "an encoder cannot be bf16: ONNX Runtime's CPU provider has no convolutions in it, so "
            "that nobody could check the graph; and 25 to 40 % of ids were measured to change "
            "under bf16. Take 'fp32' or 'fp16'"
        )
    assert refuses(ConfigError, out, decoder_dtype="bf16") == (
        "a decoder cannot be bf16: ONNX Runtime's CPU provider has no convolutions in it, so that "
        "nobody could check the graph. Take 'fp32' or 'fp16'"
    )
    assert Kinds.chosen("int8", None, accept_other_ids=True) == Kinds("int8", "fp32")
    assert Kinds.chosen("fp16", None, accept_other_ids=False) == Kinds("fp16", "fp16")


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert refuses(ConfigError, out, dtype="fp8") == "dtype='fp8' is not fp32 or fp16"
    said = refuses(ConfigError, out, decoder_dtype="fp8")
    assert said.startswith("decoder_dtype='fp8' is not fp32 or fp16")
    (tmp_path / "file").write_text("")
    said = refuses(LoadError, tmp_path / "file" / "in")
    assert said == f"{tmp_path / 'file'} is a file, so there can be no {tmp_path / 'file' / 'in'}"


def test_tokenizers_that_cannot_be_exported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    there = VisualTokenizer.from_pretrained(exported().folder, backend="onnx", device="cpu")
    assert refuses(InputError, out, tok=there) == (
        "ONNX graphs are made of a tokenizer that runs on torch; this one runs on OnnxCodec"
    )
    fresh = tiny.tokenizer(quantizer_args={"start": "data", "kmeans_iters": 2})
    assert refuses(InputError, out, tok=fresh) == (
        "the codebook of this tokenizer has not started, so its ids mean nothing: that takes 2 "
        "more calls of `step`, one after each optimizer step"
    )
    tok = tiny.tokenizer()
    before = tok.fingerprint
    with torch.no_grad():
        tok.model.quantize.embedding.weight += 1
    said = refuses(MismatchError, out, tok=tok)
    assert said.startswith("the model is vqtok-fp/1:")
    assert said.endswith(
        f" now and was {before} when this tokenizer was made; make another with "
        "`VisualTokenizer.from_model`"
    )


def test_graphs_that_are_not_the_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other weights, under the name of these."""

    def wrong(tok: VisualTokenizer, folder: Path, *rest: Any) -> list[Path]:
        made = copied(tok, folder, *rest)
        graph = onnx.load(made[0])
        weight = next(w for w in graph.graph.initializer if w.name.endswith("conv_in.weight"))
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, weight.name))
        onnx.save(graph, made[0])
        return made

    monkeypatch.setattr(job, "write_graphs", wrong)
    out = tmp_path / "out"
    photos = pictures(tmp_path / "photos", "a.png", "b.png")
    seen: list[tuple[str, int, int]] = []
    with pytest.raises(MismatchError) as error:
        export(
            tiny.tokenizer(),
            out,
            check=str(photos),
            keep_failed=True,
            progress=lambda *what: seen.append(what),
        )
    said = str(error.value)
    assert said.startswith("the graphs are refused: ")
    assert "of the ids that differ are no near ties: in '" in said
    assert sorted(os.listdir(tmp_path)) == ["out.failed", "photos"]
    parity: Mapping[str, Any] = json.loads((tmp_path / "out.failed" / "parity.json").read_text())
    assert parity["verdict"] == "refused"
    assert said == f"the graphs are refused: {'; '.join(parity['faults'])}"
    assert parity["pictures"]["from"] == "'photos'"
    assert [what for what, *_ in seen[:3]] == ["encoder.onnx", "decoder.onnx", "probe"]
    assert seen[3] == ("check", 0, 24)
    assert seen[-1] == ("check", 24, 24)


def test_rows_of_a_codebook_that_no_picture_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both halves, and found all the same."""
    tok = tiny.tokenizer()
    with torch.no_grad():  # so far away that no latent is near
        tok.model.quantize.embedding.weight[63] = 1e3
    tok = VisualTokenizer.from_model(tok.model, tok.settings)

    def wrong(*given: Any) -> list[Path]:
        made = write_graphs(*given)
        for path in made:
            graph = onnx.load(path)
            table = next(w for w in graph.graph.initializer if w.name.endswith(".codes"))
            rows = numpy_helper.to_array(table).copy()
            rows[63, 1] += 1
            table.CopyFrom(numpy_helper.from_array(rows, table.name))
            onnx.save(graph, path)
        return made

    monkeypatch.setattr(job, "write_graphs", wrong)
    assert refuses(MismatchError, tmp_path / "out", tok=tok) == (
        "the graphs are refused: encoder.onnx holds another "
        "model.quantize.embedding.search.codes than the model: the first of 1 numbers that differ "
        "is at (63, 1); decoder.onnx holds another model.quantize.embedding.codes than the model: "
        "the first of 1 numbers that differ is at (63, 1)"
    )


@pytest.mark.parametrize("count", [0, -1, 2.5, True])
def test_no_pictures_at_all(tmp_path: Path, count: Any) -> None:
    said = refuses(ConfigError, tmp_path / "out", check_count=count)
    assert said == f"check_count={count!r} is not a whole number, at least 1"


def test_options_that_there_are_not(tmp_path: Path) -> None:
    assert refuses(ConfigError, tmp_path / "out", dtyp="fp32") == (
        "an export has no option 'dtyp'. Did you mean 'dtype'? Known: accept_other_ids, check, "
        "check_count, codes, decoder_dtype, dtype, keep_failed, opset, overwrite, pixels."
    )
