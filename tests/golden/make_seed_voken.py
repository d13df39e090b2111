"""python make_seed_voken.py CHECKOUT: see seed_voken.md."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import codes_among, filled, pixels  # noqa: E402

MAGVIT2 = {
    "ch": 32,
    "out_ch": 3,
    "in_channels": 3,
    "num_res_blocks": 2,
    "z_channels": 6,
    "ch_mult": [1, 1, 2],
    "resolution": 128,
    "double_z": False,
}
IBQ = {
    "ch": 32,
    "out_ch": 3,
    "in_channels": 3,
    "num_res_blocks": 4,
    "z_channels": 8,
    "ch_mult": [1, 1],
    "attn_resolutions": [8],
    "resolution": 16,
    "double_z": False,
}
CODES, DIM = 64, 8


def fill(model: nn.Module) -> dict[str, tuple[int, ...]]:
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    made = filled(shapes)
    for name, weight in model.named_parameters():
        weight.data = made[name]
    return shapes


def write(name: str, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    file = HERE / f"{name}.safetensors"
    save_file(
        {k: t.detach().contiguous() for k, t in tensors.items()}, file, {"shapes": repr(shapes)}
    )
    print(name, {k: tuple(t.shape) for k, t in tensors.items()})
    print(len(tensors["codes"].unique()), "codes of", tensors["codes"].numel())
    print(
        {k: float(t.std()) for k, t in tensors.items() if t.is_floating_point() and t.numel() > 1}
    )
    print(file.stat().st_size, "bytes")


def open_magvit2(modules: str) -> None:
    networks: Any = importlib.import_module(f"{modules}.diffusionmodules.improved_model")
    quantizers: Any = importlib.import_module(f"{modules}.vqvae.lookup_free_quantize")
    model = nn.Module()
    model.encoder, model.decoder = networks.Encoder(**MAGVIT2), networks.Decoder(**MAGVIT2)
    shapes = fill(model)
    quantize = quantizers.LFQ(dim=6, codebook_size=64).eval()
    with torch.no_grad():
        latents = model.encoder(pixels(2, 3, 16, 24))
        (quantized, _, codes), _ = quantize(latents, return_loss_breakdown=True)
        made = model.decoder(quantized)
    # Both halves of the entropy, and what one of them gives latents: soft, so that it is not flat.
    z = (latents / 50).requires_grad_()
    _, parts = quantize.train()(z, return_loss_breakdown=True)
    parts.per_sample_entropy.backward()
    write(
        "open_magvit2",
        {
            "latents": latents,
            "codes": codes,
            "pixels": made,
            "unsure": parts.per_sample_entropy,
            "even": parts.codebook_entropy,
            "commit": parts.commitment,
            "grad": z.grad,
        },
        shapes,
    )


def ibq(modules: str) -> None:
    networks: Any = importlib.import_module(f"{modules}.diffusionmodules.model")
    quantizers: Any = importlib.import_module(f"{modules}.vqvae.quantize")
    model = nn.Module()
    model.encoder, model.decoder = networks.Encoder(**IBQ), networks.Decoder(**IBQ)
    model.quant_conv = nn.Conv2d(DIM, DIM, 1)
    model.post_quant_conv = nn.Conv2d(DIM, DIM, 1)
    shapes = fill(model)
    quantize = quantizers.IndexPropagationQuantize(CODES, DIM, 0.25, use_entropy_loss=True)
    quantize.entropy_temperature = 0.5  # at their .01 the entropy of toys is zero
    with torch.no_grad():
        latents = model.quant_conv(model.encoder(pixels(2, 3, 16, 16)))
        quantize.embedding.weight.copy_(codes_among(latents.movedim(1, -1).flatten(0, 2), CODES))
    z = latents.clone().requires_grad_()
    quantized, losses, (_, _, codes) = quantize(z)
    weighed = (quantized * torch.linspace(-1, 1, quantized.numel()).view_as(quantized)).sum()
    (weighed + losses[0] + 0.05 * losses[3]).backward()
    with torch.no_grad():
        made = model.decoder(model.post_quant_conv(quantized))
    write(
        "ibq",
        {
            "latents": latents,
            "codes": codes,
            "table": quantize.embedding.weight,
            "pixels": made,
            "loss": losses[0],
            "entropy": losses[3],
            "grad": z.grad,
            "table_grad": quantize.embedding.weight.grad,
        },
        shapes,
    )


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    open_magvit2("src.Open_MAGVIT2.modules")
    ibq("src.IBQ.modules")
