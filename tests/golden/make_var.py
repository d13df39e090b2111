"""Makes var.npz with VAR's own code: see var.md.

python tests/golden/make_var.py FOLDER_OF_VAR
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import filled, pixels  # noqa: E402
from checkpoints.samples import var as sample  # noqa: E402

# Kinds of the quantizer by itself: scales, share_quant_resi, using_znorm.
KINDS = {
    "shared": ((1, 2, 3, 4), 1, False),
    "each": ((1, 2, 3, 4, 6), 0, False),
    "three, by direction": ((1, 2, 3, 5), 3, True),
}
WIDE = ((1, 2), (2, 3), (3, 5), (4, 6))  # the scales of a grid of 4 x 6


def latents(seed: int, side: int, dim: int = 8) -> Tensor:
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal((2, dim, side, side))
    return torch.from_numpy(drawn).float()


def of_model(vae: type[torch.nn.Module]) -> dict[str, Tensor]:
    tensors, said = sample.sample()
    model: Any = vae(
        sample.CODES, sample.DIM, sample.CHANNELS, v_patch_nums=tuple(said["v_patch_nums"])
    )
    model.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        square, wide = pixels(1, 3, 64, 64), pixels(1, 3, 64, 96)
        ids = model.img_to_idxBl(square)
        return {
            "latents": model.quant_conv(model.encoder(square)),
            "ids": torch.cat(ids, 1),
            "pixels": model.idxBl_to_img(ids, same_shape=True, last_one=True)[..., ::2],
            "var_inputs": model.quantize.idxBl_to_var_input(ids),
            "wide ids": torch.cat(model.img_to_idxBl(wide, v_patch_nums=WIDE), 1),
        }


def of_quantizer(quantizer: type[torch.nn.Module], kind: str) -> dict[str, Tensor]:
    scales, share, by_direction = KINDS[kind]
    model: Any = quantizer(16, 8, by_direction, v_patch_nums=scales, share_quant_resi=share)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    model.load_state_dict({k: 2 * t for k, t in filled(shapes).items()}, strict=False)
    z = latents(3, scales[-1]).requires_grad_()
    out, _, loss = model(z)
    (loss + (out * latents(4, scales[-1])).sum()).backward()
    return {
        f"{kind}: ids": torch.cat(model.f_to_idxBl_or_fhat(z, to_fhat=False), 1),
        f"{kind}: vectors": out.detach(),
        f"{kind}: loss": loss.detach(),
        f"{kind}: gradient": z.grad,
        f"{kind}: codes' gradient": model.embedding.weight.grad,
    }


def main(folder: Path) -> None:
    package = types.ModuleType("models")
    package.__path__ = [str(folder / "models")]  # passes by its __init__, which wants the rest
    sys.modules["models"] = package
    sys.path.insert(0, str(folder))
    torch.distributed.get_world_size = lambda: 1
    from models.quant import VectorQuantizer2  # type: ignore[import-not-found]
    from models.vqvae import VQVAE  # type: ignore[import-not-found]

    made = of_model(VQVAE)
    for kind in KINDS:
        made |= of_quantizer(VectorQuantizer2, kind)
    arrays = {name: tensor.numpy() for name, tensor in made.items()}
    whole = {k: a.astype(np.uint8) if a.dtype == np.int64 else a for k, a in arrays.items()}
    np.savez_compressed(HERE / "var.npz", **whole)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
