"""python make_titok.py CHECKOUT: see titok.md. Needs omegaconf and accelerate."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from checkpoints.samples import maskgit, titok  # noqa: E402
from golden.make_maskgit import packages  # noqa: E402

MULTIPLES = [width // maskgit.WIDTHS[0] for width in maskgit.WIDTHS]
# Its sizes are written into its code: what stands there, and what to put in place of it.
SIZES = {
    "modeling/modules/blocks.py": {
        '"small": 512': f'"small": {titok.ENCODER[0]}',
        '"small": 8': f'"small": {titok.ENCODER[1]}',  # depth and heads are both 8: two of each
        '"base": 768': f'"base": {titok.DECODER[0]}',
        '"base": 12': f'"base": {titok.DECODER[1]}',
        "2 * self.width, 1024, 1": f"2 * self.width, {titok.PROXY_CODES}, 1",
    },
    "modeling/titok.py": {
        "num_embeddings=1024, embedding_dim=256": (
            f"num_embeddings={titok.PROXY_CODES}, embedding_dim={maskgit.DIM}"
        ),
        '"channel_mult": [1, 1, 2, 2, 4]': f'"channel_mult": {MULTIPLES}',
        '"num_resolutions": 5': f'"num_resolutions": {len(MULTIPLES)}',
        '"hidden_channels": 128': f'"hidden_channels": {maskgit.WIDTHS[0]}',
        '"z_channels": 256': f'"z_channels": {maskgit.DIM}',
    },
}


def module(checkout: Path, path: str) -> Any:
    """A file of the checkout with tiny sizes, under its own name for those that import it."""
    source = (checkout / path).read_text(encoding="utf-8")
    for old, new in SIZES[path].items():
        assert old in source, old
        source = source.replace(old, new)
    name = path.removesuffix(".py").replace("/", ".")
    made = sys.modules[name] = ModuleType(name)
    exec(compile(source, path, "exec"), made.__dict__)
    return made


@torch.no_grad()
def run(theirs: Any, tensors: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    model = theirs.TiTok(config).eval()
    model.load_state_dict(tensors)
    x = (titok.pictures() + 1) / 2
    latents = model.encoder(pixel_values=x, latent_tokens=model.latent_tokens)
    codes = model.encode(x)[1]["min_encoding_indices"]
    out = {
        "latents": latents[:, :, 0],
        "codes": codes[:, 0],
        "pixels": model.decode_tokens(codes),
    }
    print({name: tensor.shape for name, tensor in out.items()}, len(codes.unique()), "codes")
    print(latents.std(), out["pixels"].std())
    return out


def main(checkout: Path) -> None:
    packages(checkout)
    module(checkout, "modeling/modules/blocks.py")
    theirs = module(checkout, "modeling/titok.py")
    out: dict[str, Tensor] = {}
    for name, made in (("two", titok.sample()), ("one", titok.one_stage_sample())):
        found = run(theirs, *made)
        out |= {f"{name}.{key}": tensor.contiguous() for key, tensor in found.items()}
    save_file(out, HERE / "titok.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
