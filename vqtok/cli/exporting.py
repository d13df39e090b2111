"""The verb that writes tokenizers as ONNX graphs."""

from __future__ import annotations

from inspect import Parameter
from typing import TYPE_CHECKING, Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import chooses
from vqtok.export.options import DEFAULTS, Options

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

__all__ = ["export"]


Which = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
        "project's checkpoint or its name in `vqtok info --list`.",
    ),
]


@app.command(
    epilog="""\b
Examples:
  vqtok export photo-tiny graphs/
  vqtok export runs/mine/tokenizer graphs/ --check photos/ --check-count 200
  vqtok export photo-tiny graphs/ --dtype fp16
  vqtok export photo-tiny graphs/ --decoder-dtype int8 --overwrite

Then, on ONNX Runtime:
  vqtok serve graphs/
  vqtok tokenize photos/ tokens/ --tokenizer graphs/"""
)
@chooses("size", "policy", name=Which, default=Parameter.empty)
def export(
    output: Annotated[str, typer.Argument(metavar="OUT", help="The folder to write.")],
    dtype: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16",
            help="The encoder's arithmetic: fp32 keeps torch's ids; fp16 is half as large, faster "
            "on a GPU, and changes some, which the report counts.",
        ),
    ] = DEFAULTS.dtype,
    decoder_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="The decoder's, which changes pixels and no ids. By default the encoder's.",
        ),
    ] = DEFAULTS.decoder_dtype,
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Of ONNX. By default the one that was found to run best; an older runtime may "
            "want a lower one.",
        ),
    ] = DEFAULTS.opset,
    pixels: Annotated[
        str,
        typer.Option(
            metavar="uint8|float",
            help="uint8 is (N, H, W, 3), as picture files have them; float is float32 "
            "(N, 3, H, W) in [0, 1]. Normalisation is in the graph, either way.",
        ),
    ] = DEFAULTS.pixels,
    codes: Annotated[
        str, typer.Option(metavar="int64|int32", help="The type of ids in the graphs.")
    ] = DEFAULTS.codes,
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Pictures that the graphs are held against torch with: a folder, a file, an "
            "archive or a URL, as often as you like; for a tokenizer of clips, videos as well. By "
            "default the sample photographs of the package: your own say more.",
        ),
    ] = None,
    check_count: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most so many of them, evenly spaced.")
    ] = DEFAULTS.check_count,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that this verb wrote.")
    ] = DEFAULTS.overwrite,
    accept_other_ids: Annotated[
        bool,
        typer.Option(
            "--accept-other-ids",
            help="Take an int8 encoder, or an fp16 one that changes very many ids: another "
            "tokenizer, whose ids no model knows that was trained on these.",
        ),
    ] = DEFAULTS.accept_other_ids,
    keep_failed: Annotated[
        bool,
        typer.Option(
            "--keep-failed",
            help="Where the graphs are refused, keep them and their parity.json in OUT.failed.",
        ),
    ] = DEFAULTS.keep_failed,
    *,
    setup: Setup,
) -> None:
    """A tokenizer as ONNX graphs that give torch's ids.

    OUT gets encoder.onnx and decoder.onnx, the files that say what they are, and parity.json: both
    were run on the same pictures, at two sizes and in batches of 1, 3 and 8. In fp32 at least
    99.9 % of ids must be equal, and each other one a near tie, its code no more than 1e-5 farther
    from the vector than the nearest. Graphs that break this are refused, and nothing is written.
    """
    from vqtok.commands.export import run

    options = Options(
        dtype=dtype,
        decoder_dtype=decoder_dtype,
        opset=opset,
        pixels=pixels,
        codes=codes,
        check=check or None,
        check_count=check_count,
        overwrite=overwrite,
        accept_other_ids=accept_other_ids,
        keep_failed=keep_failed,
    )
    raise typer.Exit(run(setup, output, options))
