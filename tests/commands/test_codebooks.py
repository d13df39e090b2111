"""What is said of a codebook's file, against the package that wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.samples.taming import sample as taming
from checkpoints.samples.vector_quantize_pytorch import trained
from safetensors.torch import save_file

from vqtok import VisualTokenizer
from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints.vector_quantize_pytorch import codebook, model_settings
from vqtok.commands.codebooks import describe
from vqtok.errors import ConfigError, LoadError

HEADS = {"heads": 2, "codebook_dim": 4, "separate_codebook_per_head": True}
RESIDUAL = {"kind": "ResidualVQ", "num_quantizers": 3}
PLAIN = {
    "quantizer": "vector",
    "tables": 1,
    "heads": 1,
    "layers": 1,
    "codes": 32,
    "dimensions": 8,
    "codes_per_token": 1,
    "compared_by": "distance",
    "moved_by": "average",
    "projections": {"in": "none", "out": "none"},
}
NARROW = {"dimensions": 4, "projections": {"in": "8 to 4", "out": "4 to 8"}}
TWO = {"quantizer": "grouped", "tables": 2, "heads": 2, "codes_per_token": 2, "dimensions": 4}
THREE = {"quantizer": "residual", "tables": 3, "layers": 3, "codes_per_token": 3}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "euclid": ({}, {}),
    "cosine": ({"use_cosine_sim": True}, {"compared_by": "direction"}),
    "learned": ({"learnable_codebook": True, "ema_update": False}, {"moved_by": "gradient"}),
    "narrow": ({"codebook_dim": 4}, NARROW),
    "normed": (
        {"codebook_dim": 4, "layernorm_after_project_in": True},
        {"dimensions": 4, "projections": {"in": "8 to 4, and a norm", "out": "4 to 8"}},
    ),
    "heads": (HEADS, TWO),
    "cosine heads": ({**HEADS, "use_cosine_sim": True}, {**TWO, "compared_by": "direction"}),
    "one table": (
        {"heads": 2, "codebook_dim": 3},
        {
            **TWO,
            "tables": 1,
            "dimensions": 3,
            "projections": {"in": "8 to 6", "out": "6 to 8"},
        },
    ),
    "residual": (RESIDUAL, THREE),
    "narrow residual": ({**RESIDUAL, "codebook_dim": 4}, {**THREE, **NARROW}),
    "shared residual": ({**RESIDUAL, "shared_codebook": True}, {**THREE, "tables": 1}),
}


def written(module: Any, file: Path, prefix: str = "") -> Path:
    state = {prefix + key: t.clone().contiguous() for key, t in module.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state, "step": 3}, file)
    return file


def said(file: Path, **options: Any) -> dict[str, Any]:
    found = describe(file, **options)
    assert found is not None
    assert json.loads(json.dumps(found)) == found
    return found


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", KINDS)
def test_what_it_says(tmp_path: Path, name: str, suffix: str) -> None:
    made, expected = KINDS[name]
    module = trained(**made)
    if name == "learned":  # as a step of its optimizer does
        module._codebook.embed.data += 0.1
    file = written(module, tmp_path / f"vq{suffix}")
    found = said(file)
    facts = {key: found[key] for key in PLAIN}
    assert facts == {**PLAIN, **expected}
    assert list(found) == [
        *("file", "family", "what", "licence"),
        *PLAIN,
        *("fingerprint", "notes"),
    ]
    assert (found["file"], found["family"]) == (str(file), "vector_quantize_pytorch")
    assert found["what"] == "a codebook of vector-quantize-pytorch"
    assert found["licence"] == "that of whoever trained it; the package's is MIT"
    tokens = module(torch.randn(3, 5, 8))[1].reshape(15, -1)
    assert tokens.shape[1] == found["codes_per_token"]


def test_notes(tmp_path: Path) -> None:
    call = "vqtok.checkpoints.vector_quantize_pytorch.codebook"
    file = written(trained(), tmp_path / "vq.pt")
    first, inside, shared = said(file)["notes"]
    assert first == (
        "It has no encoder and no decoder, so neither convert nor from_pretrained makes a "
        f"tokenizer of it; {call}('{file}') makes a quantizer, and model_settings there tells "
        "what a model that takes its codes is made with."
    )
    assert inside == (
        "Of a codebook inside a larger model, prefix says where: codebook(FILE, prefix='vq.')."
    )
    assert shared == (
        "Whether several heads share its table, nothing in it tells; heads=N says that they do."
    )
    assert said(written(trained(codebook_dim=4), file))["notes"] == [first, inside]


def test_inside_a_larger_model(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.encoder, module.vq = torch.nn.Linear(2, 3), trained(codebook_dim=4)
    file = written(module, tmp_path / "whole.pt")
    assert describe(file) is None
    found, alone = said(file, prefix="vq."), said(written(module.vq, tmp_path / "vq.pt"))
    assert found["fingerprint"] == alone["fingerprint"]
    assert f"codebook('{file}', prefix='vq.') makes a quantizer" in found["notes"][0]
    assert len(found["notes"]) == 1
    with pytest.raises(LoadError) as error:
        describe(file, prefix="a.")
    assert str(error.value) == (
        f"{file}: no key begins with 'a.'; codes of vector-quantize-pytorch are under 'vq.'"
    )
    with pytest.raises(LoadError) as error:
        VisualTokenizer.from_pretrained(file)
    assert str(error.value) == (
        f"{file} is of no family that is known, and holds a codebook of vector-quantize-pytorch "
        "under 'vq.': vqtok.checkpoints.vector_quantize_pytorch.codebook(FILE, prefix='vq.') makes "
        "a quantizer of that"
    )


def test_heads_that_nothing_tells(tmp_path: Path) -> None:
    module = trained(heads=2, codebook_dim=4)
    found = said(written(module, tmp_path / "vq.pt"), heads=2)
    assert (found["heads"], found["tables"], found["codes_per_token"]) == (2, 1, 2)
    assert f"codebook('{tmp_path}/vq.pt', heads=2) makes" in found["notes"][0]
    assert len(found["notes"]) == 2


def test_of_other_files_nothing(tmp_path: Path) -> None:
    file = tmp_path / "taming.ckpt"
    torch.save({"state_dict": taming()[0]}, file)
    assert describe(file) is None
    assert describe(tmp_path) is None
    assert describe(tmp_path / "gone.pt") is None


@pytest.mark.parametrize("name", KINDS)
def test_its_print_is_that_of_a_tokenizer_with_these_codes(tmp_path: Path, name: str) -> None:
    """And the state of the quantizer is one that such a model takes."""
    file = written(trained(**KINDS[name][0]), tmp_path / "vq.pt")
    quantizer = codebook(file)
    model = AutoencoderVQ(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        **model_settings(quantizer),
    )
    model.quantize.load_state_dict(quantizer.state_dict())
    tok = VisualTokenizer.from_model(model)
    assert said(file)["fingerprint"] == {"codebook": tok.fingerprint.codebook}
    tok.save_pretrained(tmp_path / "tok")
    again = VisualTokenizer.from_pretrained(tmp_path / "tok").model.quantize
    latents = torch.randn(2, quantizer.dim, 3, 3)
    assert torch.equal(again.encode(latents), quantizer.encode(latents))


def grouped() -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = trained(
        "GroupedResidualVQ", groups=2, num_quantizers=2
    ).state_dict()
    return state


def test_groups_of_layers_are_taken_one_by_one(tmp_path: Path) -> None:
    module = trained("GroupedResidualVQ", groups=2, num_quantizers=2)
    file = written(module, tmp_path / "vq.pt")
    found = said(file, prefix="rvqs.1.")
    assert (found["quantizer"], found["layers"], found["dimensions"]) == ("residual", 2, 4)
    x = torch.randn(6, 5, 4)
    ids = module.rvqs[1](x)[1]
    assert torch.equal(codebook(file, prefix="rvqs.1.").encode(x.movedim(-1, 1)), ids)


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: t for key, t in trained().state_dict().items() if not key.endswith(name)}


def changed(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**trained().state_dict(), f"_codebook.{name}": tensor}


@pytest.mark.parametrize(
    ("state", "kind", "message"),
    [
        (
            grouped,
            LoadError,
            "FILE: these are the codes of a GroupedResidualVQ, which vqtok has no quantizer for; a "
            "prefix that ends with 'rvqs.0.' takes the ResidualVQ of its first group",
        ),
        (
            lambda: without("embed_avg"),
            LoadError,
            "FILE: a table of a VectorQuantize lacks 'embed_avg'",
        ),
        (
            lambda: changed("embed", torch.ones(32, 8)),
            LoadError,
            "FILE: a table of a VectorQuantize holds 'embed' of shape (32, 8); it has 3 axes, each "
            "at least 1",
        ),
        (
            lambda: changed("cluster_size", torch.ones(32)),
            LoadError,
            "FILE: a table of a VectorQuantize holds 'cluster_size' of shape (32,); beside 'embed' "
            "of shape (1, 32, 8) it is (1, 32)",
        ),
        (
            lambda: changed("embed", torch.full((1, 32, 8), torch.nan)),
            LoadError,
            "FILE: a table of a VectorQuantize holds 'embed' that is not all finite numbers",
        ),
        (
            lambda: changed("initted", torch.tensor(False)),
            ConfigError,
            "FILE: these codes were never started (initted): the first batch was to do that",
        ),
        (
            lambda: trained().state_dict() | {"project_in.weight": torch.ones(8, 8)},
            LoadError,
            "FILE: project_in.* lacks 'bias'",
        ),
    ],
)
def test_files_that_are_wrong(
    tmp_path: Path,
    state: Callable[[], dict[str, torch.Tensor]],
    kind: type[Exception],
    message: str,
) -> None:
    file = tmp_path / "vq.pt"
    torch.save(state(), file)
    with pytest.raises(kind) as error:
        describe(file)
    assert str(error.value) == message.replace("FILE", str(file))


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "vq.pt"
    odd = {"project_in.weight": torch.ones(8), "project_in.bias": torch.ones(8)}
    torch.save(trained().state_dict() | odd, file)
    with pytest.raises(LoadError) as error:
        describe(file)
    assert str(error.value) == (
        f"{file} looks like a codebook of vector-quantize-pytorch, but its tensors do not fit "
        "together: ValueError: not enough values to unpack (expected 2, got 1)"
    )
