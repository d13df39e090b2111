"""python make_rotation_trick.py CHECKOUT: see rotation_trick.md."""

from __future__ import annotations

import sys
import types
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.filled import codes_among, filled, pixels  # noqa: E402

CODES = 48
# Sizes of each table's row, by the `--f` that selects it there: z_channels and embed_dim.
WIDTHS = {8: (6, 4), 4: (3, 3)}
MEAN = torch.tensor([0.4815, 0.4578, 0.4082])[:, None, None]
STD = torch.tensor([0.2686, 0.2613, 0.2758])[:, None, None]


def vq_vae(checkout: Path) -> Any:
    """The authors' module. It imports taming-transformers, of which the checkout has a copy."""
    sys.path.insert(0, str(checkout))
    root = types.ModuleType("pyprojroot")
    root.here = lambda: checkout  # type: ignore[attr-defined]
    sys.modules["pyprojroot"] = root
    from src.modules import decoder, encoder  # type: ignore[import-not-found]

    taming = types.ModuleType("taming.modules.diffusionmodules.model")
    taming.Encoder, taming.Decoder = encoder.Encoder, decoder.Decoder  # type: ignore[attr-defined]
    for name in ("taming", "taming.modules", "taming.modules.diffusionmodules"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules[taming.__name__] = taming
    from src.models import vq_vae as found  # type: ignore[import-not-found]

    return found


def small(module: Any) -> None:
    """Narrow networks in the place of those that its constructor fixes."""

    def narrow(kind: Any) -> Any:
        def make(*, ch: int, ch_mult: list[int], num_res_blocks: int, **rest: Any) -> Any:
            widths = [1, 2] if len(ch_mult) == 3 else [1, 1, 2]
            at = [256 >> len(widths) - 1] if rest.pop("attn_resolutions") else []
            return kind(ch=32, ch_mult=widths, num_res_blocks=1, attn_resolutions=at, **rest)

        return make

    module.Encoder, module.Decoder = narrow(module.Encoder), narrow(module.Decoder)
    module.get_model_params = lambda _, f: (3, 256, *WIDTHS[f], CODES)


def state(book: nn.Module, latents: Tensor, cosine: bool) -> None:
    """Codes near latents, and running means that belong to them."""
    table = codes_among(latents.movedim(1, -1).flatten(0, -2), CODES)
    count = 1 + torch.arange(CODES) % 7 / 4
    if cosine:
        table = nn.functional.normalize(table, dim=1)
    book.embed.copy_(table[None])
    book.cluster_size.copy_(count[None])
    book.embed_avg.copy_((table * count[:, None])[None])


@torch.no_grad()
def one(module: Any, f: int, codebook: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    args = Namespace(dataset="imagenet", f=f, codebook=codebook, commit_weight=1.0)
    model = module.VQVAE(args).eval()
    own = {k: t for k, t in model.state_dict().items() if "_codebook" not in k}
    shapes = {k: tuple(t.shape) for k, t in own.items()}
    model.load_state_dict({**model.state_dict(), **filled(shapes)})
    x = ((pixels(1, 3, 24, 32) + 1) / 2 - MEAN) / STD
    seen: list[Tensor] = []
    model.vq.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.get_codes(x)
    state(model.vq._codebook, seen[0], codebook == "cosine")
    _, _, rec = model(x, return_rec=True)
    out = {"latents": seen[0], "codes": model.get_codes(x), "pixels": rec * STD + MEAN}
    out |= {k.rpartition(".")[2]: t for k, t in model.vq.state_dict().items()}
    ids = out["codes"]
    print(f, codebook, len(ids.unique()), "codes of", ids.numel(), out["pixels"].std())
    return out, shapes


def main(checkout: Path) -> None:
    module = vq_vae(checkout)
    small(module)
    found: dict[str, Tensor] = {}
    shapes = {}
    # Both kinds of each table's row but for one: where nothing is projected they are alike.
    for f, codebook in ((8, "euclidean"), (8, "cosine"), (4, "cosine")):
        out, shapes[f"{codebook}_{f}"] = one(module, f, codebook)
        found |= {f"{codebook}_{f}.{key}": tensor for key, tensor in out.items()}
    file = HERE / "rotation_trick.safetensors"
    save_file(
        {k: t.contiguous() for k, t in found.items()},
        file,
        {"shapes": repr(shapes).replace(" ", "")},
    )
    print(file.stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
