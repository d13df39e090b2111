"""`export`: a tokenizer as a folder of ONNX graphs that keep its ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vqtok import fingerprint
from vqtok.codec import TorchCodec
from vqtok.errors import InputError, MismatchError
from vqtok.export.card import onnx_card
from vqtok.export.folder import CARD, check_place, in_place, writing
from vqtok.export.job import Job, Progress
from vqtok.export.kinds import Kinds
from vqtok.export.options import DEFAULTS, Options
from vqtok.export.pictures import Pictures
from vqtok.export.report import Report
from vqtok.export.runtime.library import onnxruntime
from vqtok.export.settings import ExportSettings
from vqtok.extras import require
from vqtok.folders import unstarted
from vqtok.tokenizer import VisualTokenizer

__all__ = ["checked", "export"]


def export(
    tok: VisualTokenizer | str | os.PathLike[str],
    out: str | os.PathLike[str],
    options: Options = DEFAULTS,
    *,
    progress: Progress | None = None,
    **others: Any,
) -> Report:
    """Writes a folder of ONNX graphs, where these give torch's ids; a `MismatchError` if not.

    tok       a tokenizer on torch, or what `VisualTokenizer.from_pretrained` takes
    options   see `Options`; others: of its fields, by name, which stand over them
    progress  is called with what goes on, how much of it is done, and of how much
    """
    options = options.changed(**others)
    place = _place(out)
    kinds, settings = checked(out, options)
    if not isinstance(tok, VisualTokenizer):
        tok = VisualTokenizer.from_pretrained(tok)
    ours = _ours(tok)
    pictures = Pictures(tok.settings, ours.traits, options.check, options.check_count)
    job = Job(tok, ours, kinds, settings, pictures, progress or _nothing)
    with in_place(place, keep_failed=options.keep_failed) as folder:
        with writing(place):
            config = job.write(folder)
        parity = job.check(folder, rough=options.accept_other_ids)
        text = onnx_card(tok, config, parity)
        (folder / CARD).write_text(text, encoding="utf-8")
    files = {path.name: path.stat().st_size for path in sorted(place.iterdir())}
    return Report(place, files, parity)


def checked(out: str | os.PathLike[str], options: Options) -> tuple[Kinds, ExportSettings]:
    """What is wrong with an export before there is a tokenizer raises here: see `export`."""
    kinds = Kinds.chosen(
        options.dtype, options.decoder_dtype, accept_other_ids=options.accept_other_ids
    )
    given: dict[str, Any] = {} if options.opset is None else {"opset": options.opset}
    settings = kinds.graphs(pixels=options.pixels, codes=options.codes, **given)
    for module in ("onnx", "onnxscript"):
        require(module, "vqtok[export]", "ONNX graphs are made")
    onnxruntime()
    check_place(_place(out), overwrite=options.overwrite, keep_failed=options.keep_failed)
    return kinds, settings


def _nothing(what: str, done: int, total: int) -> None:
    return


def _place(out: str | os.PathLike[str]) -> Path:
    place = Path(out)
    return place if place.name not in ("", "..") and not place.is_symlink() else place.resolve()


def _ours(tok: VisualTokenizer) -> TorchCodec:
    """The tokenizer's codec in the arithmetic that defines ids; an error where it cannot be."""
    codec = tok.codec
    if not isinstance(codec, TorchCodec):
        raise InputError(
            "ONNX graphs are made of a tokenizer that runs on torch; this one runs on "
            f"{type(codec).__name__}"
        )
    if left := unstarted(codec.model):
        raise InputError(
            "the codebook of this tokenizer has not started, so its ids mean nothing: that takes "
            f"{left} more calls of `step`, one after each optimizer step"
        )
    now = fingerprint.of_model(codec.model, tok.settings)
    if now != tok.fingerprint:
        raise MismatchError(
            f"the model is {now} now and was {tok.fingerprint} when this tokenizer was made; make "
            "another with `VisualTokenizer.from_model`"
        )
    return type(codec)(codec.model, tok.fingerprint)
