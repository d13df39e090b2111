"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "DEFAULT",
    "Backend",
    "BatchSize",
    "Device",
    "Format",
    "Name",
    "Policy",
    "Precision",
    "Revision",
    "Size",
    "Sources",
    "Subfolder",
    "Variant",
]

DEFAULT = "photo-tiny"

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE|CLIP",
        help="Pictures, folders of pictures, or - for one picture on standard input; where the "
        "tokenizer takes clips, videos, folders of videos or of numbered frames, or pictures.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--tokenizer",
        "-t",
        help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
        "project's checkpoint or its name in `vqtok info --list`.",
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="A branch, tag or commit of org/name on the hub.")
]
Subfolder = Annotated[
    str | None, typer.Option(help="Where in its folder or repository the tokenizer lies.")
]
Variant = Annotated[
    str | None, typer.Option(help="Which weights, such as fp16, where a tokenizer has several.")
]
Size = Annotated[
    str | None,
    typer.Option(
        help="The side of the square to bring pictures to, or HEIGHTxWIDTH, in multiples of the "
        "stride. By default the tokenizer's own."
    ),
]
Policy = Annotated[
    str | None,
    typer.Option(
        help="How to bring them there: center (crop), stretch, pad; adm, taming or torchvision, "
        "as published tokenizers did; or native, which leaves them as large as they are but for a "
        "cut to a multiple of the stride; or extend, which cuts nothing and repeats the edges "
        "instead. By default the tokenizer's own."
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="How clips are written into a folder: mp4, webm, gif, mkv (without loss) or png "
        "(a folder of frames). By default mp4, and png for a single frame.",
    ),
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="ieee32 defines ids; tf32, bf16 and fp16 are faster and change some. By default that "
        "of the tokenizer's folder, of weights ieee32."
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        help="What runs it: torch; onnx, for what `vqtok export` wrote; auto is what its folder is "
        "for."
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Pictures of one size that go through the model together.")
]
