"""`vqtok reconstruct`: what a tokenizer keeps of pictures and clips, to see and in figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image

from vqtok.commands.clips import (
    Clip,
    EncodedClip,
    Padding,
    encode_clip,
    find_clips,
    frames_of,
)
from vqtok.commands.outputs import Movies, Pictures
from vqtok.commands.progress import counted, progress
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Encoded, Failures, Source, check_named, encoded, find
from vqtok.errors import ConfigError, ImageError, InputError, LoadError, plural
from vqtok.preprocess import Preprocess, preprocess_frames
from vqtok.sheets import colours_of, map_of, sheet
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes

__all__ = ["Report", "run"]

Pixels = npt.NDArray[np.uint8]


def run(
    setup: Setup,
    arguments: list[str],
    output: str | None,
    *,
    side_by_side: bool,
    form: str | None = None,
) -> int:
    """Prints a line a picture or clip and a summary; returns the exit status."""
    if side_by_side and output is None:
        raise InputError("--side-by-side makes pictures: say where with --output")
    check_named(arguments)
    tok = setup.load()
    colours = colours_of(tok) if side_by_side else None
    if tok.is_video:
        movies = None if output is None else Movies(output, form)
        return _clips(tok, find_clips(arguments), movies, colours)
    if form is not None:
        raise ConfigError("--format is for clips; this tokenizer makes pictures, PNG")
    return _pictures(tok, find(arguments), None if output is None else Pictures(output), colours)


# --- pictures --------------------------------------------------------------------------------


def _pictures(
    tok: VisualTokenizer,
    sources: list[Source],
    pictures: Pictures | None,
    colours: Pixels | None,
) -> int:
    places = {} if pictures is None else _places(pictures, sources)
    failures = Failures(len(sources))
    to_stderr = pictures is not None and pictures.output == "-"
    report = Report(tok, [source.key for source in sources], to_stderr=to_stderr)
    for part in encoded(tok, sources, failures, "reconstruct"):
        decoded = tok.decode_codes([one.codes for one in part], "np")
        for one, back in zip(part, decoded, strict=True):
            try:
                report.add(one.key, one.codes, [_figures(one.pixels, back)])
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
    _check_single(pictures, len(sources), "picture")
    places = {source.key: pictures.place(source.key) for source in sources}
    originals = {s.data for s in sources if isinstance(s.data, Path)}
    _check_apart(pictures, places, originals, "picture")
    return places


def _check_apart(
    results: Pictures | Movies, places: dict[str, Path], originals: set[Path], what: str
) -> None:
    """Raises where a result would be written onto a file that is read."""
    read = {path.resolve() for path in originals}
    for place in places.values():
        if place.resolve() in read:
            raise LoadError(f"--output {results.output!r} would overwrite the {what} '{place}'")


def _check_single(results: Pictures | Movies, count: int, what: str) -> None:
    if results.single and count > 1:
        raise InputError(
            f"{results.output!r} takes one {what}, and there are {count}; name a folder with "
            "--output"
        )


def _sheet(tok: VisualTokenizer, one: Encoded, back: Pixels, colours: Pixels) -> Pixels:
    return sheet(one.pixels, back, map_of(one.codes), colours)


# --- clips -----------------------------------------------------------------------------------


def _clips(
    tok: VisualTokenizer, clips: list[Clip], movies: Movies | None, colours: Pixels | None
) -> int:
    failures = Failures(len(clips), "clips")
    places = {} if movies is None else _movie_places(movies, clips, tok.settings, failures)
    report = Report(tok, [clip.key for clip in clips], to_stderr=False)
    padding = Padding(tok)
    for clip in clips:
        if movies is not None and clip.key not in places:
            continue
        total = frames_of(clip, tok.settings)
        figures: list[tuple[float, float]] = []
        try:
            with progress(total, f"encode {clip.key}", to_stdout=False) as advance:
                one = encode_clip(tok, clip, advance)
            with progress(total, f"decode {clip.key}", to_stdout=False) as advance:
                frames = counted(_compared(tok, one, colours, figures), advance)
                if movies is None:
                    deque(frames, 0)
                else:
                    movies.save(frames, places[clip.key], one.fps)
        except ImageError as error:
            failures.add(_named(error, clip))
        except LoadError as error:
            failures.add(error)
        else:
            report.add(clip.key, one.codes, figures, f"  {plural(len(figures), 'frame')}")
            padding.add(one)
    report.end()
    padding.say()
    return failures.status()


def _named(error: ImageError, clip: Clip) -> ImageError:
    """Errors of figures know no clip."""
    return error if clip.name in str(error) else ImageError(f"{clip.key!r}: {error}")


def _compared(
    tok: VisualTokenizer,
    one: EncodedClip,
    colours: Pixels | None,
    figures: list[tuple[float, float]],
) -> Iterator[Pixels]:
    """Frames as they come back, or sheets of them; their figures go to `figures`."""
    maps, traits = map_of(one.codes), tok.codec.traits
    seen = preprocess_frames(one.clip.open(tok.settings), tok.settings, name=one.clip.name)
    for number, (before, back) in enumerate(zip(seen, tok.decode_clip(one.codes), strict=True)):
        original = before[: back.shape[0], : back.shape[1]]
        figures.append(_figures(original, back))
        if colours is None:
            yield back
        else:
            yield sheet(original, back, maps[traits.token_of(number)], colours)


def _movie_places(
    movies: Movies, clips: list[Clip], settings: Preprocess, failures: Failures
) -> dict[str, Path]:
    """Where each key's clip goes that can be read; never onto a file that is read."""
    _check_single(movies, len(clips), "clip")
    lengths: dict[str, int] = {}
    for clip in clips:
        try:
            lengths[clip.key] = clip.open(settings).length or 0
        except (ImageError, LoadError) as error:
            failures.add(error)
    places = {key: movies.place(key, length) for key, length in lengths.items()}
    originals = {path for clip in clips for path in clip.files}
    # A folder of frames is a place, too, whose files nobody has named yet.
    _check_apart(movies, places, originals | {path.parent for path in originals}, "clip")
    return places


# --- figures ---------------------------------------------------------------------------------


def _figures(original: Pixels, back: Pixels) -> tuple[float, float]:
    """PSNR and SSIM of a picture or frame (H, W, 3)."""
    from vqtok.metrics.pixels import psnr, ssim

    pair = original[None], back[None]
    return float(psnr(*pair)[0]), float(ssim(*pair)[0])


class Report:
    """Figures, printed as they come, and their means."""

    def __init__(self, tok: VisualTokenizer, keys: list[str], *, to_stderr: bool) -> None:
        self.to_stderr = to_stderr
        self.width = max(map(len, keys))
        self.rows: list[tuple[float, float]] = []
        self.used = np.zeros((max(1, tok.vocab.depth), tok.codebook_size), bool)

    def add(
        self, key: str, codes: Codes, figures: list[tuple[float, float]], rest: str = ""
    ) -> None:
        """A picture's figures, or those of a clip's frames, of which the means count."""
        psnr, ssim = np.mean(figures, axis=0).tolist()
        self.rows.append((psnr, ssim))
        for level, ids in enumerate(codes.ids.reshape(-1, len(self.used)).T):
            self.used[level, ids] = True
        self._print(key, psnr, ssim, rest)

    def end(self) -> None:
        """The means, and the share of the codebook that all pictures together use."""
        if self.rows:
            used = f"  {self.used.sum()} of {self.used.size} codes used"
            psnr, ssim = np.mean(self.rows, axis=0)
            self._print(f"mean of {len(self.rows)}", psnr, ssim, used)

    def _print(self, name: str, psnr: float, ssim: float, rest: str = "") -> None:
        text = f"{name:<{self.width}}  PSNR {psnr:6.2f} dB  SSIM {ssim:.4f}{rest}"
        typer.echo(text, err=self.to_stderr)
