"""A small tokenizer of each kind that there is, for tests of what serves them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import tiny
from autoencoders.toys import toy

from vqtok.preprocess import Preprocess, preprocess
from vqtok.serve.items import Item
from vqtok.serve.slab import Op
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = ["CLIPS", "KINDS", "PICTURES", "alone", "asked", "clip", "given", "kind", "shown"]


def _cnn() -> VisualTokenizer:
    return tiny.tokenizer()


def _native() -> VisualTokenizer:
    return VisualTokenizer.from_model(tiny.model(), Preprocess(policy="native", stride=4))


def _extend() -> VisualTokenizer:
    return VisualTokenizer.from_model(tiny.model(), Preprocess(policy="extend", stride=4))


def _multiscale() -> VisualTokenizer:
    return tiny.tokenizer(quantizer="multiscale", quantizer_args={"scales": (1, 2, 4)})


def _residual() -> VisualTokenizer:
    settings = {"num_quantizers": 3, "start": "kaiming"}
    return tiny.tokenizer(quantizer="residual", quantizer_args=settings)


def _lfq() -> VisualTokenizer:
    bits = {"num_vq_embeddings": 1 << 18, "vq_embed_dim": 18}
    return tiny.tokenizer(quantizer="lfq", quantizer_args={}, **bits)


def _sequence() -> VisualTokenizer:
    return VisualTokenizer.from_model(toy("titok"))


def _clips(name: str, **settings: Any) -> Callable[[], VisualTokenizer]:
    def make() -> VisualTokenizer:
        model = toy(name)
        rule = {"policy": "extend", **settings, "stride": model.spatial_compression_ratio}
        return VisualTokenizer.from_model(model, Preprocess(**rule))

    return make


MAKERS: dict[str, Callable[[], VisualTokenizer]] = {
    "cnn": _cnn,
    "native": _native,
    "extend": _extend,
    "multiscale": _multiscale,
    "residual": _residual,
    "lfq": _lfq,
    "sequence": _sequence,
    "causal clips": _clips("cnn3d"),
    "clips": _clips("emu3", policy="center", size=16),
    "windows of clips": _clips("timesformer"),
}
KINDS = list(MAKERS)
CLIPS = [name for name in KINDS if "clips" in name]
PICTURES = [name for name in KINDS if name not in CLIPS]


@cache
def kind(name: str) -> VisualTokenizer:
    """The tokenizer; tests leave it as it is."""
    return MAKERS[name]()


def shown(tok: VisualTokenizer, seed: int = 0) -> np.ndarray:
    """A picture (h, w, 3) or clip (t, h, w, 3) of noise, as preprocessing makes them."""
    if tok.is_video:
        return clip(5, seed)
    return preprocess(tiny.picture(20, 24, seed), tok.settings)


def clip(frames: int, seed: int = 0) -> np.ndarray:
    """(frames, 16, 16, 3) uint8."""
    size = (frames, 16, 16, 3)
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def alone(tok: VisualTokenizer, pixels: np.ndarray) -> tuple[np.ndarray, Codes, np.ndarray]:
    """Latents, codes and what comes back of one picture or clip, by the tokenizer's own codec."""
    if not tok.is_video:
        latents, codes = tok.codec.encode_latents(pixels[None])
        return latents[0], codes, tok.codec.decode(codes)[0]
    frames = pixels[None] if pixels.ndim == 3 else pixels
    latents, codes = tok.codec.encode_frame_latents(iter(frames), frames.shape[1:3])
    back = np.stack(list(tok.codec.decode_frames(codes)))
    return latents[0], codes, back if pixels.ndim == 4 else back[0]


def given(op: Op, pixels: np.ndarray, latents: np.ndarray, codes: Codes) -> dict[str, np.ndarray]:
    """The parts of an item that `op` is asked about."""
    if op == Op.DECODE:
        scales = {"scales": np.array(codes.scales, np.int32)} if codes.scales else {}
        return {"codes": codes.ids[0], **scales}
    return {"latents": latents} if op == Op.DECODE_LATENTS else {"pixels": pixels}


def asked(tok: VisualTokenizer, op: Op, pixels: np.ndarray) -> Item:
    """The item about this picture or clip."""
    latents, codes, _ = alone(tok, pixels)
    return Item(given(op, pixels, latents, codes), pixels.shape[:-1])
