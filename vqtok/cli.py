"""The `vqtok` command: one verb a job. Each verb imports what it needs, so `--help` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vqtok.errors import VqtokError

__all__ = ["app", "main"]

DEFAULT = "photo-tiny"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Pixels to discrete tokens and back.",
    epilog="""\b
Examples:
  vqtok encode photos/ -o codes.jsonl
  vqtok decode codes.jsonl -o back/
  vqtok encode a.jpg | vqtok decode - -o - > back.png
  vqtok reconstruct photos/ --side-by-side -o sheets/
  vqtok info --precision all""",
)

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="PICTURE",
        help="Pictures, folders of pictures, or - for one picture on standard input.",
    ),
]
Name = Annotated[
    str,
    typer.Option(
        "--tokenizer",
        "-t",
        help="A tokenizer folder, the name of one in the package, or org/name on the hub.",
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
        help="How to bring them there: center (crop), stretch, pad; adm or taming, as published "
        "tokenizers did; or native, which leaves them as large as they are. By default the "
        "tokenizer's own."
    ),
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one.")
]
Precision = Annotated[
    str, typer.Option(help="ieee32 defines ids; tf32, bf16 and fp16 are faster and change some.")
]
BatchSize = Annotated[
    int, typer.Option(min=1, help="Pictures of one size that go through the model together.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from vqtok import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command(
    epilog="""\b
Examples:
  vqtok encode a.jpg b.png > codes.jsonl
  vqtok encode photos/ -o codes.jsonl --size 512
  curl -s https://example.org/a.jpg | vqtok encode -"""
)
def encode(
    sources: Sources,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .jsonl file, or - for standard output.")
    ] = "-",
    tokenizer: Name = DEFAULT,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    size: Size = None,
    policy: Policy = None,
    device: Device = "auto",
    precision: Precision = "ieee32",
    batch_size: BatchSize = 16,
) -> None:
    """Pictures to codes.

    One line of JSON a picture: key, size, grid, codebook, precision and codes. The key of a
    picture in a folder is its path inside it.

    A picture that cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.encode import run
    from vqtok.commands.setup import Setup

    place = tokenizer, revision, subfolder, variant
    raise typer.Exit(
        run(Setup(*place, device, precision, batch_size, size, policy), sources, output)
    )


@app.command(
    epilog="""\b
Examples:
  vqtok decode codes.jsonl -o back/
  vqtok encode a.jpg | vqtok decode - -o back.png"""
)
def decode(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CODES", help="A file that `vqtok encode` wrote, or - for standard input."
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A folder; or a .png file, or -, where there is one picture."
        ),
    ],
    tokenizer: Name = DEFAULT,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
) -> None:
    """Codes to pictures (PNG).

    A picture is written under its key, with .png behind it; a file of that name is replaced. Codes
    of another codebook are refused.
    """
    from vqtok.commands.decode import run
    from vqtok.commands.setup import Setup

    place = tokenizer, revision, subfolder, variant
    run(Setup(*place, device=device, batch_size=batch_size), source, output)


@app.command(
    epilog="""\b
Examples:
  vqtok reconstruct photos/
  vqtok reconstruct a.jpg --side-by-side -o sheet.png"""
)
def reconstruct(
    sources: Sources,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for the reconstructions, as PNG; or a .png file, or -, for one.",
        ),
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="Write original, reconstruction and code map beside each other."
        ),
    ] = False,
    tokenizer: Name = DEFAULT,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    size: Size = None,
    policy: Policy = None,
    device: Device = "auto",
    precision: Precision = "ieee32",
    batch_size: BatchSize = 16,
) -> None:
    """Pictures to codes and back.

    Prints PSNR and SSIM of each picture against what the tokenizer saw of it, their means, and how
    many codes were used.

    A picture that cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.reconstruct import run
    from vqtok.commands.setup import Setup

    place = tokenizer, revision, subfolder, variant
    setup = Setup(*place, device, precision, batch_size, size, policy)
    raise typer.Exit(run(setup, sources, output, side_by_side=side_by_side))


@app.command(
    epilog="""\b
Examples:
  vqtok info
  vqtok info org/name --revision v1 --json
  vqtok info --precision all --pictures photos/"""
)
def info(
    tokenizer: Annotated[
        str,
        typer.Argument(
            metavar="TOKENIZER",
            help="A tokenizer folder, the name of one in the package, or org/name on the hub.",
        ),
    ] = DEFAULT,
    precision: Annotated[
        str | None,
        typer.Option(help="tf32, bf16, fp16 or all: compare its ids with those of ieee32."),
    ] = None,
    pictures: Annotated[
        list[str] | None,
        typer.Option(
            help="A picture or folder to compare on, as often as you like; by default the "
            "photographs in the package."
        ),
    ] = None,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a tokenizer is: sizes, preprocessing, fingerprint.

    And whether it behaves on this machine as where it was saved; if not, the exit status is 1.
    """
    from vqtok.commands.info import run
    from vqtok.commands.setup import Setup

    setup = Setup(tokenizer, revision, subfolder, variant, device)
    raise typer.Exit(run(setup, precision, pictures or [], as_json=as_json))


# Newer typers carry a click of their own, so the class is known by what it is the base of.
UsageError: Any = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: a user's mistake is one line on standard error and exit status 2."""
    # Names of files may hold what a terminal's encoding does not.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = app(arguments, prog_name="vqtok", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has gone, and Python would flush once more, and complain, as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        typer.echo(f"vqtok: {mistake}", err=True)
        status = 2
    sys.exit(status)


def _mistake(error: Any) -> str | None:
    """One line on an error that people can do something about, None on one of this program's."""
    if isinstance(error, UsageError):
        text = " ".join(error.format_message().split()).rstrip(".")
        text += "" if text.endswith("?") else "."
        context = error.ctx
        return f"{text} See: {context.command_path} {context.help_option_names[0]}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # or torch's
        return "out of memory; a smaller --batch-size or --size needs less"
    known = isinstance(error, VqtokError | OSError)
    return str(error).replace("\n", " ") if known else None
