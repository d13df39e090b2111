from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import VQModel
from tiny import model
from torch import Tensor

from vqtok import AutoencoderVQ
from vqtok.autoencoders.stock import defaults
from vqtok.errors import ConfigError, InputError, UnknownNameError


def stock(**changes: Any) -> VQModel:
    """A VQModel with attention, whose codes random pictures really use."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (8, 8, 16),
        "norm_num_groups": 4,
        "latent_channels": 4,
        "num_vq_embeddings": 64,
        "vq_embed_dim": 6,
    }
    made = VQModel(**{**settings, **changes}).eval()
    with torch.no_grad():
        latents = made.encode(torch.rand(1, 3, 64, 64) * 2 - 1).latents
    made.quantize.embedding.weight.data = latents[0].flatten(1).T[:64].contiguous()
    return made


@torch.no_grad()
def same(ours: AutoencoderVQ, theirs: VQModel, signed: Tensor) -> None:
    latents = theirs.encode(signed).latents
    ids = theirs.quantize(latents)[2][2].view(len(signed), *latents.shape[2:])
    assert len(ids.unique()) > 10
    assert torch.equal(ours.encode_codes(signed), ids)
    assert (ours.encode(signed).latents - latents).abs().max() <= 1e-5
    assert (ours(signed).sample - theirs(signed).sample).abs().max() <= 1e-5
    assert (ours.decode(latents).sample - theirs.decode(latents).sample).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm_type": "spatial", "block_out_channels": (32, 32, 32), "vq_embed_dim": None},
        {"mid_block_add_attention": False, "layers_per_block": 2, "act_fn": "relu"},
    ],
)
def test_a_vqmodel_and_back(changes: dict[str, Any], signed: Tensor) -> None:
    theirs = stock(**changes)
    ours = AutoencoderVQ.from_diffusers(theirs)
    same(ours, theirs, signed)
    with torch.no_grad():
        assert (ours(signed).commit_loss - theirs(signed).commit_loss).abs() <= 1e-6
    back = ours.to_diffusers()
    assert type(back) is VQModel
    assert all(back.config[name] == theirs.config[name] for name in defaults())
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(back.state_dict()[k], v) for k, v in theirs.state_dict().items())


def test_gradients_are_those_of_vqmodel(signed: Tensor) -> None:
    theirs = stock().train()
    ours = AutoencoderVQ.from_diffusers(theirs)
    grads = []
    for trained in (theirs, ours):
        out = trained(signed)
        (out.sample.square().mean() + out.commit_loss).backward()
        grads.append({name: weight.grad for name, weight in trained.named_parameters()})
    for name, grad in grads[0].items():
        assert torch.allclose(grads[1][name], grad, atol=1e-6, rtol=1e-4), name


def test_training_mode_and_dtype_come_along() -> None:
    theirs = stock().to(torch.float16).train()
    ours = AutoencoderVQ.from_diffusers(theirs)
    assert ours.training and ours.dtype == torch.float16
    assert ours.quantize.embedding.weight.dtype == torch.float32
    back = ours.to_diffusers()
    assert back.training and {w.dtype for w in back.parameters()} == {torch.float16}


def test_a_folder_that_vqmodel_wrote(
    tmp_path: Path, signed: Tensor, diffusers_log: list[str]
) -> None:
    theirs = stock()
    theirs.save_pretrained(tmp_path)
    ours = AutoencoderVQ.from_pretrained(tmp_path)
    assert not ours.training
    same(ours, theirs, signed)
    assert ours.config.scaling_factor == theirs.config.scaling_factor
    assert ours.config.estimator == "ste"
    assert diffusers_log == []


def test_an_old_vqmodel_folder_has_vqmodels_defaults(tmp_path: Path) -> None:
    stock().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for name in ("scaling_factor", "norm_type", "force_upcast"):
        del config[name]
    file.write_text(json.dumps(config))
    assert AutoencoderVQ.from_pretrained(tmp_path).config.scaling_factor == 0.18215


def test_settings_of_training_may_be_chosen_anew(tmp_path: Path) -> None:
    stock().save_pretrained(tmp_path)
    ours = AutoencoderVQ.from_pretrained(tmp_path, estimator="rotation")
    assert ours.quantize.estimator.name == "rotation"


def test_a_folder_that_we_wrote(tmp_path: Path, signed: Tensor) -> None:
    ours = model(mid_block_add_attention=True)
    ours.save_pretrained(tmp_path)
    same(ours, VQModel.from_pretrained(tmp_path), signed)


@pytest.mark.parametrize(
    ("changes", "obstacle"),
    [
        (
            {"quantizer_args": {"use_cosine_sim": True}},
            "codes are compared by direction (use_cosine_sim)",
        ),
        ({"pixel_mean": (0.0, 0.0, 0.0)}, "the networks take another pixel range than [-1, 1]"),
        (
            {"pre_quant_norm": "layer"},
            "latents are normalised before quantization (pre_quant_norm)",
        ),
        (
            {
                "quantizer": "fsq",
                "quantizer_args": {"levels": [5, 5, 5]},
                "latent_channels": 3,
                "num_vq_embeddings": 125,
                "pixel_mean": (0.0, 0.0, 0.0),
            },
            "the quantizer is 'fsq', not 'vector'; the networks take another pixel range than "
            "[-1, 1]",
        ),
    ],
)
def test_what_vqmodel_cannot_express(changes: dict[str, Any], obstacle: str) -> None:
    with pytest.raises(ConfigError) as error:
        model(**changes).to_diffusers()
    assert str(error.value) == f"diffusers' VQModel cannot express this model: {obstacle}"


def test_vqmodel_has_no_shift(signed: torch.Tensor) -> None:
    ours = model(shift_factor=0.5, scaling_factor=2.0)
    with pytest.warns(UserWarning) as warned:
        stock = ours.to_diffusers()
    assert str(warned[0].message) == (
        "VQModel has no shift_factor: whoever trains on its latents takes 0.5 off them first. Ids "
        "and pixels are the same"
    )
    assert stock.config.scaling_factor == 2.0
    same(ours, stock, signed)


def test_from_diffusers_takes_a_vqmodel() -> None:
    with pytest.raises(InputError) as error:
        AutoencoderVQ.from_diffusers(torch.nn.Linear(1, 1))
    assert str(error.value) == "from_diffusers takes a diffusers.VQModel; got Linear"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            UnknownNameError,
            {"quantizer": "vecto"},
            "there is no quantizer called 'vecto'. Did you mean 'vector'? Known: bsq, fsq, "
            "grouped, gumbel, ibq, lfq, multiscale, residual, simvq, vector.",
        ),
        (
            UnknownNameError,
            {"estimator": "rotate"},
            "there is no estimator called 'rotate'. Did you mean 'rotation'? Known: diveq, exact, "
            "hessian, reflection, rodrigues, rotation, rotation_no_scale, rotation_radial_free, "
            "scale_only, ste.",
        ),
        (
            ConfigError,
            {"quantizer_args": {"dead_code": "off"}},
            "the quantizer 'vector' has no setting 'dead_code'. Did you mean 'dead_codes'? Known: "
            "candidates_per_item, codebook_update, codebook_weight, commitment_weight, dead_codes, "
            "dead_share, decay, eps, kmeans_iters, legacy_beta, quantize_after, start, "
            "use_cosine_sim, zero_counts.",
        ),
        (
            ConfigError,
            {"quantizer_args": {"estimator": "ste"}},
            "'estimator' is no setting of a quantizer: quantizer_args={'estimator': 'ste'}",
        ),
        (
            ConfigError,
            {"quantizer": "residual"},
            "the quantizer 'residual': ResidualQuantizer.__init__() missing 1 required "
            "keyword-only argument: 'num_quantizers'",
        ),
        (
            ConfigError,
            {"block_out_channels": (8, 16)},
            "block_out_channels names 2 resolutions, so there are 2 down_block_types and "
            "up_block_types; got 3 and 3",
        ),
        (
            ConfigError,
            {"norm_num_groups": 3},
            "each of block_out_channels is a multiple of norm_num_groups=3; got 8",
        ),
        (ConfigError, {"norm_type": "batch"}, "norm_type is 'group' or 'spatial'; got 'batch'"),
        (
            ConfigError,
            {"norm_type": "spatial", "vq_embed_dim": 6},
            "with norm_type='spatial' the decoder's norms see the codes, so vq_embed_dim equals "
            "latent_channels; got 6 and 4",
        ),
        (
            ConfigError,
            {"norm_type": "spatial"},
            "with norm_type='spatial' each of block_out_channels is a multiple of 32; got 8",
        ),
        (
            ConfigError,
            {"pixel_mean": (0.5,)},
            "pixel_mean has a number for each of 3 channels; got [0.5]",
        ),
        (
            ConfigError,
            {"pixel_std": (1.0, 0.0, 1.0)},
            "pixel_std is positive; got [1.0, 0.0, 1.0]",
        ),
        (
            ConfigError,
            {"pixel_std": (1.0, 1.0, 1.0), "out_channels": 1},
            "pixel_mean and pixel_std hold for pixels in and out, so there are as many "
            "in_channels as out_channels; got 3 and 1",
        ),
    ],
)
def test_settings_that_cannot_be(
    kind: type[Exception], changes: dict[str, Any], message: str
) -> None:
    changes = {"quantizer_args": None, **changes}
    with pytest.raises(kind) as error:
        model(**changes)
    assert str(error.value) == message
