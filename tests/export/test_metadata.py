from __future__ import annotations

import json
from dataclasses import replace

import onnx
import onnx_ir
import pytest
from onnx_toys import bare, model_of, tokenizer
from quantizers.cases import CASES

from vqtok.export.metadata import ROLES, Role, describe, metadata_of, sizes_of
from vqtok.export.settings import ExportSettings
from vqtok.preprocess import Preprocess
from vqtok.traits import Traits
from vqtok.types import Fingerprint

PICTURES = Traits(codebook_size=16, depth=0, axes=2, stride=(8, 8))
CLIPS = Traits(codebook_size=16, depth=0, axes=3, stride=(4, 8, 8), window=16)
CAUSAL = replace(CLIPS, window=None, causal=True)


@pytest.mark.parametrize("role", ROLES)
def test_what_a_graph_says(role: Role) -> None:
    tok = tokenizer(bare(CASES["vector"]))
    said = metadata_of(tok, role, ExportSettings(decoder_dtype="fp16"), None)
    read = {name.removeprefix("vqtok."): value for name, value in said.items()}
    assert all(name.startswith("vqtok.") and type(said[name]) is str for name in said)
    assert Fingerprint.from_dict(json.loads(read.pop("fingerprint"))) == tok.fingerprint
    assert Preprocess.from_config(json.loads(read.pop("preprocess"))) == tok.settings
    assert Traits.from_dict(json.loads(read.pop("traits"))) == Traits.of(tok.model)
    assert read == {
        "schema": "vqtok-onnx/1",
        "role": role,
        "codebook": tok.fingerprint.codebook,
        "precision": "ieee32" if role.endswith("encoder") else "fp16",
        "stride": "[4, 4]",
        "sizes": "sides are multiples of 4; batches are of 1 or more",
    }


@pytest.mark.parametrize(
    ("traits", "size", "alone", "words"),
    [
        (PICTURES, None, False, "sides are multiples of 8"),
        (
            replace(PICTURES, stride=(8, 4)),
            None,
            False,
            "heights are multiples of 8 and widths of 4",
        ),
        (PICTURES, (64, 32), False, "pixels are 64 x 32"),
        (CLIPS, None, False, "frames are a multiple of 4; sides are multiples of 8"),
        (
            CAUSAL,
            None,
            False,
            "frames are 1 + a multiple of 4, at least 5; sides are multiples of 8",
        ),
        (CAUSAL, None, True, "one frame; sides are multiples of 8"),
    ],
)
def test_sizes(traits: Traits, size: tuple[int, int] | None, alone: bool, words: str) -> None:
    assert sizes_of(traits, size, alone=alone) == words


def test_the_only_size() -> None:
    tok = tokenizer(model_of("titok"))
    said = metadata_of(tok, "decoder", ExportSettings(), tok.model.only_size)
    assert said["vqtok.sizes"] == "pixels are 32 x 32; batches are of 1 or more"


def test_it_takes_the_place_of_what_the_exporter_says() -> None:
    text = "<ir_version: 10, opset_import: ['': 20]> made (float[n] x) => (float[n] y) {y = Abs(x)}"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    model.producer_name, model.producer_version = "pytorch", "2"
    parts = (model, model.graph, model.graph.node[0], model.graph.input[0])
    for part in parts:
        part.metadata_props.add(key="where", value="/home/somebody")
        part.doc_string = "of somebody"
    found = onnx_ir.from_proto(model)
    describe(found, "encoder", {"vqtok.role": "encoder"})
    made = onnx_ir.to_proto(found)
    assert {part.key: part.value for part in made.metadata_props} == {"vqtok.role": "encoder"}
    assert (made.producer_name, made.producer_version, made.graph.name) == ("vqtok", "", "encoder")
    assert b"somebody" not in made.SerializeToString()
