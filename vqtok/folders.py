"""A tokenizer as a folder: its model, its probe, and files that say what it is.

`visual_tokenizer_config.json` says how ids are laid out, and holds the print of each variant.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any, Protocol

from vqtok import card, fingerprint, probe
from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.loading import load_model
from vqtok.checkpoints.beside import read_settings
from vqtok.checkpoints.report import SCHEMA as REPORT_SCHEMA
from vqtok.config_file import CONFIG_FILE, print_in, read_config, vocab_in, write_config
from vqtok.contents import DISCRIMINATOR
from vqtok.errors import LoadError, MismatchError
from vqtok.preprocess import CONFIG_NAME, Preprocess
from vqtok.quantizers.vector import tables_of
from vqtok.types import Fingerprint
from vqtok.vocab import VisualVocab

__all__ = [
    "CONFIG_FILE",
    "CONVERSION",
    "Savable",
    "load",
    "plain_settings",
    "read_config",
    "read_report",
    "save",
    "settings_of",
    "unstarted",
    "vocab_of",
    "write_config",
]

CONVERSION = "conversion.json"


class Savable(Protocol):
    """What a folder is made of; a `VisualTokenizer` has it."""

    @property
    def model(self) -> AutoencoderBase: ...
    @property
    def settings(self) -> Preprocess: ...
    @property
    def vocab(self) -> VisualVocab: ...
    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def conversion(self) -> dict[str, Any] | None: ...
    @property
    def discriminator(self) -> Path | None: ...


def load(
    folder: Path, variant: str | None
) -> tuple[AutoencoderBase, Fingerprint, Preprocess, VisualVocab | None]:
    """What a folder holds, where it is what it was saved as."""
    stored = read_config(folder)
    vocab = vocab_in(folder, stored)
    model = load_model(folder, variant)
    settings = settings_of(folder, model)
    found = fingerprint.of_folder(folder, settings, variant)
    _verify(folder, stored, found, variant)
    return model, found, settings, vocab


def save(tok: Savable, folder: Path, variant: str | None, max_shard_size: int | str) -> None:
    """Writes a tokenizer that is still the one that was made; keeps a README.md."""
    if folder.exists() and not folder.is_dir():
        raise LoadError(f"{folder} is a file; a tokenizer is saved as a folder")
    _check_unchanged(tok)
    left = unstarted(tok.model)
    if left:
        warnings.warn(
            "the codebook of this tokenizer has not started, so its ids mean nothing: that takes "
            f"{left} more calls of `step`, one after each optimizer step",
            stacklevel=3,
        )
    _forget_index(folder, variant)
    tok.model.save_pretrained(folder, variant=variant, max_shard_size=max_shard_size)
    tok.settings.save(folder)
    probe.write(folder, tok.model, variant)
    write_config(folder, tok.vocab, tok.fingerprint, variant)
    _write_report(folder, tok.conversion)
    _keep_discriminator(folder, tok.discriminator)
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text(card.model_card(tok), encoding="utf-8")


def vocab_of(model: AutoencoderBase) -> VisualVocab:
    """The vocabulary of a model's codes alone: they begin at 0, and rows of a grid have an end."""
    order = "sequence" if model.code_axes == 1 else "raster"
    quantize = model.quantize
    return VisualVocab(quantize.codebook_size, depth=quantize.depth, order=order)


def unstarted(model: AutoencoderBase) -> int:
    """How many optimizer steps are left until each codebook of a model has started."""
    tables = tables_of(model.quantize)
    return max([0, *(table.open_steps - int(table.steps) for table in tables)])


def read_report(folder: Path) -> dict[str, Any]:
    """The conversion.json of a folder that was converted, {} of another."""
    file = folder / CONVERSION
    if not file.is_file():
        return {}
    found = read_settings(file)
    if found.get("schema") != REPORT_SCHEMA:
        raise LoadError(
            f"{file} has the schema {found.get('schema')!r}; this version reads {REPORT_SCHEMA!r}"
        )
    return found


def _write_report(folder: Path, report: dict[str, Any] | None) -> None:
    """What `read_report` reads; one of an older tokenizer in that folder goes."""
    if report is None:
        (folder / CONVERSION).unlink(missing_ok=True)
        return
    text = json.dumps(report, indent=2) + "\n"
    (folder / CONVERSION).write_text(text, encoding="utf-8")


def _keep_discriminator(folder: Path, file: Path | None) -> None:
    """Copies what training goes on from; that of an older tokenizer in that folder goes."""
    place = folder / DISCRIMINATOR
    if file is None:
        place.unlink(missing_ok=True)
    elif not place.exists() or not place.samefile(file):
        shutil.copyfile(file, place)


def settings_of(folder: Path, model: AutoencoderBase) -> Preprocess:
    """The preprocessing that the folder of `model` names, or `plain_settings`."""
    return Preprocess.load(folder) if (folder / CONFIG_NAME).is_file() else plain_settings(model)


def plain_settings(model: AutoencoderBase) -> Preprocess:
    """Pictures in their own size, cut to whole tokens, and clips extended to such.

    Where a model takes but one size, the middle of them in that size.
    """
    stride = model.spatial_compression_ratio
    if model.only_size is None:
        return Preprocess(policy="extend" if model.is_video else "native", stride=stride)
    return Preprocess(policy="center", size=model.only_size, stride=stride)


def _verify(folder: Path, stored: dict[str, Any], found: Fingerprint, variant: str | None) -> None:
    """Raises where the files are not those whose print `stored` names."""
    saved = print_in(folder, stored, variant)
    if saved is None:
        return
    parts = saved.differences(found)
    if parts:
        machine = ", or pictures are resized otherwise on this machine"
        raise MismatchError(
            f"{folder} was saved as {saved}, but is {found}: another {', '.join(parts)}; its files "
            f"were changed or damaged since{machine if 'preprocess' in parts else ''}"
        )


def _check_unchanged(tok: Savable) -> None:
    """Raises where ids that this tokenizer has made may be others than it makes now."""
    now = fingerprint.of_model(tok.model, tok.settings)
    if now != tok.fingerprint:
        raise MismatchError(
            f"the model is {now} now and was {tok.fingerprint} when this tokenizer was made; make "
            "another with `VisualTokenizer.from_model`"
        )


def _forget_index(folder: Path, variant: str | None) -> None:
    """Removes the index of older, sharded weights: left behind, it would win over new ones."""
    middle = f".{variant}" if variant else ""
    index = folder / f"diffusion_pytorch_model.safetensors.index{middle}.json"
    index.unlink(missing_ok=True)
