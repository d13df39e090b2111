"""Equal to taming-transformers' own modules, with weights carried over by name."""

from __future__ import annotations

import re

import pytest
import torch
from autoencoders.paper import SETTINGS, on_meta
from tiny import model
from torch import Tensor

from vqtok import AutoencoderVQ

taming = pytest.importorskip(
    "taming.modules.diffusionmodules.model",
    reason="taming-transformers-rom1504 is not installed (dev.py setup does that)",
)
quantize = pytest.importorskip("taming.modules.vqvae.quantize")

CHANNELS = (32, 32, 64)  # taming's norms have 32 groups


def name_there(name: str, levels: int) -> str:
    """A weight's name in diffusers' encoder or decoder -> its name in taming's."""
    for ours, theirs in (
        (r"down_blocks\.(\d)\.resnets", r"down.\1.block"),
        (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
        (r"up_blocks\.(\d)\.upsamplers\.0", r"up.\1.upsample"),
        (r"up_blocks\.(\d)\.resnets", r"up.\1.block"),
        (r"mid_block\.resnets\.0", "mid.block_1"),
        (r"mid_block\.resnets\.1", "mid.block_2"),
        (r"mid_block\.attentions\.0", "mid.attn_1"),
        (r"(down|up)_blocks\.(\d)\.attentions", r"\1.\2.attn"),
        (r"(attn[_.]\d)\.group_norm", r"\1.norm"),
        (r"(attn[_.]\d)\.to_([qkv])", r"\1.\2"),
        (r"(attn[_.]\d)\.to_out\.0", r"\1.proj_out"),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
    ):
        name = re.sub(ours, theirs, name)
    # taming counts its up blocks from the finest.
    return re.sub(r"up\.(\d)", lambda found: f"up.{levels - 1 - int(found[1])}", name)


def carry(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    there = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        to = there.pop(name_there(name, len(CHANNELS)))
        to.data = weight.data.view_as(to)
    assert not there


@pytest.fixture(params=[False, True], ids=["mid attention", "attention at the last level"])
def pair(request: pytest.FixtureRequest) -> tuple[AutoencoderVQ, torch.nn.ModuleDict]:
    kind = "Attn" if request.param else ""
    ours = model(
        down_block_types=("DownEncoderBlock2D",) * 2 + (f"{kind}DownEncoderBlock2D",),
        up_block_types=(f"{kind}UpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 2,
        block_out_channels=CHANNELS,
        norm_num_groups=32,
        mid_block_add_attention=True,
    )
    settings = {
        "ch": 32,
        "out_ch": 3,
        "ch_mult": [1, 1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [8] if request.param else [],
        "in_channels": 3,
        "resolution": 32,
        "z_channels": 4,
    }
    theirs = torch.nn.ModuleDict(
        {
            "encoder": taming.Encoder(**settings, double_z=False),
            "decoder": taming.Decoder(**settings),
            "quantize": quantize.VectorQuantizer2(64, 4, beta=0.25, sane_index_shape=True),
        }
    ).eval()
    for part in ("encoder", "decoder"):
        for name, weight in getattr(ours, part).named_parameters():
            # Norms that do nothing would hide a mix-up.
            torch.nn.init.normal_(weight, std=0.5 if "norm" in name else 0.2)
        carry(getattr(ours, part), theirs[part])
    theirs["quantize"].embedding.weight.data = ours.quantize.embedding.weight.data
    return ours, theirs


@torch.no_grad()
def test_the_same_numbers(pair: tuple[AutoencoderVQ, torch.nn.ModuleDict], signed: Tensor) -> None:
    ours, theirs = pair
    latents = ours.encoder(signed)
    there = theirs["encoder"](signed)
    assert (latents - there).abs().max() <= 1e-5 * there.abs().max()
    quantized, loss, (_, _, ids) = theirs["quantize"](there)
    mine = ours.quantize(there)
    assert len(ids.unique()) >= 10
    assert torch.equal(mine.codes, ids)
    assert (mine.z - quantized).abs().max() <= 1e-5
    pixels = theirs["decoder"](mine.z)
    assert (ours.decoder(mine.z) - pixels).abs().max() <= 1e-5 * pixels.abs().max()
    assert (1.25 * mine.losses["commit"] - loss).abs() <= 1e-5 * loss


@pytest.mark.parametrize("name", SETTINGS)
def test_the_papers_settings_have_taming_s_weights(name: str) -> None:
    ours, setting = on_meta(name), SETTINGS[name]
    levels = len(setting.mult)
    settings = {
        "ch": 128,
        "out_ch": 3,
        "ch_mult": setting.mult,
        "num_res_blocks": 2,
        "attn_resolutions": [256 // 2 ** (levels - 1)] if setting.attention else [],
        "in_channels": 3,
        "resolution": 256,
        "z_channels": setting.latent_channels,
    }
    with torch.device("meta"):
        theirs = {
            "encoder": taming.Encoder(**settings, double_z=False),
            "decoder": taming.Decoder(**settings),
        }
    for part, networks in theirs.items():
        mine = {
            name_there(name, levels): list(weight.shape)
            for name, weight in getattr(ours, part).named_parameters()
        }
        # A 1 x 1 convolution there is a product with a matrix here.
        assert mine == {
            name: list(w.shape[:2])
            if re.search(r"attn.*\.(q|k|v|proj_out)\.w", name)
            else [*w.shape]
            for name, w in networks.named_parameters()
        }
