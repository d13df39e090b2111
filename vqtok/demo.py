"""Encodes and decodes the sample photographs: `python -m vqtok.demo [FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vqtok.errors import VqtokError
from vqtok.metrics.pixels import psnr
from vqtok.preprocess import preprocess
from vqtok.sheets import code_map, colours_of, gallery, plane
from vqtok.tokenizer import VisualTokenizer
from vqtok.zoo import samples

__all__ = ["demo", "main"]

NAME = "photo-tiny"
SIDE = 32  # codes, where the tokenizer itself fixes no size
PICTURE = "original-reconstruction-codes.png"


def demo(folder: Path, name: str = NAME) -> None:
    """Writes ids of each sample and one picture of them all into `folder`, and prints figures."""
    folder.mkdir(parents=True, exist_ok=True)
    tok = VisualTokenizer.from_pretrained(name)
    if tok.settings.keeps_size:  # pictures of several sizes would not lie side by side
        size = SIDE * tok.model.spatial_compression_ratio
        tok = tok.with_preprocess(policy="center", size=size, max_area=None)
    colours = colours_of(tok)
    used = np.zeros(tok.codebook_size, bool)
    columns = []
    print(f"{name}: {tok.codebook_size} codes, {tok.fingerprint}")
    for path in samples():
        ids = np.array(tok.encode(path))
        back = tok.decode(ids, output_type="np")
        original = preprocess(path, tok.settings)
        grid = tok.encode_codes([path])[0].numpy()
        used[grid] = True
        np.save(folder / f"{path.stem}.npy", ids)
        seen = plane(grid, tok.vocab.depth)
        columns.append([original, back, code_map(seen, colours, original.shape[:2])])
        print(
            f"{path.stem:>10}: {grid.shape[0]} x {grid.shape[1]} codes, {len(ids)} ids "
            f"{str(ids[:6].tolist())[1:-1]}, ...; PSNR {psnr(original[None], back[None])[0]:.2f} dB"
        )
    Image.fromarray(gallery(columns)).save(folder / PICTURE)
    share = f"{used.sum()} of {len(used)}"
    print(f"{share} codes are used by the {len(columns)} pictures together")
    print(f"ids (.npy) and {PICTURE} are in {folder.resolve()}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m vqtok.demo", description="Encodes and decodes the sample photographs."
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("demo"), help="where results go (./demo)"
    )
    parser.add_argument(
        "--tokenizer", default=NAME, help=f"a name, a folder, or org/name on the hub ({NAME})"
    )
    given = parser.parse_args(arguments)
    try:
        demo(given.folder, given.tokenizer)
    except (VqtokError, OSError) as error:
        sys.exit(f"vqtok.demo: {error}")


if __name__ == "__main__":
    main()
