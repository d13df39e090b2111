"""1X's world model data (1xgpt): the token grids of all frames in one file.

`RawTokenDataset` maps video.bin, uint32 (frames, s, s), and takes windows of frames whose
segment_ids.bin, int32, are equal; metadata.json tells num_images, s, vocab_size and hz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vqtok.errors import ConfigError, InputError
from vqtok.offline.exports import Advance, Tokens, Told, export
from vqtok.offline.exports.outputs import told_rows
from vqtok.offline.exports.survey import Survey, check_flat, codes_of, survey
from vqtok.offline.stored import canonical

__all__ = ["one_x_gpt"]


@export("1xgpt", what="codes")
def one_x_gpt(tokens: Tokens, folder: Path, advance: Advance, *, hz: float | None = None) -> Told:
    """video.bin, segment_ids.bin and metadata.json; each row of clips is a segment of its own.

    hz  token frames a second, which the trainer divides by; data sets do not tell it
    """
    if hz is None or not hz > 0:
        raise ConfigError(
            "the 1xgpt export needs hz, the token frames in a second of video: frames a second, "
            f"over the clips' stride and the tokenizer's own in time; got {hz}"
        )
    found = survey(tokens)
    check_flat(tokens, found, "1xgpt")
    side = _side(found)
    frames = 0
    with (
        (folder / "video.bin").open("wb") as video,
        (folder / "segment_ids.bin").open("wb") as segments,
    ):
        for number, row in enumerate(told_rows(tokens, folder, advance)):
            codes = codes_of(row)
            video.write(codes.astype("<u4").tobytes())
            segments.write(np.full(len(codes), number, "<i4").tobytes())
            frames += len(codes)
    metadata = {
        "hz": hz,
        "num_images": frames,
        "s": side,
        "token_dtype": "uint32",
        "vocab_size": tokens.plan.tokenizer.codebook_size,
    }
    (folder / "metadata.json").write_bytes(canonical(metadata))
    return {"frames": frames, "segments": len(tokens)}


def _side(found: Survey) -> int:
    """Of the token grids, which are square and of one size; clips may differ in length."""
    for shape, key in found.codes.items():
        if len(shape) != 3:
            raise InputError(
                "the 1xgpt export is for a trainer of clips, and the grid of "
                f"{key!r} is {'x'.join(map(str, shape))}; export to megatron, mds or webdataset"
            )
    sides = {side for shape in found.codes for side in shape[1:]}
    if len(sides) > 1:
        shown = ", ".join(sorted("x".join(map(str, shape[1:])) for shape in found.codes))
        raise InputError(
            f"the 1xgpt export has square token grids of one size for all frames; this data set "
            f"has {shown}"
        )
    return sides.pop()
