"""python make_maskgit.py CHECKOUT: see maskgit.md."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import pixels  # noqa: E402
from checkpoints.samples.maskgit import CODES, DIM, LAYERS, WIDTHS, sample  # noqa: E402

SIZE = 24, 16


def packages(checkout: Path) -> None:
    """Its packages without their __init__, which import all that its training needs."""
    for name in ("modeling", "modeling.modules", "modeling.quantizer"):
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(checkout / name.replace(".", "/"))]


def reference(checkout: Path) -> nn.Module:
    """The parts of its `PretrainedTokenizer`, whose sizes are fixed, at the sample's."""
    packages(checkout)
    from modeling.modules import maskgit_vqgan as theirs

    config = SimpleNamespace(
        channel_mult=[width // WIDTHS[0] for width in WIDTHS],
        num_resolutions=len(WIDTHS),
        dropout=0.0,
        hidden_channels=WIDTHS[0],
        num_channels=3,
        num_res_blocks=LAYERS,
        resolution=16,
        z_channels=DIM,
    )
    made = nn.Module()
    made.encoder, made.decoder = theirs.Encoder(config), theirs.Decoder(config)
    made.quantize = theirs.VectorQuantizer(CODES, DIM, commitment_cost=0.25)
    return made.eval()


@torch.no_grad()
def main(checkout: Path) -> None:
    model = reference(checkout)
    model.load_state_dict(sample()[0])
    latents = model.encoder((pixels(2, 3, *SIZE) + 1) / 2)
    quantized, codes, _ = model.quantize(latents)
    out = {
        "latents": latents,
        "codes": codes.view(2, *latents.shape[2:]),
        "pixels": model.decoder(quantized),
    }
    print({name: tensor.shape for name, tensor in out.items()}, len(codes.unique()), "codes")
    print(latents.std(), out["pixels"].std())
    save_file({k: t.contiguous() for k, t in out.items()}, HERE / "maskgit.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
