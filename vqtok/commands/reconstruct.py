"""`vqtok reconstruct`: what a tokenizer keeps of pictures, to see and in figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from vqtok.commands.outputs import Pictures
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Encoded, Failures, Source, encoded, find
from vqtok.errors import ImageError, InputError, LoadError
from vqtok.sheets import colours_of, sheet
from vqtok.tokenizer import VisualTokenizer

__all__ = ["Report", "run"]

Pixels = npt.NDArray[np.uint8]


def run(setup: Setup, arguments: list[str], output: str | None, *, side_by_side: bool) -> int:
    """Prints a line a picture and a summary; returns the exit status."""
    if side_by_side and output is None:
        raise InputError("--side-by-side makes pictures: say where with --output")
    pictures = None if output is None else Pictures(output)
    sources = find(arguments)
    places = {} if pictures is None else _places(pictures, sources)
    failures = Failures(len(sources))
    tok = setup.load()
    colours = colours_of(tok) if side_by_side else None
    report = Report(tok, sources, to_stderr=output == "-")
    for part in encoded(tok, sources, failures, "reconstruct"):
        decoded = tok.decode_codes([one.codes for one in part], "np")
        for one, back in zip(part, decoded, strict=True):
            try:
                report.add(one, back)
            except ImageError as error:
                failures.add(ImageError(f"{one.key!r}: {error}"))
                continue
            if pictures is not None:
                picture = back if colours is None else _sheet(tok, one, back, colours)
                pictures.save(Image.fromarray(picture), places[one.key])
    report.end()
    return failures.status()


def _places(pictures: Pictures, sources: list[Source]) -> dict[str, Path]:
    """Where each key's picture goes; never onto a picture that is read."""
    if pictures.single and len(sources) > 1:
        raise InputError(
            f"{pictures.output!r} takes one picture, and there are {len(sources)}; name a folder "
            "with --output"
        )
    places = {source.key: pictures.place(source.key) for source in sources}
    originals = {s.data.resolve() for s in sources if isinstance(s.data, Path)}
    for place in places.values():
        if place.resolve() in originals:
            raise LoadError(f"--output {pictures.output!r} would overwrite the picture '{place}'")
    return places


def _sheet(tok: VisualTokenizer, one: Encoded, back: Pixels, colours: Pixels) -> Pixels:
    ids = one.codes.ids[0]
    return sheet(one.pixels, back, ids[..., 0] if tok.vocab.depth else ids, colours)


class Report:
    """Figures, printed as they come, and their means."""

    def __init__(self, tok: VisualTokenizer, sources: list[Source], *, to_stderr: bool) -> None:
        self.to_stderr = to_stderr
        self.width = max(len(source.key) for source in sources)
        self.rows: list[tuple[float, float]] = []
        self.used = np.zeros((max(1, tok.vocab.depth), tok.codebook_size), bool)

    def add(self, one: Encoded, back: Pixels) -> None:
        """A picture (h, w, 3) and its reconstruction."""
        from vqtok.metrics.pixels import psnr, ssim

        pair = one.pixels[None], back[None]
        self.rows.append((float(psnr(*pair)[0]), float(ssim(*pair)[0])))
        for level, ids in enumerate(one.codes.ids.reshape(-1, len(self.used)).T):
            self.used[level, ids] = True
        self._print(one.key, *self.rows[-1])

    def end(self) -> None:
        """The means, and the share of the codebook that all pictures together use."""
        if self.rows:
            used = f"  {self.used.sum()} of {self.used.size} codes used"
            psnr, ssim = np.mean(self.rows, axis=0)
            self._print(f"mean of {len(self.rows)}", psnr, ssim, used)

    def _print(self, name: str, psnr: float, ssim: float, rest: str = "") -> None:
        text = f"{name:<{self.width}}  PSNR {psnr:6.2f} dB  SSIM {ssim:.4f}{rest}"
        typer.echo(text, err=self.to_stderr)
