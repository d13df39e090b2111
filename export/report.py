"""What came of an export, in a few lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqtok.errors import plural
from vqtok.strides import by

__all__ = ["Report", "ids_line", "notes", "pictures_line", "pixels_line"]

# Of what could not be read, how many are named.
NAMED = 3
HALVES = ("precision", "decoder_precision")


@dataclass(frozen=True)
class Report:
    """A folder of graphs that were accepted.

    files   names and bytes
    parity  what its parity.json says
    """

    folder: Path
    files: dict[str, int]
    parity: dict[str, Any]

    def __str__(self) -> str:
        graphs = {name: size for name, size in self.files.items() if ".onnx" in name}
        rows = [(name, f"{size / 1e6:,.1f} MB") for name, size in graphs.items()]
        rows += [
            ("compared", pictures_line(self.parity)),
            ("ids", ids_line(self.parity)),
            ("pixels", pixels_line(self.parity)),
            *(("note", note) for note in notes(self.parity)),
            ("written", str(self.folder)),
        ]
        width = max(len(name) for name, _ in rows) + 2
        return "\n".join(f"{name:<{width}}{text}" for name, text in rows)


def pictures_line(parity: Mapping[str, Any]) -> str:
    """What the graphs were held against torch with."""
    pictures, runs, codebook = parity["pictures"], parity["runs"], parity["codebook"]
    sizes = dict.fromkeys(by(run["size"]) for run in runs)
    batches = dict.fromkeys(str(run["batch"]) for run in runs)
    what = pictures["are"].removesuffix("s")
    some = f" of {pictures['found']:,}" if pictures["compared"] < pictures["found"] else ""
    turned = ""
    if (rows := pictures["rows"]) > pictures["compared"]:
        turned = f", {rows} with those turned over"
    return (
        f"{plural(pictures['compared'], what)}{some} of {pictures['from']}{turned}; sizes "
        f"{', '.join(sizes)}; batches of {', '.join(batches)}; "
        f"{plural(parity['encoder']['ids'], 'id')}, {codebook['seen']:,} of "
        f"{codebook['codes']:,} codes among them"
    )


def ids_line(parity: Mapping[str, Any]) -> str:
    """How many agree, and what is known of the others."""
    found = parity["encoder"]
    if not found["differing"]:
        return "all equal"
    line = f"{found['agreement']:.3%} equal, {found['differing']:,} differ"
    far = found["no_near_tie"]
    ties = found["differing"] - far
    if found["after_another"]:
        line += f", {found['after_another']:,} of them after another one"
    parts = [plural(ties, "near tie")] if ties else []
    parts += [f"{far:,} no near tie{'s' * (far > 1)}"] if far else []
    greatest = found["greatest_excess"]
    beyond = "infinitely" if greatest is None else f"by up to {greatest:.1e}"
    return f"{line}: {', '.join(parts)}; farther than the nearest code {beyond}"


def pixels_line(parity: Mapping[str, Any]) -> str:
    """How far decoded pixels are off torch's."""
    found = parity["decoder"]
    if found["psnr"] is None:
        return "all bytes equal"
    return (
        f"{found['share_equal']:.3%} of bytes equal, the others off by up to {found['max_abs']} "
        f"of 255; {found['psnr']:.1f} dB"
    )


def notes(parity: Mapping[str, Any]) -> list[str]:
    """What is to be known of the arithmetic, aloud."""
    found = []
    halved = [name for name in HALVES if parity[name] == "fp16"]
    if halved:
        provider = parity["onnxruntime"]["provider"]
        found.append(
            f"{provider} computes float16 graphs in float32 where it can; a GPU does not, and "
            "changes more than this"
        )
    if parity["encoder"]["no_near_tie"]:
        found.append(
            "ids are others than torch's in float32: encode all data of a model with one of them"
        )
    if skipped := parity["pictures"]["skipped"]:
        found.append(_unread(skipped))
    return found


def _unread(skipped: Mapping[str, str]) -> str:
    named = [f"{name!r} ({why})" for name, why in [*skipped.items()][:NAMED]]
    more = f", and {len(skipped) - NAMED:,} more" if len(skipped) > NAMED else ""
    return f"could not be read: {', '.join(named)}{more}"
