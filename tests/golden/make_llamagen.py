"""python make_llamagen.py CHECKOUT: see llamagen.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import codes_among, filled, pixels  # noqa: E402

# One residual block a level in the encoder, and levels of unlike widths.
SIZES = {"ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1, "z_channels": 6}
DIM, CODES = 4, 48


def reference(checkout: Path) -> nn.Module:
    """A VQModel by hand: its own constructor fixes the widths."""
    path = checkout / "tokenizer/tokenizer_image/vq_model.py"
    spec = importlib.util.spec_from_file_location("vq_model", path)
    assert spec and spec.loader
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["vq_model"] = module
    spec.loader.exec_module(module)
    made = module.VQModel.__new__(module.VQModel)
    nn.Module.__init__(made)
    made.encoder, made.decoder = module.Encoder(**SIZES), module.Decoder(**SIZES)
    made.quantize = module.VectorQuantizer(CODES, DIM, 0.25, 0.0, True, True)
    made.quant_conv = nn.Conv2d(SIZES["z_channels"], DIM, 1)
    made.post_quant_conv = nn.Conv2d(DIM, SIZES["z_channels"], 1)
    return made.eval()


@torch.no_grad()
def main(checkout: Path) -> None:
    model = reference(checkout)
    state = model.state_dict()
    shapes = {k: tuple(t.shape) for k, t in state.items() if k != "quantize.codebook_used"}
    model.load_state_dict({**state, **filled(shapes)})
    x = pixels(2, 3, 24, 32)
    latents = model.quant_conv(model.encoder(x))
    table = codes_among(latents.movedim(1, -1).flatten(0, -2), CODES)
    model.quantize.embedding.weight.copy_(table)
    _, _, (_, _, codes) = model.encode(x)
    shape = (2, DIM, *latents.shape[2:])
    out: dict[str, Tensor] = {
        "latents": latents,
        "codes": codes,
        "table": table,
        "pixels": model.decode_code(codes, shape),
    }
    print(len(codes.unique()), "codes of", codes.numel(), {k: t.shape for k, t in out.items()})
    print(out["pixels"].std(), latents.std())
    file = HERE / "llamagen.safetensors"
    save_file({k: t.contiguous() for k, t in out.items()}, file, {"shapes": repr(shapes)})
    print(file.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
