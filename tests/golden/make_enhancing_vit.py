"""python make_enhancing_vit.py CHECKOUT: see enhancing_vit.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import codes_among, filled, pixels  # noqa: E402

IMAGE, PATCH, DIM, CODES = (24, 40), 4, 8, 64
ENCODER = {"dim": 24, "depth": 2, "heads": 3, "mlp_dim": 40}
DECODER = {"dim": 16, "depth": 3, "heads": 2, "mlp_dim": 24}


def module(path: Path) -> Any:
    """A file of the checkout by itself: its package imports Lightning and CUDA kernels."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def reference(checkout: Path) -> nn.Module:
    """The parts of ViTVQ, by the names that it gives them."""
    np.float = float  # type: ignore[attr-defined]  # gone from numpy since
    stage1 = checkout / "enhancing/modules/stage1"
    layers, quantizers = module(stage1 / "layers.py"), module(stage1 / "quantizers.py")
    made = nn.Module()
    made.encoder = layers.ViTEncoder(image_size=IMAGE, patch_size=PATCH, **ENCODER)
    made.decoder = layers.ViTDecoder(image_size=IMAGE, patch_size=PATCH, **DECODER)
    made.quantizer = quantizers.VectorQuantizer(DIM, CODES)
    made.pre_quant = nn.Linear(ENCODER["dim"], DIM)
    made.post_quant = nn.Linear(DIM, DECODER["dim"])
    return made.eval()


@torch.no_grad()
def main(checkout: Path) -> None:
    model = reference(checkout)
    tables = {k: t for k, t in model.state_dict().items() if k.endswith("pos_embedding")}
    shapes = {k: tuple(t.shape) for k, t in model.state_dict().items() if k not in tables}
    model.load_state_dict({**tables, **filled(shapes)})
    latents = model.pre_quant(model.encoder((pixels(2, 3, *IMAGE) + 1) / 2))
    table = codes_among(latents.flatten(0, 1), CODES)
    model.quantizer.embedding.weight.copy_(table)
    quantized, _, codes = model.quantizer(latents)
    out: dict[str, Tensor] = {
        "latents": latents,
        "codes": codes,
        "table": table,
        "pixels": model.decoder(model.post_quant(quantized)),
        "positions_encoder": tables["encoder.en_pos_embedding"],
        "positions_decoder": tables["decoder.de_pos_embedding"],
    }
    print(len(codes.unique()), "codes of", codes.numel(), {k: t.shape for k, t in out.items()})
    print(out["pixels"].std(), latents.std())
    file = HERE / "enhancing_vit.safetensors"
    save_file({k: t.contiguous() for k, t in out.items()}, file, {"shapes": repr(shapes)})
    print(file.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
