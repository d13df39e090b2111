"""ONNX graphs as a `Codec`: uint8 pixels to codes and back, without torch."""

from __future__ import annotations

import shutil
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vqtok.config_file import CONFIG_FILE, write_config
from vqtok.contents import CONFIG
from vqtok.errors import CodesError, ConfigError, ImageError, LoadError, MismatchError
from vqtok.export.runtime import probe
from vqtok.export.runtime.folder import PARITY, PROBE, Exported
from vqtok.export.runtime.providers import Target, check_tf32, chosen
from vqtok.export.runtime.sessions import Options, Sessions
from vqtok.pictures import Pixels
from vqtok.preprocess import CONFIG_NAME
from vqtok.strides import Scales
from vqtok.traits import Traits, check_codes
from vqtok.types import Codes, Fingerprint
from vqtok.verdicts import ProbeResult, accepted
from vqtok.vocab import VisualVocab

__all__ = ["OnnxCodec"]

Ids = npt.NDArray[np.integer]


class OnnxCodec:
    """The graphs of a folder, on a target. Picklable, and usable after a fork."""

    runs_on = "ONNX Runtime"
    WHAT, AXES = "pictures", "H, W"

    def __init__(
        self, exported: Exported, target: Target, options: Options, precision: str
    ) -> None:
        check_tf32(target.provider, precision)
        self._exported = exported
        self._fingerprint = exported.fingerprint
        self._sessions = Sessions(exported, target, options, precision)
        self._sessions.settle()

    def __repr__(self) -> str:
        half = self.decoder_precision
        other = f", pixels in {half}" if half != self.precision else ""
        return f"{type(self).__name__}({str(self._exported.path)!r} on {self.provider}{other})"

    # --- what it is -------------------------------------------------------------------------

    @property
    def fingerprint(self) -> Fingerprint:
        """See `Encoder.fingerprint`."""
        return self._fingerprint

    @property
    def precision(self) -> str:
        """See `Encoder.precision`."""
        return self._sessions.precision

    @property
    def decoder_precision(self) -> str:
        """The arithmetic that pixels are made with, which need not be that of ids."""
        own = self._exported.decoder_precision
        return self.precision if (own, self.precision) == ("ieee32", "tf32") else own

    @property
    def traits(self) -> Traits:
        """See `Codec.traits`."""
        return self._exported.traits

    @property
    def device(self) -> str:
        """See `Codec.device`."""
        return self._sessions.target.device

    @property
    def provider(self) -> str:
        """What runs the graphs: "cpu", "cuda" or "tensorrt"."""
        return self._sessions.target.provider

    @property
    def folder(self) -> Path:
        """Where the graphs are."""
        return self._exported.path

    def to(self, device: Any) -> None:
        """Runs the graphs on another device from now on; `ConfigError` where that is not here."""
        now = self._sessions
        keeps = now.target.provider == "tensorrt" and str(device) != "cpu"
        target = chosen(device, ("tensorrt",) if keeps else None)
        if target.device == now.target.device:
            return
        check_tf32(target.provider, now.precision)
        if now.precision == "tf32" and target.provider == "cpu":
            raise ConfigError("precision='tf32' is arithmetic of GPUs; the CPU has none")
        moved = Sessions(self._exported, target, now.options, now.precision)
        moved.settle()
        self._sessions = moved

    def with_fingerprint(self, fingerprint: Fingerprint) -> Self:
        """The same graphs under another print, which other preprocessing gives them."""
        other = copy(self)
        other._fingerprint = fingerprint
        return other

    def verify(self) -> ProbeResult:
        """See `Codec.verify`; compares ids with torch's, in float32, where the folder has them."""
        return accepted(probe.verified(self, self.folder / PROBE), self.folder)

    @property
    def agreement(self) -> float | None:
        """See `Exported.agreement`."""
        return self._exported.agreement

    # --- codes ------------------------------------------------------------------------------

    def encode(self, pixels: Pixels) -> Codes:
        """See `Encoder.encode`."""
        self._check(pixels)
        size = pixels.shape[1:-1]
        traits = self.traits
        return self._codes(self._encoded(pixels), size, traits.scales_of(self._grid_of(size)))

    def decode(self, codes: Codes) -> Pixels:
        """See `Codec.decode`."""
        self._check_codes(codes)
        return self._decoded(codes.ids, self._size_of(codes))

    # --- saving -----------------------------------------------------------------------------

    def save(self, folder: Path, vocab: VisualVocab, variant: str | None) -> None:
        """Copies the folder, with a vocabulary; a README.md that is there already is kept.

        The graphs name the preprocessing, so it has to be theirs.
        """
        if variant is not None:
            raise ConfigError(f"variant={variant!r} names weights of torch; these are ONNX graphs")
        if self.fingerprint != self._exported.fingerprint:
            raise MismatchError(
                f"the graphs in {self.folder} name the preprocessing "
                f"{self._exported.fingerprint.preprocess[:8]}, and this tokenizer's is "
                f"{self.fingerprint.preprocess[:8]}; export the tokenizer with it on torch"
            )
        if folder.exists() and not folder.is_dir():
            raise LoadError(f"{folder} is a file; a tokenizer is saved as a folder")
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.samefile(self.folder):
            self._copy(folder)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        write_config(folder, vocab, self.fingerprint, None)

    def _copy(self, folder: Path) -> None:
        for role in self._exported.roles:
            self._exported.check_unchanged(role)
        for name in (*self._exported.files, CONFIG, CONFIG_NAME):
            shutil.copyfile(self.folder / name, folder / name)
        for name in (PROBE, PARITY):
            (folder / name).unlink(missing_ok=True)  # of an older export
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        card = self.folder / "README.md"
        if card.is_file() and not (folder / card.name).exists():
            shutil.copyfile(card, folder / card.name)

    # --- inside -----------------------------------------------------------------------------

    def _check(self, pixels: Pixels) -> None:
        traits = self.traits
        axes = len(traits.stride)
        if pixels.dtype != np.uint8 or pixels.ndim != 2 + axes or pixels.shape[-1] != 3:
            raise ImageError(
                f"a batch of {self.WHAT} is a uint8 array of the shape (N, {self.AXES}, 3); got "
                f"{pixels.dtype} {pixels.shape}"
            )
        if not len(pixels):
            raise ImageError(
                f"there is no {self.WHAT.removesuffix('s')} in a batch of the shape {pixels.shape}"
            )
        traits.grid_of(pixels.shape[1:-1])

    def _check_codes(self, codes: Codes) -> None:
        traits = self.traits
        if traits.is_multiscale and not codes.scales:
            raise CodesError(
                "codes of several scales do not tell their grid; these come without their scales"
            )
        check_codes(codes, self.fingerprint, traits)
        traits.check_shape(codes.ids.shape[1:])
        if not len(codes):
            raise CodesError(f"there are no codes in a batch of the shape {codes.ids.shape}")

    def _grid_of(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return self.traits.latent_grid_of(size)

    def _size_of(self, codes: Codes) -> tuple[int, ...]:
        """The pixels that codes stand for, before they are cut."""
        return self.traits.size_of(codes.scales[-1] if codes.scales else codes.grid)

    def _encoded(self, pixels: Pixels) -> Ids:
        """(N, ..., 3) uint8 -> ids (N, *grid[, Q]), by the graph for that size."""
        traits = self.traits
        grid = traits.grid_of(pixels.shape[1:-1])
        shape = (len(pixels), *grid, *([traits.depth] if traits.depth else []))
        given = pixels if self._exported.pixels == "uint8" else _floats(pixels)
        ids: Ids = self._graph("encoder", grid).run(given, shape, self._exported.codes)
        return ids

    def _decoded(self, ids: Ids, size: tuple[int, ...]) -> Pixels:
        """Ids (N, *grid[, Q]) -> (N, *size, 3) uint8, by the graph for that grid."""
        given = ids.astype(self._exported.codes, copy=False)
        graph = self._graph("decoder", ids.shape[1 : 1 + self.traits.axes])
        if self._exported.pixels == "uint8":
            pixels: Pixels = graph.run(given, (len(ids), *size, 3), np.uint8)
            return pixels
        return _bytes(graph.run(given, (len(ids), 3, *size), np.float32))

    def _graph(self, role: str, grid: tuple[int, ...]) -> Any:
        return self._sessions.graph(role)

    def _codes(self, ids: Ids, size: tuple[int, ...], scales: Scales = ()) -> Codes:
        traits = self.traits
        sizes = np.tile(np.array(size, np.int32), (len(ids), 1))
        return Codes(
            ids, sizes, traits.codebook_size, self.fingerprint.codebook, traits.depth, scales
        )


def _floats(pixels: Pixels) -> npt.NDArray[np.float32]:
    """(N, ..., 3) uint8 -> (N, 3, ...) in [0, 1]."""
    return np.moveaxis(pixels, -1, 1).astype(np.float32) / np.float32(255)


def _bytes(pixels: npt.NDArray[np.float32]) -> Pixels:
    """(N, 3, ...) in [0, 1] -> (N, ..., 3) uint8, rounded."""
    scaled = np.rint(np.clip(pixels, 0, 1) * np.float32(255))
    return np.ascontiguousarray(np.moveaxis(scaled, 1, -1).astype(np.uint8))
