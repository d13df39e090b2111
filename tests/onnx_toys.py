"""Small tokenizers as graphs, and ONNX Runtime to run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnxruntime
import torch
from autoencoders.test_export import small
from autoencoders.toys import toy
from quantizers.cases import Case, build
from torch import Tensor, nn
from torch.nn import functional as F
from torch.onnx._internal.exporter import _registration as torchlib

from vqtok import VisualTokenizer
from vqtok.architectures.causal import Past
from vqtok.autoencoders import AUTOENCODERS, AutoencoderBase
from vqtok.preprocess import Preprocess
from vqtok.types import Codes

__all__ = [
    "Session",
    "bare",
    "causal",
    "check",
    "clips",
    "fast",
    "model_of",
    "pictures",
    "tokenizer",
]

WINDOW = 8  # frames, for models that would cut longer clips


@contextmanager
def fast() -> Iterator[None]:
    """Torch's exporter without reading all it knows anew each time, half a second."""
    read = cache(torchlib.ONNXRegistry.from_torchlib)
    with patch.object(torchlib.ONNXRegistry, "from_torchlib", staticmethod(read)):
        yield


class Session:
    """A graph, run on one core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.run = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        ).run

    def __call__(self, given: np.ndarray) -> np.ndarray:
        (name,) = ["codes"] if given.dtype.kind == "i" else ["pixels"]
        made: np.ndarray = self.run(None, {name: given})[0]
        return made


def model_of(architecture: str) -> AutoencoderBase:
    """The smallest one, with a window of clips that tests do not reach."""
    if architecture == "timesformer":
        return toy("timesformer", depth=1, sample_frames=WINDOW)
    return small(architecture)


def bare(case: Case, **settings: Any) -> AutoencoderBase:
    """A model whose networks are one convolution each: what it takes long for is its quantizer."""
    torch.manual_seed(0)
    model = AUTOENCODERS["conv_residual"](
        channels=8,
        residual_channels=4,
        latent_channels=4,
        vq_embed_dim=case.dim,
        num_vq_embeddings=case.codebook_size,
        quantizer=case.name,
        quantizer_args=case.settings,
        **settings,
    )
    model.encoder, model.quant_conv = nn.Identity(), nn.Conv2d(3, case.dim, 4, 4)
    model.quant_conv.weight.data *= 4
    model.post_quant_conv, model.decoder = nn.Identity(), nn.ConvTranspose2d(case.dim, 3, 4, 4)
    model.quantize = build(case)
    return model.eval()


class Shrink(nn.Module):
    """Each other frame of a clip, or of a piece of one, at a half of its sides."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return F.avg_pool3d(x[:, :, ::2] if past is None else x[:, :, -1:], (1, 2, 2))


class Grow(nn.Module):
    """Each frame twice but the first of a clip, at twice its sides."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first = past is None or self not in past.frames
        if past is not None:
            past.frames[self] = x
        frames = x.repeat_interleave(2, 2)[:, :, int(first) :]
        return F.interpolate(frames, scale_factor=(1, 2, 2))


@torch.no_grad()
def causal() -> AutoencoderBase:
    """A causal model of clips whose networks compute next to nothing."""
    model = small("cnn3d")
    model.encoder, model.quant_conv = Shrink(), nn.Conv3d(3, 4, 1)
    model.post_quant_conv, model.decoder = nn.Conv3d(4, 3, 1), Grow()
    model.quantize.embedding.weight.copy_(torch.randn(64, 4) * 0.3)
    return model


def tokenizer(model: AutoencoderBase, size: int | None = None) -> VisualTokenizer:
    """Of pictures in any size, or of one size."""
    if size is None:
        return VisualTokenizer.from_model(model)
    settings = Preprocess(policy="center", size=size, stride=model.stride[-1])
    return VisualTokenizer.from_model(model, settings)


def pictures(batch: int, *size: int, seed: int = 0) -> np.ndarray:
    """(batch, *size, 3) uint8 noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (batch, *size, 3), dtype=np.uint8)


def clips(model: AutoencoderBase, batch: int, *tokens: int, seed: int = 0) -> np.ndarray:
    """Noise of so many tokens along each axis; of the one size that a model takes."""
    size = model.only_size or model.size_of(tokens[-len(model.stride) :])
    return pictures(batch, *size, seed=seed)


def check(tok: VisualTokenizer, encoder: Session, decoder: Session, x: np.ndarray) -> Codes:
    """The ids that torch makes of pixels, but for near ties, and its pixels of these, but for
    rounding."""
    codes = tok.codec.encode(x)
    ids = encoder(x)
    moved = ids != codes.ids
    assert ids.dtype == np.int64 and ids.shape == codes.ids.shape
    assert not moved.any() or _margins(tok, x)[moved].max() < 1e-5
    made, there = decoder(codes.ids), tok.codec.decode(codes)
    apart = np.abs(made.astype(int) - there)
    assert made.dtype == np.uint8 and made.shape == there.shape
    assert apart.max() <= 1 and apart.mean() < 1e-3
    assert there.std() > 0.5
    return codes


@torch.no_grad()
def _margins(tok: VisualTokenizer, x: np.ndarray) -> np.ndarray:
    """Of each id, how far its vector would have to move."""
    signed = (torch.from_numpy(x).movedim(-1, 1).float() - 127.5) / 127.5
    latents = tok.model.encode(signed, return_dict=False)[0]
    margins = tok.model.quantize.margin(latents) / latents.square().mean().sqrt()
    depth = tok.model.quantize.depth
    found: np.ndarray = margins[..., None].expand(*margins.shape, depth) if depth else margins
    return np.asarray(found)
