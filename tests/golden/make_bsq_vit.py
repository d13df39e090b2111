"""python make_bsq_vit.py CHECKOUT: see bsq_vit.md."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import filled, pixels  # noqa: E402

VIT = {"image_size": 16, "patch_size": 4, "width": 24, "layers": 2, "heads": 3, "mlp_ratio": 2}
BITS = {"bsq_vit": (6, 3), "bsq_vit_wide": (24, 1)}  # dimensions, group of the entropy


def without_timm() -> None:
    """The three things that the reference takes of timm, which needs torchvision."""
    layers: Any = types.ModuleType("timm.models.layers")
    layers.to_2tuple = lambda x: (x, x)
    layers.trunc_normal_ = nn.init.trunc_normal_
    layers.DropPath = nn.Identity
    for name in ("timm", "timm.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["timm.models.layers"] = layers


def make(kind: Any, name: str) -> None:
    bits, group = BITS[name]
    model = kind(
        vitconfig=VIT,
        embed_dim=bits,
        embed_group_size=group,
        l2_norm=True,
        post_q_l2_norm=True,
        clamp_range=(-1, 1),
        persample_entropy_compute="group" if group > 1 else "analytical",
        beta=0.25,
        inv_temperature=3.0,
    )
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    made = filled(shapes)
    for key, weight in model.named_parameters():
        weight.data = made[key]
    x = pixels(2, 3, 16, 16)
    with torch.no_grad():
        latents = model.quant_embed(model.encoder(x))
    z = latents.clone().requires_grad_()
    quantized, loss, info = model.train().quantize(nn.functional.normalize(z, dim=-1))
    weighed = (quantized * torch.linspace(-1, 1, quantized.numel()).view_as(quantized)).sum()
    (weighed + 0.1 * loss).backward()
    with torch.no_grad():
        out: dict[str, Tensor] = {
            "latents": latents,
            "codes": info["indices"],
            "quantized": quantized,
            "pixels": model.decode(quantized),
            "loss": loss,
            "grad": z.grad,
        }
    file = HERE / f"{name}.safetensors"
    save_file({k: t.detach().contiguous() for k, t in out.items()}, file, {"shapes": repr(shapes)})
    print(name, {k: tuple(t.shape) for k, t in out.items()}, file.stat().st_size, "bytes")
    print(len(out["codes"].unique()), "codes of", out["codes"].numel(), out["pixels"].std())


if __name__ == "__main__":
    without_timm()
    sys.path.insert(0, sys.argv[1])
    model = importlib.import_module("transcoder.models.bsqvit")
    for name in BITS:
        make(model.VITBSQModel, name)
