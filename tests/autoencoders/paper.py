"""The settings 1 to 8 of the rotation trick's paper, as `AutoencoderVQ` expresses them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from vqtok import AutoencoderVQ

CLIP = {
    "pixel_mean": (0.48145466, 0.4578275, 0.40821073),
    "pixel_std": (0.26862954, 0.26130258, 0.27577711),
}


class Setting(NamedTuple):
    """mult, attention at the last level or not, and what taming calls z, embed_dim and n_embed."""

    mult: tuple[int, ...]
    attention: bool
    latent_channels: int
    dim: int
    codes: int
    cosine: bool = False
    rest: dict[str, Any] | None = None

    def model(self, channels: int = 128, groups: int = 32) -> AutoencoderVQ:
        """At full size unless `channels` says otherwise; weights on the meta device are free."""
        levels = len(self.mult)
        kind = "Attn" if self.attention else ""
        return AutoencoderVQ(
            down_block_types=(
                *("DownEncoderBlock2D",) * (levels - 1),
                f"{kind}DownEncoderBlock2D",
            ),
            up_block_types=(f"{kind}UpDecoderBlock2D", *("UpDecoderBlock2D",) * (levels - 1)),
            block_out_channels=tuple(channels * factor for factor in self.mult),
            layers_per_block=2,
            norm_num_groups=groups,
            latent_channels=self.latent_channels,
            vq_embed_dim=self.dim,
            num_vq_embeddings=self.codes,
            sample_size=256,
            quantizer_args={"use_cosine_sim": self.cosine, "start": "kaiming"},
            **(self.rest or {}),
        )


F16, F4, F8 = (1, 1, 2, 2, 4), (1, 2, 4), (1, 2, 2, 4)
NORM = {"pre_quant_norm": "layer"}
SETTINGS = {
    "vqvae_euclid_1024": Setting(F16, True, 256, 32, 1024, rest=CLIP),
    "vqvae_cosine_1024": Setting(F16, True, 256, 32, 1024, True, {**CLIP, **NORM}),
    "vqvae_euclid_8192": Setting(F4, False, 3, 3, 8192, rest=CLIP),
    "vqvae_cosine_8192": Setting(F4, False, 3, 3, 8192, True, CLIP),
    "vqgan_taming_in": Setting(F16, True, 256, 256, 1024),
    "vqgan_taming_faces": Setting(F16, True, 256, 256, 1024),
    "vqgan_ldm_f4": Setting(F4, False, 3, 3, 8192),
    "vqgan_ldm_f8": Setting(F8, True, 4, 4, 16384),
}


def on_meta(name: str) -> AutoencoderVQ:
    with torch.device("meta"):
        return SETTINGS[name].model()
