"""The verbs that turn pictures and clips into codes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import chooses
from vqtok.cli.options import Format, Sources

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

__all__ = ["decode", "encode", "info", "reconstruct"]


@app.command(
    epilog="""\b
Examples:
  vqtok encode a.jpg b.png > codes.jsonl
  vqtok encode photos/ -o codes.jsonl --size 512
  vqtok encode film.mp4 -t org/clip-tokenizer -o codes.jsonl
  curl -s https://example.org/a.jpg | vqtok encode -"""
)
@chooses("size", "policy", "backend", "device", "precision", "batch_size")
def encode(
    sources: Sources,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .jsonl file, or - for standard output.")
    ] = "-",
    *,
    setup: Setup,
) -> None:
    """Pictures or clips to codes.

    One line of JSON a picture: key, size, grid, codebook, precision and codes. The key of a
    picture in a folder is its path inside it.

    A tokenizer of clips makes one line a clip, with the frames a second; a picture is a clip of one
    frame. Sound is left out.

    What cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.encode import run

    raise typer.Exit(run(setup, sources, output))


@app.command(
    epilog="""\b
Examples:
  vqtok decode codes.jsonl -o back/
  vqtok encode a.jpg | vqtok decode - -o back.png
  vqtok decode codes.jsonl -t org/clip-tokenizer -o back.mp4"""
)
@chooses("backend", "device", "batch_size")
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
            "--output",
            "-o",
            help="A folder; or a .png file, or -, where there is one picture; or a .mp4, .webm, "
            ".mkv or .gif file, where there is one clip.",
        ),
    ],
    form: Format = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1000,
            help="Frames a second of clips. By default as they were encoded, or 25.",
        ),
    ] = None,
    *,
    setup: Setup,
) -> None:
    """Codes to pictures (PNG) or clips (MP4).

    A picture is written under its key, with .png behind it; a file of that name is replaced. So is
    a clip, with .mp4 behind it, or .png where it has one frame. An .mp4 has even sides: an odd one
    gets its last row or column twice. Codes of another codebook are refused.
    """
    from vqtok.commands.decode import run

    run(setup, source, output, form, fps)


@app.command(
    epilog="""\b
Examples:
  vqtok reconstruct photos/
  vqtok reconstruct a.jpg --side-by-side -o sheet.png
  vqtok reconstruct film.mp4 -t org/clip-tokenizer -o back.mp4"""
)
@chooses("size", "policy", "backend", "device", "precision", "batch_size")
def reconstruct(
    sources: Sources,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for the reconstructions, as PNG; or a .png file, or -, for one. Clips "
            "as `vqtok decode` writes them.",
        ),
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side", help="Write original, reconstruction and code map beside each other."
        ),
    ] = False,
    form: Format = None,
    *,
    setup: Setup,
) -> None:
    """Pictures or clips to codes and back.

    Prints PSNR and SSIM of each picture against what the tokenizer saw of it, of a clip the means
    over its frames; their means; and how many codes were used.

    What cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.reconstruct import run

    raise typer.Exit(run(setup, sources, output, side_by_side=side_by_side, form=form))


Shown = Annotated[
    str,
    typer.Argument(
        metavar="TOKENIZER",
        help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
        "project's checkpoint or a name of --list.",
    ),
]


@app.command(
    epilog="""\b
Examples:
  vqtok info
  vqtok info --list
  vqtok info vq_ds16_c2i.pt
  vqtok info org/name --revision v1 --json
  vqtok info --precision all --pictures photos/"""
)
@chooses("backend", "device", name=Shown)
def info(
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
    frames: Annotated[
        int | None,
        typer.Option(
            help="Of a clip: say how it is padded, how many tokens it takes and what comes back."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    listed: Annotated[
        bool,
        typer.Option("--list", help="Print the names of well-known checkpoints, and stop."),
    ] = False,
    *,
    setup: Setup,
) -> None:
    """What a tokenizer is: where it is from, sizes, preprocessing, fingerprint.

    And whether it behaves on this machine as where it was saved; if not, the exit status is 1.
    """
    if listed:
        from vqtok.commands import listing

        listing.run(as_json=as_json)
        return

    from vqtok.commands.info import run

    raise typer.Exit(run(setup, precision, pictures or [], frames=frames, as_json=as_json))
