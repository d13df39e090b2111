"""The verb that takes other projects' checkpoints, and gives ours back to them."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import chooses

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

__all__ = ["convert"]


Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="A checkpoint's file, a folder with one, a name of `vqtok info --list`, org/name on "
        "the hub with --filename; or a tokenizer of ours.",
    ),
]


@app.command(
    epilog="""\b
Examples:
  vqtok convert vq_ds16_c2i.pt llamagen/
  vqtok convert FoundationVision/LlamaGen llamagen/ --filename vq_ds16_c2i.pt
  vqtok convert last.ckpt vqgan/ --config model.yaml
  vqtok convert photo-tiny photo/ --to diffusers
  vqtok convert runs/mine mine.ckpt --to taming"""
)
@chooses(name=Source, default=Parameter.empty)
def convert(
    output: Annotated[
        str, typer.Argument(metavar="DST", help="The folder to write; with --to taming a file.")
    ],
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
    *,
    setup: Setup,
) -> None:
    """Another project's checkpoint to a tokenizer's folder, or a tokenizer of ours to its form.

    Prints what was loaded, what was dropped and why, and what to know of the source. A pickle that
    names anything but tensors and settings is refused.
    """
    from vqtok.commands.convert import run

    raise typer.Exit(run(setup, output, to, overwrite=overwrite))
