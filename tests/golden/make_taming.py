"""python make_taming.py TAMING [LATENT_DIFFUSION]: see taming.md."""

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

CODES, SIZE = 64, (24, 16)
NETWORKS = {
    "ch": 32,
    "out_ch": 3,
    "ch_mult": [1, 2],
    "num_res_blocks": 2,
    "attn_resolutions": [8],
    "in_channels": 3,
    "resolution": 16,
    "double_z": False,
}
JUDGE = {"input_nc": 3, "ndf": 8, "n_layers": 2}


def assembled(networks: Any, dim: int, **changes: Any) -> nn.Module:
    """The parts of VQModel by their names. Its own file imports Lightning."""
    settings = {**NETWORKS, "z_channels": dim, **changes}
    made = nn.Module()
    made.encoder, made.decoder = networks.Encoder(**settings), networks.Decoder(**settings)
    made.quant_conv = nn.Conv2d(dim, dim, 1)
    made.post_quant_conv = nn.Conv2d(dim, dim, 1)
    return made.eval()


def fill(model: nn.Module, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Weights by the rule of `filled`; what they are called, and their shapes."""
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    made = filled(shapes, seed)
    for name, weight in model.named_parameters():
        weight.data = made[name]
    return shapes


def write(name: str, tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    file = HERE / f"{name}.safetensors"
    save_file({k: t.contiguous() for k, t in tensors.items()}, file, {"shapes": repr(shapes)})
    print(name, {k: tuple(t.shape) for k, t in tensors.items()})
    print(len(tensors["codes"].unique()), "codes of", tensors["codes"].numel())
    print({k: float(t.std()) for k, t in tensors.items() if t.is_floating_point()})
    print(file.stat().st_size, "bytes")


def with_table(model: nn.Module, quantize: Any) -> dict[str, Tensor]:
    latents = model.quant_conv(model.encoder(pixels(1, 3, *SIZE)))
    dim = latents.shape[1]
    book = quantize.VectorQuantizer2(CODES, dim, beta=0.25, sane_index_shape=True)
    table = codes_among(latents.movedim(1, -1).flatten(0, 2), CODES)
    book.embedding.weight.data = table
    quantized, loss, (_, _, codes) = book(latents)
    made = model.decoder(model.post_quant_conv(quantized))
    return {"latents": latents, "codes": codes, "table": table, "pixels": made, "loss": loss}


def with_scores(model: nn.Module, quantize: Any) -> dict[str, Tensor]:
    """GumbelQuantize draws its ids; with a temperature of next to nothing it draws the likeliest.

    Its noise does not shrink with the temperature, so the scores are made large instead.
    """
    latents = model.quant_conv(model.encoder(pixels(1, 3, *SIZE)))
    dim = latents.shape[1]
    book = quantize.GumbelQuantize(dim, dim, CODES)
    shapes = {f"quantize.{k}": tuple(w.shape) for k, w in book.named_parameters()}
    weights = filled(shapes, seed=5)
    for name, weight in book.named_parameters():
        weight.data = weights[f"quantize.{name}"] * (1e4 if name.startswith("proj") else 1)
    torch.manual_seed(0)
    quantized, _, (_, _, codes) = book(latents)
    for name, weight in book.named_parameters():
        weight.data = weights[f"quantize.{name}"]
    assert torch.equal(codes, book.proj(latents).argmax(1))
    entropy = book(latents)[1] / book.kl_weight
    made = model.decoder(model.post_quant_conv(quantized))
    return {"latents": latents, "codes": codes, "pixels": made, "entropy": entropy}


def judged(discriminator: Any) -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Logits with the batch's statistics, as in training."""
    network = discriminator.NLayerDiscriminator(**JUDGE)
    shapes = fill(network, seed=3)
    for name, buffer in network.named_buffers():
        shapes[name] = tuple(buffer.shape)
    return {"judged": network.train()(pixels(2, 3, 24, 24, seed=4))}, shapes


@torch.no_grad()
def main(taming: Path, latent_diffusion: Path | None) -> None:
    sys.path.insert(0, str(taming))
    networks = importlib.import_module("taming.modules.diffusionmodules.model")
    quantize = importlib.import_module("taming.modules.vqvae.quantize")
    model = assembled(networks, 32)
    shapes = fill(model)
    logits, judge = judged(importlib.import_module("taming.modules.discriminator.model"))
    judge = {f"loss.discriminator.{name}": shape for name, shape in judge.items()}
    write("taming", with_table(model, quantize) | logits, shapes | judge)
    write("gumbel_vq", with_scores(model, quantize), shapes)
    if latent_diffusion is None:
        return
    sys.path.insert(0, str(latent_diffusion))
    networks = importlib.import_module("ldm.modules.diffusionmodules.model")
    model = assembled(networks, 3, attn_type="none", attn_resolutions=[])
    shapes = fill(model)
    write("ldm", with_table(model, quantize), shapes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
