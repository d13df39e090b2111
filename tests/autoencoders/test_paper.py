"""The convolutional settings of the rotation trick's paper can be built, and are of their size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from autoencoders.paper import SETTINGS, on_meta

from vqtok import AutoencoderVQ

# Of one architecture: tokens along a side, parameters of taming's own Encoder and Decoder.
F16, F8, F4 = (
    (16, 29_298_176, 42_449_795),
    (32, 27_397_764, 40_253_955),
    (64, 22_337_411, 32_960_771),
)
SIZES = {
    "vqvae_euclid_1024": F16,
    "vqvae_cosine_1024": F16,
    "vqvae_euclid_8192": F4,
    "vqvae_cosine_8192": F4,
    "vqgan_taming_in": F16,
    "vqgan_taming_faces": F16,
    "vqgan_ldm_f4": F4,
    "vqgan_ldm_f8": F8,
}


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_at_full_size(name: str) -> None:
    ours, setting = on_meta(name), SETTINGS[name]
    side, *parameters = SIZES[name]
    latents = ours.encode(torch.zeros(1, 3, 256, 256, device="meta")).latents
    assert latents.shape == (1, setting.dim, side, side)
    assert ours.decode(latents, force_not_quantize=True).sample.shape == (1, 3, 256, 256)
    assert ours.quantize.embedding.weight.shape == (setting.codes, setting.dim)
    counts = [sum(p.numel() for p in part.parameters()) for part in (ours.encoder, ours.decoder)]
    assert counts == parameters


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_at_toy_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = SETTINGS[name].model(channels=4, groups=2).eval()
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    codes = ours.encode_codes(x)
    assert ours.decode_codes(codes).shape == x.shape
    ours.save_pretrained(tmp_path)
    assert torch.equal(AutoencoderVQ.from_pretrained(tmp_path).encode_codes(x), codes)
