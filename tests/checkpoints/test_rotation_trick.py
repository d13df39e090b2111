from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import enhancing_vit, ldm, taming
from checkpoints.samples.rotation_trick import BOOK, KINDS, golden, sample
from torch import Tensor

from vqtok.checkpoints import FAMILIES, Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.rotation_trick import plan, recognises
from vqtok.checkpoints.wrappers import hoisted
from vqtok.errors import ConfigError, LoadError
from vqtok.preprocess import Preprocess


def planned(
    kind: str = "cosine_8", changes: dict[str, Tensor | None] | None = None, **settings: Any
) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample(kind)
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**said, **settings}, "20_model.pth"))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_authors_code_does(kind: str) -> None:
    model, theirs = built(planned(kind)), golden(kind)
    x = pixels(1, 3, 24, 32)
    latents = model.encode(x).latents
    assert agree(latents, theirs["latents"])
    codes = model.encode_codes(x)
    assert same_ids(codes, theirs["codes"])
    ours = model.decode(latents).sample
    assert agree((ours + 1) / 2, theirs["pixels"])
    assert agree(model.decode_codes(codes), (2 * theirs["pixels"] - 1).clamp(-1, 1))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_the_running_means(kind: str) -> None:
    """One step of ours is one of the library that they took a copy of."""
    from vector_quantize_pytorch import VectorQuantize

    found, book = planned(kind), golden(kind)
    model = built(found).train()
    count, dim = book["embed"].shape[1:]
    theirs = VectorQuantize(
        dim, codebook_size=count, use_cosine_sim="cosine" in kind, accept_image_fmap=True
    )
    own = {name: book[name] for name in BOOK} | {"initted": book["initted"].squeeze()}
    theirs.load_state_dict({f"_codebook.{name}": tensor for name, tensor in own.items()})
    z = torch.randn(2, dim, 4, 4)
    out = model.quantize(z)
    model.quantize.step(out.sums)
    theirs(z)
    assert model.quantize.means_agree()
    torch.testing.assert_close(model.quantize.embedding.weight, theirs._codebook.embed[0])
    torch.testing.assert_close(model.quantize.count, theirs._codebook.cluster_size[0])
    torch.testing.assert_close(model.quantize.total, theirs._codebook.embed_avg[0])
    assert not torch.allclose(theirs._codebook.embed, book["embed"], atol=1e-3)


def test_what_is_planned() -> None:
    found = planned()
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 6,
        "block_out_channels": (32, 32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 2 + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 2,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "sample_size": 256,
        "num_vq_embeddings": 48,
        "vq_embed_dim": 4,
        "pixel_mean": (0.4815, 0.4578, 0.4082),
        "pixel_std": (0.2686, 0.2613, 0.2758),
        "pre_quant_norm": "layer",
        "quantizer": "vector",
        "quantizer_args": {
            "decay": 0.8,
            "dead_codes": "off",
            "start": "kaiming",
            "commitment_weight": 1.0,
            "use_cosine_sim": True,
        },
        "estimator": "rotation",
        "estimator_args": {"strict": True},
    }
    assert found.preprocess == Preprocess(size=256, stride=4)
    assert found.dropped == {"vq._codebook.initted": "codes are started"}
    assert len(found.notes) == 1


def test_the_norm_and_the_projections_are_where_the_source_has_them() -> None:
    assert "pre_quant_norm" not in planned("euclidean_8").settings
    alike = planned("cosine_4")
    assert "pre_quant_norm" not in alike.settings
    assert torch.equal(alike.weights["quant_conv.weight"][:, :, 0, 0], torch.eye(3))
    assert not alike.weights["post_quant_conv.bias"].any()
    assert alike.notes[-1] == (
        "The source has no projection around the codes where latents are as wide as they are; here "
        "it is the identity, which training moves."
    )


def projections(dim: int, norm: bool) -> dict[str, Tensor]:
    torch.manual_seed(0)
    starts = ("pre_quant_proj.0.", "post_quant_proj.")
    found = {
        start + part: torch.randn(shape)
        for start in starts
        for part, shape in (("weight", (dim, dim)), ("bias", (dim,)))
    }
    own = {f"pre_quant_proj.1.{part}": torch.randn(dim) for part in ("weight", "bias")}
    return found | (own if norm else {})


@pytest.mark.parametrize("norm", [True, False])
def test_projections_in_the_file_are_loaded_where_widths_are_equal(norm: bool) -> None:
    theirs = projections(3, norm)
    found = planned("cosine_4", dict(theirs))
    inward = "quant_conv.project." if norm else "quant_conv."
    weights = found.weights
    assert ("pre_quant_norm" in found.settings) == norm
    assert torch.equal(weights[inward + "weight"][:, :, 0, 0], theirs["pre_quant_proj.0.weight"])
    assert torch.equal(weights[inward + "bias"], theirs["pre_quant_proj.0.bias"])
    assert torch.equal(weights["post_quant_conv.bias"], theirs["post_quant_proj.bias"])
    if norm:
        assert torch.equal(weights["quant_conv.norm.bias"], theirs["pre_quant_proj.1.bias"])
    assert len(found.notes) == 1
    built(found)


def test_codes_that_died_have_no_length() -> None:
    """As after some hundred steps in which nothing took them."""
    tensors, said = sample()
    lengths = torch.ones(48)
    lengths[:40] = torch.tensor([0.0, 1e-30, 1e-7, 5e-3]).repeat(10)
    names = ("embed", "embed_avg")
    changed = {
        f"vq._codebook.{n}": tensors[f"vq._codebook.{n}"] * lengths[None, :, None] for n in names
    }
    found = planned(changes=dict(changed))
    assert found.settings["quantizer_args"]["use_cosine_sim"]
    assert found.notes[-1] == (
        "40 of 48 codes died in training and have a length of 0. No vector finds them here, and in "
        "the source those more than 90 degrees off all others."
    )
    book = built(found).quantize
    assert not book.embedding.table()[:40].any()
    assert (book.encode(torch.randn(2, 4, 8, 8)) >= 40).all()
    assert torch.equal(book.embedding.weight[40:], tensors["vq._codebook.embed"][0, 40:])
    assert book.means_agree()
    del said["codebook"]
    assert "use_cosine_sim" in plan(Foreign(tensors | changed, said, "")).settings["quantizer_args"]


@pytest.mark.parametrize("length", [0.5, 0.98])
def test_one_code_of_another_length_is_no_direction(length: float) -> None:
    tensors, _ = sample()
    codes = tensors["vq._codebook.embed"].clone()
    codes[0, 3] *= length
    found = plan(Foreign({**tensors, "vq._codebook.embed": codes}, {}, "20_model.pth"))
    assert "use_cosine_sim" not in found.settings["quantizer_args"]


def test_codes_that_all_died_are_no_directions() -> None:
    tensors, _ = sample()
    codes = torch.zeros(1, 48, 4)
    found = plan(Foreign({**tensors, "vq._codebook.embed": codes}, {}, "20_model.pth"))
    assert "use_cosine_sim" not in found.settings["quantizer_args"]


def test_codes_themselves_tell_how_they_are_compared() -> None:
    for kind in KINDS:
        tensors, _ = sample(kind)
        args = plan(Foreign(tensors, {}, "20_model.pth")).settings["quantizer_args"]
        assert args.get("use_cosine_sim", False) == ("cosine" in kind)


@pytest.mark.parametrize(
    ("name", "estimator"),
    [("vqvae", "ste"), ("vhp_vqvae", "hessian"), ("dfp_vqvae", "exact"), ("rot_vqvae", "rotation")],
)
def test_the_estimator_is_the_one_it_was_trained_with(name: str, estimator: str) -> None:
    found = planned(model=name)
    assert found.settings["estimator"] == estimator
    built(found)


def test_a_file_without_arguments() -> None:
    tensors, _ = sample()
    found = plan(Foreign(tensors, {}, "20_model.pth"))
    assert found.settings["estimator"] == "rotation"
    assert found.settings["quantizer_args"]["commitment_weight"] == 1.0
    assert found.notes[-2:] == (
        "The file does not tell how the gradient crossed the codebook; training goes on by the "
        "rotation. Ids and pixels do not depend on it.",
        "Nothing tells how it was trained: commit_weight=1.0, as of the published ones. Training "
        "alone depends on that.",
    )
    told = plan(Foreign(tensors, {"commit_weight": 0.5}, "20_model.pth"))
    assert told.settings["quantizer_args"]["commitment_weight"] == 0.5
    assert told.notes[-1] == found.notes[-2]


@pytest.mark.parametrize(
    ("name", "other"), [("ldm", ldm), ("enhancing_vit", enhancing_vit), ("taming", taming)]
)
def test_tables_3_and_4_are_of_other_code_by_rotation(name: str, other: Any) -> None:
    tensors, said = other.sample()
    foreign = Foreign(tensors, hoisted(said), "last.ckpt")
    found, there = plan(foreign), FAMILIES[name].plan(foreign)
    assert found.settings == {
        **there.settings,
        "estimator": "rotation_radial_free",
        "estimator_args": {"strict": True},
    }
    assert found.notes == (
        *there.notes,
        "As the authors' code trained it, the gradient is rotated without its radial part: the "
        "estimator rotation_radial_free.",
    )
    built(found)


def test_of_nobody_else() -> None:
    with pytest.raises(LoadError) as error:
        plan(Foreign({"weight": torch.ones(1)}, {}, "other.pth"))
    assert str(error.value) == "other.pth is no checkpoint of the rotation trick's authors"


def test_recognised() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    assert not recognises({k: t for k, t in tensors.items() if "embed_avg" not in k})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"codebook": "euclidean"},
            "the settings say codebook='euclidean', and the codes in 20_model.pth are of length 1: "
            "they belong to another checkpoint",
        ),
        (
            {"model": "vqgan"},
            "20_model.pth was trained as model='vqgan'; known are dfp_vqvae, rot_vqvae, vhp_vqvae, "
            "vqvae",
        ),
        (
            {"model": ["a"]},
            "20_model.pth was trained as model=['a']; known are dfp_vqvae, rot_vqvae, vhp_vqvae, "
            "vqvae",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(**settings)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other": torch.ones(1)}, "20_model.pth holds 'other', which is no key of its family"),
        (
            {"vq._codebook.embed": torch.ones(2, 48, 4)},
            "vq._codebook.embed in 20_model.pth has the shape (1, K, D); got (2, 48, 4)",
        ),
        ({"post_quant_proj.bias": None}, "20_model.pth lacks 'post_quant_proj.bias'"),
        ({"pre_quant_proj.0.weight": None}, "20_model.pth lacks 'pre_quant_proj.0.weight'"),
        ({"pre_quant_proj.1.weight": None}, "20_model.pth lacks 'pre_quant_proj.1.weight'"),
        ({"pre_quant_proj.1.bias": None}, "20_model.pth lacks 'pre_quant_proj.1.bias'"),
        ({"vq._codebook.cluster_size": None}, "20_model.pth lacks 'vq._codebook.cluster_size'"),
    ],
)
def test_files_that_cannot_be(changes: dict[str, Tensor | None], message: str) -> None:
    with pytest.raises(LoadError) as error:
        planned(changes=changes)
    assert str(error.value) == message


@torch.no_grad()
def test_from_a_file(tmp_path: Path) -> None:
    """As DistributedDataParallel and their trainer write it."""
    tensors, said = sample("cosine_8")
    whole = {"model": {f"module.{k}": t for k, t in tensors.items()}, "epoch": 19}
    torch.save({**whole, "args": Namespace(**said)}, tmp_path / "19_model.pth")
    found = build(tmp_path / "19_model.pth")
    assert found.family == "rotation_trick"
    assert found.model.config.estimator == "rotation"
    codes = found.model.encode_codes(pixels(1, 3, 24, 32))
    assert same_ids(codes, golden("cosine_8")["codes"])
    again = found.model.encode_codes(found.model.decode_codes(codes))
    assert again.shape == codes.shape
