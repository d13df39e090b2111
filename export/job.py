"""One export under way: what is written, and how it is held against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vqtok.codec import TorchCodec
from vqtok.config_file import write_config as write_tokenizer_config
from vqtok.contents import EXPORTED, GRAPHS
from vqtok.errors import MismatchError
from vqtok.export import probe
from vqtok.export.constants import wrong_constants
from vqtok.export.folder import REFUSED, write_config, write_json
from vqtok.export.graphs import write_graphs
from vqtok.export.kinds import Kinds
from vqtok.export.metadata import traits_of
from vqtok.export.parity import Comparison, asked, bounds_of, compare
from vqtok.export.pictures import Batch, Pictures, sizes_of
from vqtok.export.quantize import to_int8
from vqtok.export.runtime import OnnxBackend, OnnxCodec
from vqtok.export.runtime.folder import PARITY, PROBE, SCHEMA
from vqtok.export.runtime.library import onnxruntime
from vqtok.export.runtime.probe import agreement
from vqtok.export.runtime.providers import PROVIDERS
from vqtok.export.settings import ExportSettings
from vqtok.tokenizer import VisualTokenizer

__all__ = ["PARITY_SCHEMA", "Job", "Progress"]

PARITY_SCHEMA = "vqtok-parity/1"
# Of config.json what parity.json repeats, and the packages whose versions it has.
TOLD = ("fingerprint", "precision", "decoder_precision", "opset", "pixels", "codes")
VERSIONS = ("vqtok", "torch", "onnx", "onnxscript", "numpy")
# What goes on, how much of it is done, and of how much: 0 where that is not counted.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """One export under way."""

    tok: VisualTokenizer
    ours: TorchCodec
    kinds: Kinds
    settings: ExportSettings
    pictures: Pictures
    progress: Progress

    def write(self, folder: Path) -> dict[str, Any]:
        """All that a folder needs to be loaded; returns its config.json."""
        graphs = self._graphs(folder)
        self.tok.settings.save(folder)
        write_tokenizer_config(folder, self.tok.vocab, self.tok.fingerprint, None)
        self.progress("probe", 0, 0)
        probe.write(folder, self.ours, self._probe_size())
        described = self._described()
        write_config(folder, described, graphs)
        share = agreement(_loaded(folder), folder / PROBE)
        return write_config(folder, described | {"agreement": share}, graphs)

    def check(self, folder: Path, *, rough: bool) -> dict[str, Any]:
        """Holds the graphs against torch, and writes and returns what came out."""
        theirs = _loaded(folder)
        done = compare(self.ours, theirs, self._batches(), self._advance())
        bounds = bounds_of(self.kinds.encoder, self.kinds.decoder, rough=rough)
        graphs = [folder / name for name in GRAPHS if (folder / name).is_file()]
        wrong = wrong_constants(self.ours.model, graphs, self.settings)
        faults = [*wrong, *done.faults(*bounds)]
        parity = self._parity(theirs, done, faults, bounds)
        write_json(folder / PARITY, parity)
        if faults:
            raise MismatchError(f"the graphs are refused: {'; '.join(faults)}")
        return parity

    def _described(self) -> dict[str, Any]:
        """Of config.json all but its files."""
        settings = self.settings
        return {
            "schema": SCHEMA,
            "model_type": EXPORTED,
            "fingerprint": self.tok.fingerprint.to_dict(),
            "precision": _precision(self.kinds.encoder, settings.precision),
            "decoder_precision": _precision(self.kinds.decoder, settings.decoder_precision),
            "opset": settings.opset,
            "pixels": settings.pixels,
            "codes": settings.codes,
            "agreement": None,
            "traits": traits_of(self.tok).to_dict(),
            "made_with": {name: version(name) for name in ("vqtok", "torch", "onnx")},
        }

    def _graphs(self, folder: Path) -> list[Path]:
        graphs = write_graphs(
            self.tok, folder, self.settings, lambda name: self.progress(name, 0, 0)
        )
        for part, kind in (("encoder", self.kinds.encoder), ("decoder", self.kinds.decoder)):
            for graph in graphs if kind == "int8" else ():
                if graph.stem.endswith(part):
                    self.progress(f"{graph.name} in int8", 0, 0)
                    to_int8(graph)
        return [*graphs, *sorted(folder.glob("*.onnx.data"))]

    def _sizes(self) -> list[tuple[int, ...]]:
        side = self.ours.model.config.sample_size
        return sizes_of(self.ours.traits, self.tok.settings, side)

    def _probe_size(self) -> tuple[int, ...]:
        """Small where it may be."""
        model = self.ours.model
        return self._sizes()[0] if model.is_multiscale else tuple(model.probe_size())

    def _batches(self) -> Iterator[Batch]:
        return (batch for size in self._sizes() for batch in self.pictures.batches(size))

    def _advance(self) -> Callable[[int], None]:
        done, total = 0, self.pictures.rows * len(self._sizes())

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            self.progress("check", done, total)

        self.progress("check", 0, total)
        return advance

    def _parity(
        self, theirs: OnnxCodec, done: Comparison, faults: Sequence[str], bounds: Any
    ) -> dict[str, Any]:
        """parity.json."""
        pictures = self.pictures
        what = {name: value for name, value in self._described().items() if name in TOLD}
        return {
            "schema": PARITY_SCHEMA,
            "verdict": _verdict(done, faults),
            "faults": list(faults),
            **what,
            "made_with": {name: version(name) for name in VERSIONS},
            "onnxruntime": _runtime(theirs),
            "bounds": asked(bounds),
            "pictures": {
                "from": pictures.named,
                "are": "clips" if pictures.source.is_video else "pictures",
                "found": pictures.total,
                "compared": len(pictures),
                "rows": pictures.rows,
                "skipped": pictures.skipped,
            },
            "codebook": {"codes": self.ours.traits.codebook_size, "seen": len(done.ids.seen)},
            **done.to_dict(),
        }


def _loaded(folder: Path) -> OnnxCodec:
    """The graphs as users load them; on the CPU, whose arithmetic is the same everywhere."""
    backend = OnnxBackend(providers=("cpu",), threads=torch.get_num_threads())
    codec: Any = backend.load(folder).codec
    loaded: OnnxCodec = codec
    return loaded


def _precision(kind: str, graphs: str) -> str:
    return kind if kind == "int8" else graphs


def _runtime(codec: OnnxCodec) -> dict[str, Any]:
    return {
        "version": onnxruntime().__version__,
        "provider": PROVIDERS[codec.provider],
        "threads": torch.get_num_threads(),
    }


def _verdict(done: Comparison, faults: Sequence[str]) -> str:
    """In two words, what came of the ids."""
    if faults:
        return REFUSED
    ids = done.ids
    return "other ids" if ids.far else "near ties" if ids.differing else "exact"
