"""A small diffusion transformer over latents, saved and loaded as a diffusers pipeline.

    python latent_dit.py TOKENS --steps 2000 --pipeline dit/ --output samples.png

It reads what `vqtok tokenize --what latents` (or `both`) wrote, and trains diffusers' DiT to tell
the noise in it. The pipeline holds our autoencoder with the scaling factor that the job measured.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DiTPipeline, DiTTransformer2DModel
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vqtok import VisualTokenizer
from vqtok.offline import TokenSet, open_tokens
from vqtok.sheets import gallery


def network(shape: torch.Size, width: int, depth: int) -> DiTTransformer2DModel:
    """Over latents of one shape (D, h, w), a token for each 2 x 2 of them."""
    channels, side, _ = shape
    return DiTTransformer2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        patch_size=2,
        num_attention_heads=width // 32,
        attention_head_dim=32,
        num_layers=depth,
        num_embeds_ada_norm=1000,  # DiTPipeline's label for "no class"
    )


def latents_of(tokens: TokenSet) -> tuple[Tensor, Tensor]:
    """Scaled latents (N, D, h, w), and the number of each one's class, 0 where there is none."""
    rows = list(tokens)
    classes = {label: number for number, label in enumerate(tokens.classes or [])}
    labels = [classes.get(str(row.label), 0) for row in rows]
    return torch.from_numpy(np.stack([row.latents for row in rows])), torch.tensor(labels)


def learn(net: DiTTransformer2DModel, x: Tensor, labels: Tensor, steps: int) -> None:
    """Noise of every strength onto latents; the network is to say which noise it was."""
    scheduler = DDPMScheduler()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    recent = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * math.cos(step / steps * math.pi / 2)
        rows = torch.randint(len(x), (32,))
        clean, noise = x[rows], torch.randn(32, *x.shape[1:])
        times = torch.randint(scheduler.config.num_train_timesteps, (32,))
        noisy = scheduler.add_noise(clean, noise, times)
        loss = F.mse_loss(net(noisy, times, labels[rows]).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % 50 == 0:
            print(f"step {step:5d}  loss {np.mean(recent[-50:]):.3f}", flush=True)
    print(f"after {steps} steps: loss {np.mean(recent[-50:]):.3f}; guessing nothing costs 1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", help="what `vqtok tokenize --what latents` wrote")
    parser.add_argument("--tokenizer", default="photo-tiny", help="which made them")
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--sampling", type=int, default=50, help="steps of it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pipeline", type=Path, default=Path("dit"))
    parser.add_argument("--output", type=Path, default=Path("samples.png"))
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    tok = VisualTokenizer.from_pretrained(options.tokenizer)
    tokens = open_tokens(options.tokens, expect=tok, as_latents=True)
    x, labels = latents_of(tokens)
    # DiTPipeline divides by the scaling factor and knows of no shift.
    x += tokens.shift_factor * tokens.scaling_factor
    print(f"{len(x)} latents of {tuple(x.shape[1:])}, scaled by {tokens.scaling_factor:.4f}")
    net = network(x.shape[1:], options.width, options.depth)
    learn(net, x, labels, options.steps)

    tok.model.register_to_config(scaling_factor=tokens.scaling_factor)
    DiTPipeline(net.eval(), tok.model, DDIMScheduler()).save_pretrained(options.pipeline)
    pipe = DiTPipeline.from_pretrained(options.pipeline)
    generator = torch.Generator().manual_seed(options.seed)
    wanted = labels[torch.randint(len(labels), (16,), generator=generator)].tolist()
    made = pipe(
        class_labels=wanted,
        guidance_scale=1.0,
        num_inference_steps=options.sampling,
        generator=generator,
        output_type="np",
    ).images
    pictures = (made * 255).round().astype(np.uint8)
    Image.fromarray(gallery([pictures[n::4] for n in range(4)])).save(options.output)
    print(f"{len(pictures)} samples in {options.output}, the pipeline in {options.pipeline}")


if __name__ == "__main__":
    main()
