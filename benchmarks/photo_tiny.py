"""Trains and measures `photo-tiny`, the small tokenizer in the wheel, on a CPU.

    python benchmarks/photo_tiny.py train PHOTOS RUN --minutes 62
    python benchmarks/photo_tiny.py ship PHOTOS RUN vqtok/zoo/photo-tiny
    python benchmarks/photo_tiny.py measure PHOTOS vqtok/zoo/photo-tiny

PHOTOS is a folder of tar files with photographs, short side 128. The thousand keys with the
smallest sha256 are held out of training, and `ship` and `measure` report on those.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import tarfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from vqtok.autoencoders import AutoencoderVQ
from vqtok.card import fingerprint_table
from vqtok.metrics.pixels import psnr, ssim
from vqtok.metrics.usage import code_usage
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer

CARD = Path(__file__).with_name("photo_tiny_card.md")
HELD_OUT = 1000
SETTINGS = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 96),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "latent_channels": 8,
    "mid_block_add_attention": False,
    "num_vq_embeddings": 1024,
    "sample_size": 256,
    "estimator": "rotation",
    # A step has as many tokens as there are codes, so means over a few steps would be noise.
    "quantizer_args": {"decay": 0.97, "dead_share": 0.1},
}


def photographs(folder: Path, *, held_out: bool) -> np.ndarray:
    """-> centre crops (N, 128, 128, 3) uint8: those to train on, or those held out."""
    with ExitStack() as files:
        tars = [files.enter_context(tarfile.open(path)) for path in sorted(folder.glob("*.tar"))]
        members = {Path(m.name).stem: (tar, m) for tar in tars for m in tar if m.isfile()}
        keys = sorted(members, key=lambda key: hashlib.sha256(key.encode()).digest())
        chosen = keys[:HELD_OUT] if held_out else keys[HELD_OUT:]
        return np.stack([crop(tar.extractfile(m).read()) for tar, m in map(members.get, chosen)])


def crop(data: bytes) -> np.ndarray:
    """An encoded photograph -> its middle, (128, 128, 3) uint8."""
    with Image.open(io.BytesIO(data)) as image:
        left, top = (image.width - 128) // 2, (image.height - 128) // 2
        return np.asarray(image.convert("RGB").crop((left, top, left + 128, top + 128)))


def batch(pictures: np.ndarray, size: int, crop: int, rng: np.random.Generator) -> torch.Tensor:
    """Random crops and flips -> (size, 3, crop, crop) in [-1, 1]."""
    out = np.empty((size, crop, crop, 3), np.uint8)
    for row, index in enumerate(rng.integers(len(pictures), size=size)):
        top, left = rng.integers(128 - crop + 1, size=2)
        part = pictures[index, top : top + crop, left : left + crop]
        out[row] = part[:, ::-1] if rng.random() < 0.5 else part
    x = torch.from_numpy(out).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def train(photos: Path, run: Path, minutes: float, seed: int) -> None:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures = photographs(photos, held_out=False)
    model = AutoencoderVQ(**SETTINGS).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{len(pictures)} photographs, {size:.2f} M parameters", flush=True)
    began, step, done = time.time(), 0, 0.0
    while done < 1:
        done = min(1.0, (time.time() - began) / 60 / minutes)
        rate = 1e-3 * min(1, (step + 1) / 200) * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = batch(pictures, 16, 64, rng)
        with torch.autocast("cpu", torch.bfloat16):
            result = model(x)
        pixels = result.sample.float()
        loss = F.l1_loss(pixels, x) + F.mse_loss(pixels, x) + result.commit_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        model.quantize.step(result.quantized.sums, generator)
        step += 1
        if step % 100 == 0:
            psnr = 10 * math.log10(4 / F.mse_loss(pixels.detach(), x).item())
            used = len(result.quantized.codes.unique())
            commit = result.commit_loss.item()
            print(f"{step} {done:.3f} psnr {psnr:.2f} codes {used} commit {commit:.4f}", flush=True)
        if step % 1000 == 0 or done == 1:
            model.save_pretrained(run)
            training = {"steps": step, "minutes": round(done * minutes, 1), "seed": seed}
            (run / "training.json").write_text(json.dumps(training))


def ship(photos: Path, run: Path, out: Path) -> None:
    """Makes a tokenizer of a run: weights rounded to float16, figures, model card."""
    model = AutoencoderVQ.from_pretrained(run)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("quantize."):
                parameter.copy_(parameter.half().float())
    tok = VisualTokenizer.from_model(model, Preprocess(policy="center", size=256, stride=8))
    tok.save_pretrained(out)
    # The same values in half the bytes; the codebook and its running means keep float32.
    weights = out / "diffusion_pytorch_model.safetensors"
    halves = {
        name: tensor if name.startswith("quantize.") else tensor.half()
        for name, tensor in load_file(weights).items()
    }
    save_file(halves, weights, metadata={"format": "pt"})
    facts = json.loads((run / "training.json").read_text()) | measure(photos, out)
    shipped = VisualTokenizer.from_pretrained(out)
    parameters = sum(p.numel() for p in shipped.model.parameters()) / 1e6
    card = CARD.read_text(encoding="utf-8").format(
        **facts, parameters=parameters, prints=fingerprint_table(shipped)
    )
    (out / "README.md").write_text(card, encoding="utf-8")


def measure(photos: Path, folder: Path) -> dict[str, float]:
    """Figures of a tokenizer on the held-out pictures, at 128 x 128."""
    held = photographs(photos, held_out=True)
    tok = VisualTokenizer.from_pretrained(folder)
    codes = tok.encode_pixels(list(held))
    back = np.stack(tok.decode_codes(codes, "np"))
    noise, likeness = psnr(held, back), ssim(held, back)
    usage = code_usage(torch.from_numpy(np.stack([c.ids[0] for c in codes])), tok.codebook_size)
    facts = {
        "held_out": len(held),
        "psnr": round(float(noise.mean()), 2),
        "psnr_error": round(float(noise.std(ddof=1) / math.sqrt(len(noise))), 2),
        "ssim": round(float(likeness.mean()), 3),
        "usage": round(100 * usage.whole, 1),
        "usage_batch": round(100 * usage.per_batch, 1),
        "perplexity": round(usage.perplexity),
        "bits_per_pixel": round(math.log2(tok.codebook_size) / 64, 3),
    }
    print(json.dumps(facts, indent=2))
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("train", help="train on PHOTOS into RUN")
    verb.add_argument("photos", type=Path)
    verb.add_argument("run", type=Path)
    verb.add_argument("--minutes", type=float, default=60)
    verb.add_argument("--seed", type=int, default=0)
    verb = verbs.add_parser("ship", help="make a tokenizer folder OUT of RUN, and measure it")
    verb.add_argument("photos", type=Path)
    verb.add_argument("run", type=Path)
    verb.add_argument("out", type=Path)
    verb = verbs.add_parser("measure", help="measure a tokenizer FOLDER")
    verb.add_argument("photos", type=Path)
    verb.add_argument("folder", type=Path)
    arguments = vars(parser.parse_args())
    {"train": train, "ship": ship, "measure": measure}[arguments.pop("verb")](**arguments)


if __name__ == "__main__":
    main()
