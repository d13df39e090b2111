"""The verbs that turn pictures and clips into codes and back."""

from __future__ import annotations

from typing import Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.options import (
    DEFAULT,
    BatchSize,
    Device,
    Format,
    Name,
    Policy,
    Precision,
    Revision,
    Size,
    Sources,
    Subfolder,
    Variant,
)

__all__ = ["decode", "encode", "info", "reconstruct"]


@app.command(
    epilog="""\b
Examples:
  vqtok encode a.jpg b.png > codes.jsonl
  vqtok encode photos/ -o codes.jsonl --size 512
  vqtok encode film.mp4 -t org/clip-tokenizer -o codes.jsonl
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
    """Pictures or clips to codes.

    One line of JSON a picture: key, size, grid, codebook, precision and codes. The key of a
    picture in a folder is its path inside it.

    A tokenizer of clips makes one line a clip, with the frames a second; a picture is a clip of one
    frame. Sound is left out.

    What cannot be read is named on standard error and skipped; the exit status is then 1.
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
  vqtok encode a.jpg | vqtok decode - -o back.png
  vqtok decode codes.jsonl -t org/clip-tokenizer -o back.mp4"""
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
            "--output",
            "-o",
            help="A folder; or a .png file, or -, where there is one picture; or a .mp4, .webm, "
            ".mkv or .gif file, where there is one clip.",
        ),
    ],
    tokenizer: Name = DEFAULT,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    form: Format = None,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1000,
            help="Frames a second of clips. By default as they were encoded, or 25.",
        ),
    ] = None,
    device: Device = "auto",
    batch_size: BatchSize = 16,
) -> None:
    """Codes to pictures (PNG) or clips (MP4).

    A picture is written under its key, with .png behind it; a file of that name is replaced. So is
    a clip, with .mp4 behind it, or .png where it has one frame. An .mp4 has even sides: an odd one
    gets its last row or column twice. Codes of another codebook are refused.
    """
    from vqtok.commands.decode import run
    from vqtok.commands.setup import Setup

    place = tokenizer, revision, subfolder, variant
    run(Setup(*place, device=device, batch_size=batch_size), source, output, form, fps)


@app.command(
    epilog="""\b
Examples:
  vqtok reconstruct photos/
  vqtok reconstruct a.jpg --side-by-side -o sheet.png
  vqtok reconstruct film.mp4 -t org/clip-tokenizer -o back.mp4"""
)
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
    tokenizer: Name = DEFAULT,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    form: Format = None,
    size: Size = None,
    policy: Policy = None,
    device: Device = "auto",
    precision: Precision = "ieee32",
    batch_size: BatchSize = 16,
) -> None:
    """Pictures or clips to codes and back.

    Prints PSNR and SSIM of each picture against what the tokenizer saw of it, of a clip the means
    over its frames; their means; and how many codes were used.

    What cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.reconstruct import run
    from vqtok.commands.setup import Setup

    place = tokenizer, revision, subfolder, variant
    setup = Setup(*place, device, precision, batch_size, size, policy)
    raise typer.Exit(run(setup, sources, output, side_by_side=side_by_side, form=form))


@app.command(
    epilog="""\b
Examples:
  vqtok info
  vqtok info --list
  vqtok info vq_ds16_c2i.pt
  vqtok info org/name --revision v1 --json
  vqtok info --precision all --pictures photos/"""
)
def info(
    tokenizer: Annotated[
        str,
        typer.Argument(
            metavar="TOKENIZER",
            help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
            "project's checkpoint or a name of --list.",
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
    frames: Annotated[
        int | None,
        typer.Option(
            help="Of a clip: say how it is padded, how many tokens it takes and what comes back."
        ),
    ] = None,
    revision: Revision = None,
    subfolder: Subfolder = None,
    variant: Variant = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    listed: Annotated[
        bool,
        typer.Option("--list", help="Print the names of well-known checkpoints, and stop."),
    ] = False,
) -> None:
    """What a tokenizer is: where it is from, sizes, preprocessing, fingerprint.

    And whether it behaves on this machine as where it was saved; if not, the exit status is 1.
    """
    if listed:
        from vqtok.commands import listing

        listing.run(as_json=as_json)
        return

    from vqtok.commands.info import run
    from vqtok.commands.setup import Setup

    setup = Setup(tokenizer, revision, subfolder, variant, device)
    raise typer.Exit(run(setup, precision, pictures or [], frames=frames, as_json=as_json))
