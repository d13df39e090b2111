"""What `vqtok info` says of a folder that `vqtok export` wrote, besides what all others have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtok.contents import CONFIG
from vqtok.export.report import ids_line, notes, pictures_line, pixels_line
from vqtok.export.runtime import OnnxCodec, probe
from vqtok.export.runtime.folder import PARITY, PROBE
from vqtok.export.runtime.library import onnxruntime
from vqtok.export.runtime.providers import PROVIDERS

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.verdicts import ProbeResult

__all__ = ["behaviour", "described"]

TOLD = ("precision", "decoder_precision", "opset")


def behaviour(tok: VisualTokenizer) -> ProbeResult:
    """What comes of its probe on this machine, whatever that is."""
    codec = _codec(tok)
    return probe.check(codec, codec.folder / PROBE)


def described(tok: VisualTokenizer) -> dict[str, Any]:
    """What runs the graphs, what they compute in, how large they are, and what parity.json says."""
    codec = _codec(tok)
    config = _read(codec.folder / CONFIG)
    return {
        "runs_on": f"ONNX Runtime {onnxruntime().__version__}, {PROVIDERS[codec.provider]}",
        **{name: config[name] for name in TOLD},
        "graphs": {name: stored["bytes"] for name, stored in config["files"].items()},
        "takes": {"pixels": config["pixels"], "codes": config["codes"]},
        "made_with": config["made_with"],
        "against_torch": _parity(codec.folder / PARITY),
    }


def _codec(tok: VisualTokenizer) -> OnnxCodec:
    codec = tok.codec
    assert isinstance(codec, OnnxCodec)  # by the caller
    return codec


def _parity(file: Path) -> Any:
    if not file.is_file():
        return "not known: the folder has no parity.json"
    parity = _read(file)
    lines = {
        "compared": pictures_line(parity),
        "ids": ids_line(parity),
        "pixels": pixels_line(parity),
    }
    told = notes(parity)
    return {**lines, "notes": "; ".join(told)} if told else lines


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
