"""The verb that takes other projects' checkpoints, and gives ours back to them."""

from __future__ import annotations

from typing import Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.options import Revision, Subfolder, Variant

__all__ = ["convert"]


@app.command(
    epilog="""\b
Examples:
  vqtok convert vq_ds16_c2i.pt llamagen/
  vqtok convert FoundationVision/LlamaGen llamagen/ --filename vq_ds16_c2i.pt
  vqtok convert last.ckpt vqgan/ --config model.yaml
  vqtok convert photo-tiny photo/ --to diffusers
  vqtok convert runs/mine mine.ckpt --to taming"""
)
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A checkpoint's file, a folder with one, a name of `vqtok info --list`, org/name "
            "on the hub with --filename; or a tokenizer of ours.",
        ),
    ],
    output: Annotated[
        str, typer.Argument(metavar="DST", help="The folder to write; with --to taming a file.")
    ],
    family: Annotated[
        str, typer.Option(help="Whose checkpoint it is; auto goes by the names of its tensors.")
    ] = "auto",
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The YAML or JSON that it was trained with. By default one beside it.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the source, as often as you like."
        ),
    ] = None,
    filename: Annotated[
        str | None, typer.Option(metavar="FILE", help="Which file of a folder or repository.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="vqtok|diffusers|taming",
            help="What to write: a tokenizer's folder, a stock VQModel's, or a file with the "
            "names of taming-transformers.",
        ),
    ] = "vqtok",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a tokenizer that is there.")
    ] = False,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
) -> None:
    """Another project's checkpoint to a tokenizer's folder, or a tokenizer of ours to its form.

    Prints what was loaded, what was dropped and why, and what to know of the source. A pickle that
    names anything but tensors and settings is refused.
    """
    from vqtok.commands.convert import run, settings_from
    from vqtok.obtain import Request

    request = Request(
        source,
        revision,
        subfolder,
        variant,
        filename=filename,
        family=None if family == "auto" else family,
        config=config,
        settings=settings_from(sets or ()),
    )
    raise typer.Exit(run(request, output, to, overwrite=overwrite))
