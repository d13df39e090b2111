from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import pixels
from checkpoints.samples import enhancing_vit, ldm
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
    assert found.notes[-1] == (
        "The file does not tell how the gradient crossed the codebook; training goes on by the "
        "rotation. Ids and pixels do not depend on it."
    )


@pytest.mark.parametrize(("name", "other"), [("ldm", ldm), ("enhancing_vit", enhancing_vit)])
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
