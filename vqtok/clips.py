"""Clips through a codec, each by itself and a few frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vqtok.geometry import geometry
from vqtok.pictures import Pixels
from vqtok.preprocess import Preprocess, preprocess_frames
from vqtok.sequences import OutputType, as_output, source_name
from vqtok.streams import is_clip, open_clip
from vqtok.types import ClipCodec, Codes

__all__ = ["as_clip_output", "encode_clip", "encode_clips"]


def encode_clips(codec: ClipCodec, settings: Preprocess, clips: Any) -> list[Codes]:
    """One clip or several, from any source -> codes, each a batch of one."""
    if is_clip(clips):
        return [encode_clip(codec, settings, clips)]
    return [
        encode_clip(codec, settings, clip, name=source_name(clip, index, "clip"))
        for index, clip in enumerate(clips)
    ]


def encode_clip(
    codec: ClipCodec, settings: Preprocess, clip: Any, *, name: str | None = None
) -> Codes:
    """One clip, from any source that `open_clip` takes -> its codes, a batch of one."""
    reader = open_clip(clip, name=name, background=settings.background)
    plan = geometry(*reader.size, settings, name=reader.name)
    return codec.encode_frames(preprocess_frames(reader, settings, name=reader.name), plan.kept)


def as_clip_output(frames: Iterator[Pixels], output_type: OutputType) -> Any:
    """Frames (H, W, 3) -> a list of PIL images, an array (T, H, W, 3) or a tensor (T, 3, H, W)."""
    if output_type == "np":
        return np.stack(list(frames))
    pictures = [as_output(frame, output_type) for frame in frames]
    if output_type == "pil":
        return pictures
    import torch

    return torch.stack(pictures)
