"""Files of no family that are well known all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints.pickles import save
from checkpoints.samples.ldm import sample as ldm
from diffusers import AutoencoderKL
from torch import Tensor

from vqtok import VisualTokenizer
from vqtok.checkpoints.strangers import stranger
from vqtok.errors import LoadError

CONTINUOUS = (
    "is a continuous autoencoder (AutoencoderKL of diffusers, or a KL first stage of latent "
    "diffusion): its latents are a mean and a variance, and it has no codes to make a tokenizer of"
)


def diffusers_kl(**settings: bool) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(block_out_channels=(32,), layers_per_block=1, **settings)


def ldm_kl() -> dict[str, Tensor]:
    """kl-f8 as latent diffusion writes it: the encoder's end, and quant_conv, are twice as wide."""
    found = {key: tensor for key, tensor in ldm()[0].items() if not key.startswith("quantize.")}
    for key in ("encoder.conv_out.weight", "encoder.conv_out.bias", "quant_conv.bias"):
        found[key] = torch.cat([found[key]] * 2)
    found["quant_conv.weight"] = found["quant_conv.weight"].repeat(2, 2, 1, 1)
    return found


def refused(path: Path) -> str:
    with pytest.raises(LoadError) as error:
        VisualTokenizer.from_pretrained(path)
    return str(error.value)


@pytest.mark.parametrize("projected", [True, False])
def test_a_continuous_autoencoder_of_diffusers(tmp_path: Path, projected: bool) -> None:
    model = diffusers_kl(use_quant_conv=projected, use_post_quant_conv=projected)
    model.save_pretrained(tmp_path / "vae")
    file = tmp_path / "kl.safetensors"
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").rename(file)
    assert refused(file) == f"{file} {CONTINUOUS}"
    assert refused(tmp_path / "vae") == (
        f"{tmp_path / 'vae'} holds AutoencoderKL, a continuous autoencoder: its latents are a mean "
        "and a variance, and it has no codes to make a tokenizer of"
    )


def test_a_continuous_first_stage_alone_and_in_a_whole_model(tmp_path: Path) -> None:
    alone = save({"state_dict": ldm_kl()}, tmp_path / "kl-f8.ckpt")
    assert refused(alone) == f"{alone} {CONTINUOUS}"
    inside = {f"first_stage_model.{key}": tensor for key, tensor in ldm_kl().items()}
    around = {"cond_stage_model.embedding.weight": torch.ones(2, 2)}
    whole = save({"state_dict": inside | around}, tmp_path / "sd.ckpt")
    assert refused(whole) == f"{whole} {CONTINUOUS}"


def test_what_is_none() -> None:
    tensors = ldm_kl()
    assert stranger(tensors | {"discriminator.embedding": torch.ones(1)}) == CONTINUOUS
    assert stranger(tensors | {"quantize.proj.weight": torch.ones(1)}) is None
    assert stranger(tensors | {"encoder.conv_out.weight": torch.ones(3, 8, 3, 3)}) is None
    assert stranger(tensors | {"decoder.conv_in.weight": torch.ones(3)}) is None
    assert stranger(ldm()[0]) is None
    assert stranger({}) is None
