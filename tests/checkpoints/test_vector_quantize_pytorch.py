from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.samples.vector_quantize_pytorch import sample, trained
from torch import Tensor

from vqtok.autoencoders import AutoencoderVQ
from vqtok.checkpoints import Foreign
from vqtok.checkpoints.building import build
from vqtok.checkpoints.vector_quantize_pytorch import (
    codebook,
    model_settings,
    plan,
    projections,
    recognises,
    to_vector_quantize_pytorch,
)
from vqtok.errors import ConfigError, LoadError
from vqtok.quantizers import Quantizer
from vqtok.quantizers.fsq import FiniteScalarQuantizer
from vqtok.quantizers.grouped import GroupedQuantizer
from vqtok.quantizers.residual import ResidualQuantizer
from vqtok.quantizers.vector import VectorQuantizer

PLAIN: dict[str, Any] = {}
HEADS = {"heads": 2, "codebook_dim": 4, "separate_codebook_per_head": True}
RESIDUAL = {"kind": "ResidualVQ", "num_quantizers": 3}
KINDS = {
    "euclid": (PLAIN, VectorQuantizer),
    "cosine": ({"use_cosine_sim": True}, VectorQuantizer),
    "narrow": ({"codebook_dim": 4}, VectorQuantizer),
    "normed": ({"codebook_dim": 4, "layernorm_after_project_in": True}, VectorQuantizer),
    "learned": ({"learnable_codebook": True, "ema_update": False}, VectorQuantizer),
    "heads": (HEADS, GroupedQuantizer),
    "cosine heads": ({**HEADS, "use_cosine_sim": True}, GroupedQuantizer),
    "wide heads": ({**HEADS, "codebook_dim": 3}, GroupedQuantizer),
    "one table": ({"heads": 2, "codebook_dim": 3}, GroupedQuantizer),
    "residual": (RESIDUAL, ResidualQuantizer),
    "narrow residual": ({**RESIDUAL, "codebook_dim": 4}, ResidualQuantizer),
    "shared residual": ({**RESIDUAL, "shared_codebook": True}, ResidualQuantizer),
}


def both(name: str) -> tuple[Any, Quantizer]:
    theirs = trained(**KINDS[name][0])
    return theirs, codebook(theirs.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("name", KINDS)
def test_the_same_ids_and_vectors(name: str) -> None:
    theirs, ours = both(name)
    assert type(ours) is KINDS[name][1]
    inward, outward = projections(theirs.state_dict())
    x = torch.randn(40, 5, 8)
    quantized, ids, _ = theirs(x)
    codes = ours.encode(inward(x.movedim(-1, 1)))
    assert len(ids.unique()) >= 10
    assert torch.equal(codes, ids)
    vectors = outward(ours.decode(codes)).movedim(1, -1)
    assert (vectors - quantized).abs().max() <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in KINDS if "narrow" not in name])
def test_and_back_again(name: str) -> None:
    theirs, ours = both(name)
    inside = {k: t for k, t in theirs.state_dict().items() if "_codebook" in k}
    state = to_vector_quantize_pytorch(ours, prefix="vq.")
    assert list(state) == list(dict.fromkeys(state))
    if name == "one table":  # there are two now, and equal ones
        assert state["vq._codebook.embed"].shape == (2, 32, 3)
        return
    assert state.keys() == {f"vq.{key}" for key in inside}
    for key, tensor in inside.items():
        if name == "learned" and key.endswith(("embed_avg", "cluster_size")):
            continue  # nobody's: gradients move these codes
        torch.testing.assert_close(state[f"vq.{key}"], tensor)
    theirs.load_state_dict(theirs.state_dict() | {k[3:]: t for k, t in state.items()})


@pytest.mark.parametrize("name", ["euclid", "cosine", "heads"])
def test_training_goes_on(name: str) -> None:
    theirs, ours = both(name)
    x = torch.randn(16, 5, 8)
    theirs.train()(x)
    with torch.no_grad():
        ours.train().step(ours(x.movedim(-1, 1)).sums)
    state = to_vector_quantize_pytorch(ours)
    for key, tensor in theirs.state_dict().items():
        torch.testing.assert_close(state[key], tensor)


@torch.no_grad()
def test_a_model_around_projected_codes() -> None:
    """Its convolutions around the codes are that package's linear layers."""
    theirs = trained(codebook_dim=4)
    ours = codebook(theirs.state_dict())
    blocks = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    sizes = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 8}
    model = AutoencoderVQ(**blocks, **sizes, **model_settings(ours))
    model.quantize.load_state_dict(ours.state_dict())
    inward, outward = projections(theirs.state_dict())
    for layer, theirs_own in ((model.quant_conv, inward), (model.post_quant_conv, outward)):
        layer.load_state_dict(
            {"weight": theirs_own.weight[:, :, None, None], "bias": theirs_own.bias}
        )
    x = torch.randn(3, 8, 5, 5)
    quantized, ids, _ = theirs(x.flatten(2).mT)
    codes = model.quantize.encode(model.quant_conv(x))
    assert torch.equal(codes.flatten(1), ids)
    vectors = model.post_quant_conv(model.quantize.decode(codes))
    assert (vectors.flatten(2).mT - quantized).abs().max() <= 1e-5


def test_how_codes_are_moved() -> None:
    """Running means agree with the sums beside them; codes that gradients move do not."""
    means = trained()
    assert codebook(means.state_dict()).by_average
    means._codebook.embed.mul_(2)
    ours = codebook(means.state_dict())
    assert not ours.by_average and ours.embedding.weight.requires_grad
    assert codebook(means.state_dict(), codebook_update="ema").by_average
    assert (ours.decay, ours.dead_codes, ours.estimator.name) == (0.8, "off", "rotation")


@torch.no_grad()
@pytest.mark.parametrize("steps", [60, 200])
def test_codes_that_died_leave_the_others_directions(steps: int) -> None:
    """Of a few kinds of vectors, after steps without replacement of dead codes."""
    theirs = trained(use_cosine_sim=True, steps=0).train()
    kinds = torch.randn(6, 8)

    def vectors() -> Tensor:
        return kinds[torch.randint(6, (64, 4))] + 0.1 * torch.randn(64, 4, 8)

    for _ in range(steps):
        theirs(vectors())
    lengths = theirs._codebook.embed.norm(dim=-1)
    assert (lengths < 1e-2).any() == (steps == 200)
    ours = codebook(theirs.state_dict())
    assert ours.embedding.cosine and ours.by_average and ours.means_agree()
    x = vectors()
    assert torch.equal(ours.encode(x.movedim(-1, 1)), theirs.eval()(x)[1])
    dead = lengths[0] < 1e-2
    assert not ours.embedding.table()[dead].any() and not ours.total[dead].any()


def test_settings_win() -> None:
    state = trained(use_cosine_sim=True).state_dict()
    ours = codebook(state, use_cosine_sim=False, estimator="ste", decay=0.9)
    assert not ours.embedding.cosine
    assert (ours.decay, ours.estimator.name) == (0.9, "ste")
    started = codebook(state, start="data")
    assert not started.is_open()


def test_one_dimension_has_no_rotation() -> None:
    state = trained(codebook_dim=1).state_dict()
    assert codebook(state).estimator.name == "ste"


def test_in_a_larger_model_and_from_a_file(tmp_path: Path) -> None:
    state = trained(codebook_dim=4).state_dict()
    whole = {"encoder.weight": torch.ones(1), **{f"vq.{k}": t for k, t in state.items()}}
    torch.save({"state_dict": whole}, tmp_path / "model.pt")
    ours = codebook(tmp_path / "model.pt", prefix="vq.")
    assert torch.equal(ours.embedding.weight, state["_codebook.embed"][0])
    inward, _ = projections(tmp_path / "model.pt", prefix="vq.")
    assert torch.equal(inward.weight, state["project_in.weight"])


def test_recognised_and_refused(tmp_path: Path) -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    assert not recognises({**tensors, "encoder.weight": torch.ones(1)})
    torch.save(tensors, tmp_path / "vq.pt")
    with pytest.raises(ConfigError) as error:
        build(tmp_path / "vq.pt")
    said = (
        "is a codebook of vector-quantize-pytorch, without an encoder or a decoder, and so no "
        "tokenizer; vqtok.checkpoints.vector_quantize_pytorch.codebook makes a quantizer of it"
    )
    assert str(error.value) == f"{tmp_path / 'vq.pt'} {said}"
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {}, "vq.pt"))
    assert str(error.value) == f"vq.pt {said}"


def changed(**tensors: Tensor) -> dict[str, Tensor]:
    named = {f"_codebook.{name}": tensor for name, tensor in tensors.items()}
    return {**trained().state_dict(), **named}


def layers(**settings: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = trained("ResidualVQ", num_quantizers=2, **settings).state_dict()
    return state


@pytest.mark.parametrize(
    ("state", "settings", "message"),
    [
        (
            lambda: changed(initted=torch.tensor(False)),
            {},
            "these codes were never started (initted): the first batch was to do that",
        ),
        (
            lambda: layers(use_cosine_sim=True),
            {},
            "layers of codes compared by direction (use_cosine_sim) have no counterpart here: what "
            "is left over gets shorter, and codes of unit length do not",
        ),
        (
            lambda: {k: t[:, :16] if "1._" in k and t.ndim else t for k, t in layers().items()},
            {},
            "the layers of a residual quantizer are tables of one size here",
        ),
        (
            lambda: trained(**HEADS).state_dict(),
            {"heads": 3},
            "2 tables, one a head, are not those of heads=3",
        ),
        (
            layers,
            {"heads": 2},
            "the layers of a residual quantizer have one head each here; got heads=2",
        ),
    ],
)
def test_what_cannot_be(state: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        codebook(state(), **settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda: trained(affine_param=True).state_dict(),
            "'_codebook.batch_mean' is no key of a VectorQuantize or ResidualVQ that vqtok has a "
            "quantizer for; prefix says where in a larger model there is one",
        ),
        (
            lambda: trained("GroupedResidualVQ", groups=2, num_quantizers=2).state_dict(),
            "these are the codes of a GroupedResidualVQ, which vqtok has no quantizer for; a "
            "prefix that ends with 'rvqs.0.' takes the ResidualVQ of its first group",
        ),
        (
            lambda: {**changed(), "project_in.weight": torch.ones(4, 8)},
            "project_in gives vectors of 4, and codes have 8 dimensions",
        ),
        (dict, "there is no '_codebook.embed' for each layer of a VectorQuantize"),
        (
            lambda: {k: t for k, t in layers().items() if "layers.0" not in k},
            "there is no '_codebook.embed' for each layer of a VectorQuantize",
        ),
        (
            lambda: {k: t for k, t in changed().items() if "avg" not in k},
            "a table of a VectorQuantize lacks 'embed_avg'",
        ),
    ],
)
def test_keys_that_cannot_be(state: Any, message: str) -> None:
    with pytest.raises(LoadError) as error:
        codebook(state())
    assert str(error.value) == message


def test_no_table_no_state() -> None:
    with pytest.raises(ConfigError) as error:
        to_vector_quantize_pytorch(FiniteScalarQuantizer(3, 64, levels=(4, 4, 4)))
    assert str(error.value) == (
        "vector-quantize-pytorch's VectorQuantize and ResidualVQ have tables of codes, as "
        "'vector', 'grouped' and 'residual' have here; got a FiniteScalarQuantizer"
    )
