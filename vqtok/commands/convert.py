"""`vqtok convert`: a checkpoint as a folder of ours, or ours as another project has it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import typer
import yaml

from vqtok.autoencoders import AutoencoderBase
from vqtok.autoencoders.loading import load_model
from vqtok.commands.setup import Setup, say_converting
from vqtok.contents import DISCRIMINATOR, is_tokenizer
from vqtok.conversions import Source, stock, write
from vqtok.errors import ConfigError, LoadError, UnknownNameError, did_you_mean
from vqtok.files import save_tensors
from vqtok.folders import read_report
from vqtok.hub import Resolved, of_run
from vqtok.obtain import find
from vqtok.tokenizer import VisualTokenizer

__all__ = ["FORMS", "run"]

FORMS = ("vqtok", "diffusers", "taming")
PICKLES = (".ckpt", ".pt", ".pth")
TENSORS = ".safetensors"
STOCK = "diffusers_vq"  # what `resolve` calls a folder of diffusers' own VQModel


def run(setup: Setup, output: str, form: str = "vqtok", *, overwrite: bool = False) -> int:
    """Writes `output`, and prints what came of each tensor."""
    if form not in FORMS:
        raise UnknownNameError(f"there is no form called {form!r}. {did_you_mean(form, FORMS)}")
    place = Path(output)
    place = place if place.name not in ("", "..") else place.resolve()
    _check(place, form, overwrite=overwrite)
    found = find(replace(setup.request(), name=of_run(setup.name)))
    if isinstance(found, Resolved) and found.family == STOCK and not read_report(found.path):
        found = stock(found, setup.variant)
    report = ""
    if isinstance(found, Source):
        say_converting(found, place)
        prints = found.prints()
        made = found.build()
        model, report, judged = made.model, str(made.report), bool(made.discriminator)
        save: Callable[[Path], None] = partial(write, made, source=found, prints=prints)
    else:
        model = load_model(found.path, setup.variant)
        judged = (found.path / DISCRIMINATOR).is_file()
        save = partial(_copy, found, setup.variant)
    _put(place, {"vqtok": save, **_others(model)}[form])
    lines = [report] if report else []
    if judged and form != "vqtok":
        lines.append(
            f"{'left out':<14}the kept discriminator: the form of {form} has no place for it"
        )
    lines.append(f"{'written':<14}{place}" if lines else f"written {place}")
    typer.echo("\n".join(lines))
    return 0


# --- where it goes ----------------------------------------------------------------------------


def _check(place: Path, form: str, *, overwrite: bool) -> None:
    """Raises where the output cannot be, before anything is downloaded."""
    if form == "taming" and place.suffix not in (*PICKLES, TENSORS):
        raise ConfigError(
            f"taming's form is one file: name one that ends with {', '.join((TENSORS, *PICKLES))}; "
            f"got {str(place)!r}"
        )
    if form == "taming" and not place.parent.is_dir():
        raise LoadError(f"there is no folder {place.parent} for {place.name}")
    there = next(folder for folder in place.absolute().parents if folder.exists())
    if not there.is_dir():
        raise LoadError(f"{there} is a file, so there can be no {place}")
    beside = place.with_suffix(".yaml")
    if form == "taming" and beside.exists() and not place.exists() and not overwrite:
        raise LoadError(f"{beside} is there already; --overwrite replaces it")
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite:
        raise LoadError(f"{place} is there already; --overwrite replaces it")
    if form == "taming" and not place.is_file():
        raise LoadError(f"{place} is a folder; name a file")
    if form != "taming" and not is_tokenizer(place):
        raise LoadError(f"{place} is no tokenizer's folder, so it is not replaced; name another")


def _put(place: Path, save: Callable[[Path], None]) -> None:
    """Has `save` write beside the place, then moves what it wrote there."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        room = tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent)
    except OSError as error:
        raise LoadError(f"{place} cannot be written: {error.strerror or error}") from error
    with room as folder:
        beside = Path(folder) / place.name
        save(beside)
        if place.is_dir():
            shutil.rmtree(place)
        for made in sorted(Path(folder).iterdir()):
            made.replace(place.parent / made.name)


# --- forms ------------------------------------------------------------------------------------


def _copy(found: Resolved, variant: str | None, folder: Path) -> None:
    """A tokenizer of ours, as another folder."""
    VisualTokenizer.from_pretrained(found.path, variant=variant).save_pretrained(folder)


def _others(model: AutoencoderBase) -> Mapping[str, Callable[[Path], None]]:
    return {"diffusers": partial(_to_diffusers, model), "taming": partial(_to_taming, model)}


def _to_diffusers(model: AutoencoderBase, folder: Path) -> None:
    model.to_diffusers().save_pretrained(folder)


def _to_taming(model: AutoencoderBase, file: Path) -> None:
    """The weights, and the YAML that says how they are loaded."""
    import torch

    from vqtok.checkpoints.taming import to_taming
    from vqtok.checkpoints.taming_yaml import taming_settings

    tensors = {name: tensor.contiguous() for name, tensor in to_taming(model).items()}
    if file.suffix == TENSORS:
        save_tensors(tensors, file)
    else:
        torch.save({"state_dict": tensors}, file)
    text = yaml.safe_dump(taming_settings(model), sort_keys=False)
    file.with_suffix(".yaml").write_text(text, encoding="utf-8")
