"""Pictures of a run: reconstructions beside their originals, and how often each code is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vqtok.errors import InputError
from vqtok.metrics.pixels import to_uint8
from vqtok.quantizers import Quantizer
from vqtok.sheets import GAP, Pixels, code_colours, code_map, gallery

__all__ = ["PICTURES", "USAGE", "colours_of_codes", "picture_sheet", "save_picture"]

# Folders of a run, for sheets and for charts of code usage.
PICTURES = "pictures"
USAGE = "usage"

MOST = 8  # pictures on a sheet; clips take more room, so there are half as many
FRAMES = 4  # of a clip
LEAST_SIDE = 128  # smaller pictures are enlarged by a whole number
INK = (40, 40, 40)


def picture_sheet(
    originals: Tensor, samples: Tensor, codes: Tensor, colours: Pixels, title: str = ""
) -> Pixels:
    """Originals, reconstructions and maps of the codes, one under the other -> (H', W', 3).

    originals  uint8 (N, 3, [T,] H, W); the first 8 are shown, or 4 clips of 4 frames each
    samples    their reconstructions, floats in [-1, 1], of the same shape; NaN comes out grey
    codes      (N, [T,] h, w), one to look at for each place: see `vqtok.sheets.plane`
    colours    (K, 3), as `colours_of_codes` gives them
    """
    if originals.shape != samples.shape or originals.dtype != torch.uint8:
        raise InputError(
            "a sheet shows uint8 pictures (N, 3, [T,] H, W) and floats of the same shape; got "
            f"{str(originals.dtype)[6:]} {tuple(originals.shape)} and {tuple(samples.shape)}"
        )
    is_clip = originals.ndim == 5
    columns: list[list[Pixels]] = []
    for number in range(min(len(originals), MOST // 2 if is_clip else MOST)):
        one = (tensor[number] for tensor in (originals, samples, codes))
        frames = _frames_of(*(tensor if is_clip else tensor[..., None, :, :] for tensor in one))
        if is_clip and columns:
            columns.append([np.full((len(part), GAP, 3), 255, np.uint8) for part in columns[0]])
        columns += [[*pair, code_map(ids, colours, pair[0].shape[:2])] for *pair, ids in frames]
    return _titled(gallery(columns), title)


def colours_of_codes(quantizer: Quantizer) -> Pixels:
    """(K, 3) uint8: a colour for each code; with several codes a token, for each first one."""
    ids = torch.arange(quantizer.codebook_size)
    if quantizer.depth:
        ids = torch.nn.functional.pad(ids[:, None], (0, quantizer.depth - 1))
    place = next((tensor.device for tensor in quantizer.state_dict().values()), ids.device)
    with torch.no_grad():
        return code_colours(quantizer.vectors(ids.to(place)).float().cpu().numpy())


def save_picture(pixels: Pixels, folder: Path, step: int) -> Path:
    """Writes `folder/step-00001000.png`, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08}.png"
    Image.fromarray(pixels).save(path)
    return path


def _frames_of(
    original: Tensor, sample: Tensor, codes: Tensor
) -> list[tuple[Pixels, Pixels, npt.NDArray[np.int64]]]:
    """(3, T, H, W) twice and codes (T, h, w) -> what a few frames show, enlarged if small."""
    length = original.shape[1]
    chosen = [round(at) for at in np.linspace(0, length - 1, min(FRAMES, length))]
    before = original[:, chosen].permute(1, 2, 3, 0).cpu().numpy()
    after = to_uint8(sample[:, chosen].float().nan_to_num(0).movedim(1, 0))
    ids = codes.cpu().numpy()[chosen]
    times = -(-LEAST_SIDE // max(before.shape[1:3]))
    large = (pixels.repeat(times, 1).repeat(times, 2) for pixels in (before, after))
    return list(zip(*large, ids, strict=True))


def _titled(pixels: Pixels, title: str) -> Pixels:
    """The picture with a line of words above it."""
    if not title:
        return pixels
    font = ImageFont.load_default(15)
    width = max(pixels.shape[1], round(font.getlength(title)) + 4 * GAP)
    canvas = Image.new("RGB", (width, len(pixels) + 24), "white")
    canvas.paste(Image.fromarray(pixels), (0, 24))
    ImageDraw.Draw(canvas).text((2 * GAP, 2 * GAP), title, INK, font)
    return np.asarray(canvas)
