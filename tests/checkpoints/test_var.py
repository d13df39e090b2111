"""VAR's tokenizer against golden tensors of its own code (tests/golden/var.md)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints.built import agree, built, same_ids
from checkpoints.filled import filled, pixels
from checkpoints.samples.var import SCALES, sample, shapes
from golden.make_var import KINDS, latents
from torch import Tensor

from vqtok.autoencoders import AutoencoderBase, AutoencoderVQ
from vqtok.checkpoints import Foreign, Plan
from vqtok.checkpoints.building import build
from vqtok.checkpoints.var import plan, recognises
from vqtok.errors import CodesError, ConfigError, LoadError
from vqtok.preprocess import Preprocess
from vqtok.quantizers.multiscale import PUBLISHED_SCALES, MultiscaleQuantizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "var.npz"
CROPPED = (
    "The source resizes the short side to 1.125 times the size (Pillow's Lanczos) and cuts out the "
    "middle; here the largest square is resized to the size, by the same filter."
)

ASSUMED = (
    "Nothing tells quant_resi=0.5 and using_znorm=False, as the source has it by default. Ids "
    "depend on that."
)


@cache
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def planned(changes: dict[str, Tensor | None] | None = None, **settings: Any) -> Plan:
    """With some tensors in the place of the sample's; None takes one away."""
    tensors, said = sample()
    both = {**tensors, **(changes or {})}
    left = {key: tensor for key, tensor in both.items() if tensor is not None}
    return plan(Foreign(left, {**said, **settings}, "vae.pth"))


@cache
def model() -> AutoencoderBase:
    return built(planned())


@torch.no_grad()
def test_it_computes_what_the_reference_does() -> None:
    x, theirs = pixels(1, 3, 64, 64), golden()
    assert agree(model().encode(x).latents, theirs["latents"])
    codes = model().encode_codes(x)
    assert codes.shape == (1, 30)
    assert same_ids(codes, theirs["ids"])
    assert agree(model().decode_codes(codes)[..., ::2], theirs["pixels"])
    assert agree(model().quantize.var_inputs(codes), theirs["var_inputs"])


@torch.no_grad()
def test_a_picture_of_another_shape_has_its_own_scales() -> None:
    x = pixels(1, 3, 64, 96)
    codes = model().encode_codes(x)
    assert same_ids(codes, golden()["wide ids"])
    with pytest.raises(CodesError) as error:
        model().decode_codes(codes)
    assert str(error.value) == (
        "47 codes do not tell their grid, and are not the 30 of 4 x 4, which the scales "
        "[1, 2, 3, 4] are for: pass the grid (h, w) that they cover"
    )
    back = model().decode_codes(codes, grid=(4, 6))
    assert back.shape == x.shape
    assert model().encode_codes(back).shape == codes.shape


@pytest.mark.parametrize("kind", KINDS)
def test_the_quantizer_by_itself_and_as_it_is_trained(kind: str) -> None:
    scales, share, by_direction = KINDS[kind]
    ours = MultiscaleQuantizer(
        8,
        16,
        scales=scales,
        phis=share or len(scales),
        by_direction=by_direction,
        estimator="ste",
        codebook_update="gradient",
        commitment_weight=0.25,
        start="uniform",
    )
    ours.load_state_dict(quantizer_weights(share, len(ours.phi)), strict=False)
    z = latents(3, scales[-1]).requires_grad_()
    out = ours(z)
    loss = ours.total_loss(out.losses)
    (loss + (out.z * latents(4, scales[-1])).sum()).backward()
    theirs = {
        name.removeprefix(f"{kind}: "): tensor
        for name, tensor in golden().items()
        if name.startswith(kind)
    }
    assert same_ids(out.codes, theirs["ids"])
    assert agree(out.z.detach(), theirs["vectors"])
    assert float(loss.detach()) == pytest.approx(float(theirs["loss"]), rel=1e-5)
    assert z.grad is not None
    assert agree(z.grad, theirs["gradient"])
    gradient = ours.table.embedding.weight.grad
    assert gradient is not None
    assert agree(gradient, theirs["codes' gradient"])


def quantizer_weights(share: int, phis: int) -> dict[str, Tensor]:
    """By the rule of the script that made the golden tensors, under our names."""
    place = {0: "quant_resi.{}.", 1: "quant_resi.qresi."}.get(share, "quant_resi.qresi_ls.{}.")
    wanted = {"embedding.weight": (16, 8)}
    names = {"embedding.weight": "table.embedding.weight"}
    for number in range(phis):
        for part, shape in (("weight", (8, 8, 3, 3)), ("bias", (8,))):
            wanted[place.format(number) + part] = shape
            names[place.format(number) + part] = f"phi.{number}.{part}"
    return {names[key]: 2 * tensor for key, tensor in filled(wanted).items()}


def test_what_is_planned() -> None:
    found = planned()
    assert found.architecture == "cnn"
    assert found.settings == {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 8,
        "block_out_channels": (32, 32, 64, 64, 128),
        "layers_per_block": 2,
        "down_block_types": ("DownEncoderBlock2D",) * 4 + ("AttnDownEncoderBlock2D",),
        "up_block_types": ("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 4,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "sample_size": 64,
        "num_vq_embeddings": 64,
        "vq_embed_dim": 8,
        "quant_conv_kernel": 3,
        "quantizer": "multiscale",
        "quantizer_args": {
            "scales": SCALES,
            "phis": 4,
            "phi_ratio": 0.5,
            "by_direction": False,
            "codebook_update": "gradient",
            "commitment_weight": 0.25,
            "dead_codes": "off",
            "start": "uniform",
        },
        "estimator": "ste",
    }
    assert found.preprocess == Preprocess(size=64, stride=16, resize="pillow-lanczos")
    assert found.dropped == {
        "quantize.ema_vocab_hit_SV": "a record of used codes, a meter in training"
    }
    assert found.notes == (ASSUMED, CROPPED)


def test_settings_that_the_source_has_defaults_for() -> None:
    told = planned(quant_resi=-0.25, using_znorm=True, beta=1.0)
    assert told.notes == (CROPPED,)
    found = told.settings["quantizer_args"]
    assert found["phi_ratio"] == 0.25
    assert found["by_direction"] is True
    assert found["commitment_weight"] == 1.0


@pytest.mark.parametrize("counted", [True, False])
def test_the_published_file_is_known_by_its_shapes(counted: bool) -> None:
    wanted = dict(shapes(160, 4096, 32, PUBLISHED_SCALES))
    tensors = {key: torch.empty(shape, device="meta") for key, shape in wanted.items()}
    assert sum(tensor.numel() for tensor in tensors.values()) == 108_989_315
    if not counted:
        del tensors["quantize.ema_vocab_hit_SV"]
    assert recognises(tensors)
    found = plan(Foreign(tensors, {}, "vae_ch160v4096z32.pth"))
    assert found.settings["quantizer_args"]["scales"] == PUBLISHED_SCALES
    assert found.settings["sample_size"] == 256
    assert found.preprocess.size == 256
    assert found.notes == (
        "The file does not tell its scales (v_patch_nums); by the shapes it is the published one, "
        "which has 1, 2, 3, 4, 5, 6, 8, 10, 13, 16.",
        ASSUMED,
        CROPPED,
    )


def test_other_scales_of_the_published_file() -> None:
    """VAR of 512 pixels reads the same file with other scales."""
    wanted = dict(shapes(160, 4096, 32, PUBLISHED_SCALES))
    tensors = {key: torch.empty(shape, device="meta") for key, shape in wanted.items()}
    larger = [1, 2, 3, 4, 6, 9, 13, 18, 24, 32]
    found = plan(Foreign(tensors, {"v_patch_nums": larger}, "vae.pth"))
    assert found.settings["quantizer_args"]["scales"] == tuple(larger)
    assert found.settings["sample_size"] == 512
    assert found.notes == (ASSUMED, CROPPED)


def test_scales_that_nothing_tells_are_asked_for() -> None:
    tensors, _ = sample()
    with pytest.raises(ConfigError) as error:
        plan(Foreign(tensors, {}, "vae.pth"))
    assert str(error.value) == (
        "vae.pth does not tell v_patch_nums, the sides of 4 scales from coarse to fine, such as "
        "[1, 2, 3, 4, 5, 6, 8, 10, 13, 16]: pass the YAML or JSON that it was trained with as "
        "config, or v_patch_nums itself"
    )
    for wrong in ("1_2_3_4", [], [0, 1], [1, 2.5], [True, 2, 3, 4], 4):
        with pytest.raises(ConfigError) as error:
            planned(v_patch_nums=wrong)
        assert str(error.value) == (
            f"v_patch_nums is a list such as [1, 2, 3, 4, 5, 6, 8, 10, 13, 16]; got {wrong!r}"
        )


def test_scales_of_another_file() -> None:
    with pytest.raises(ConfigError) as error:
        planned(v_patch_nums=[1, 2, 4])
    assert str(error.value) == (
        "v_patch_nums has 3 scales, and quantize.ema_vocab_hit_SV in vae.pth 4"
    )


def own_phis(count: int) -> dict[str, Tensor | None]:
    """Changes to the sample, by which no φ is shared."""
    tensors, _ = sample()
    start = "quantize.quant_resi."
    old = [key for key in tensors if key.startswith(start)]
    new = {
        f"{start}{number}.{part}": tensors[f"{start}qresi_ls.{number}.{part}"]
        for number in range(count)
        for part in ("weight", "bias")
    }
    return {**dict.fromkeys(old), **new}


def test_a_phi_for_each_scale() -> None:
    found = planned(own_phis(4))
    assert found.settings["quantizer_args"]["phis"] == 4
    assert built(found).quantize.phi_of == [0, 1, 2, 3]
    with pytest.raises(ConfigError) as error:
        planned(own_phis(3))
    assert str(error.value) == (
        "v_patch_nums has 4 scales, and vae.pth 3 φ (quantize.quant_resi.N), which are not shared: "
        "there are 4"
    )
    told = planned(own_phis(3), default_qresi_counts=3)
    assert told.settings["quantizer_args"]["phis"] == 3


@pytest.mark.parametrize(
    ("layout", "settings"), [("qresi.", {}), ("0.", {"default_qresi_counts": 1})]
)
def test_every_way_to_share_phi(layout: str, settings: dict[str, Any]) -> None:
    tensors, said = sample()
    phi = "quantize.quant_resi.qresi_ls."
    changed = {key: tensor for key, tensor in tensors.items() if not key.startswith(phi)}
    for part in ("weight", "bias"):
        changed[f"quantize.quant_resi.{layout}{part}"] = tensors[f"{phi}0.{part}"]
    found = plan(Foreign(changed, {**said, **settings}, "vae.pth"))
    assert recognises(changed)
    assert found.settings["quantizer_args"]["phis"] == 1
    assert built(found).quantize.phi_of == [0, 0, 0, 0]


def test_without_phi() -> None:
    tensors, _ = sample()
    found = planned({key: None for key in tensors if "quant_resi" in key}, quant_resi=0)
    assert found.settings["quantizer_args"]["phis"] == 0
    assert built(found).quantize.phi_of == []


def test_what_does_not_fit() -> None:
    key = "decoder.mid.attn_1.qkv.bias"
    with pytest.raises(LoadError) as error:
        planned({key: torch.zeros(385)})
    assert str(error.value) == (
        f"'{key}' in vae.pth has the shape (385,); its rows are queries, keys and values, as many "
        "of each"
    )
    with pytest.raises(LoadError) as error:
        planned({"quantize.project.weight": torch.zeros(8)})
    assert str(error.value) == (
        "vae.pth holds 'quantize.project.weight', which is no key of its family"
    )
    with pytest.raises(LoadError) as error:
        planned({"quantize.embedding.weight": None})
    assert str(error.value) == "vae.pth lacks 'quantize.embedding.weight'"


def test_recognised_by_its_codebook() -> None:
    tensors, _ = sample()
    assert recognises(tensors)
    plain = {key: tensor for key, tensor in tensors.items() if "quant_resi" not in key}
    assert recognises(plain)
    assert not recognises({k: t for k, t in plain.items() if "ema_vocab" not in k})


@torch.no_grad()
def test_from_the_published_file_to_pictures_and_back(tmp_path: Path) -> None:
    tensors, said = sample()
    file = tmp_path / "vae_ch32v64z8.pth"
    torch.save(tensors, file)
    made = build(file, settings=said)
    assert made.family == "var"
    assert isinstance(made.model, AutoencoderVQ)
    x = pixels(2, 3, 64, 64, seed=3)
    codes = made.model.encode_codes(x)
    back = made.model.decode_codes(codes)
    assert torch.equal(codes, model().encode_codes(x))
    assert torch.equal(back, model().decode_codes(codes))
    assert made.model.encode_codes(back).shape == (2, 30)


@torch.no_grad()
def test_a_folder_keeps_it(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    again = AutoencoderVQ.from_pretrained(tmp_path)
    x = pixels(1, 3, 64, 64)
    codes = again.encode_codes(x)
    assert same_ids(codes, golden()["ids"])
    assert torch.equal(again.decode_codes(codes), model().decode_codes(codes))


def test_no_stock_model_has_its_codes() -> None:
    with pytest.raises(ConfigError) as error:
        model().to_diffusers()
    assert str(error.value) == (
        "diffusers' VQModel cannot express this model: the quantizer is 'multiscale', not "
        "'vector'; codes stand between larger convolutions than 1 x 1 (quant_conv_kernel)"
    )


def test_it_trains_on() -> None:
    ours = built(planned()).train()
    before = ours.quantize.table.embedding.weight.detach().clone()
    x = pixels(1, 3, 64, 64)
    moved = torch.optim.SGD(ours.parameters(), 1e-2)
    out = ours(x)
    ((out.sample - x).square().mean() + out.commit_loss).backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None] == []
    moved.step()
    ours.quantize.step(out.quantized.sums)
    assert not torch.equal(before, ours.quantize.table.embedding.weight)
