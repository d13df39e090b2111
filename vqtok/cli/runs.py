"""The verbs that train tokenizers and say how good they are."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import chooses

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

__all__ = ["evaluate", "train"]


@app.command(
    epilog="""\b
Examples:
  vqtok train --config smoke
  vqtok train --config vqgan_ldm_f8 --dry-run
  vqtok train --config ldm_f8 --set data.path=photos/ --set batch_size=16 -o runs/mine
  vqtok train --resume runs/mine
  vqtok train --from photo-tiny --freeze encoder,codebook --set data.path=photos/
  accelerate launch -m vqtok.training --config ldm_f8 --set data.path=photos/"""
)
def train(
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="PRESET|FILE",
            help="A preset, or a YAML file; `base: PRESET` in a file takes over what it leaves "
            "out. By default `finetune` with --from.",
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="paper|repo",
            help="Where a preset's paper and the code released with it differ: which of the two. "
            "By default the paper; `discrepancies` in --dry-run lists them.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting, such as optimizer.lr=1e-4, data.path=photos/, estimator=ste or "
            "discriminator=null, as often as you like; values are YAML. --dry-run shows all keys.",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TOKENIZER",
            help="Go on from a tokenizer folder, the name of one in the package, org/name on the "
            "hub, or another project's checkpoint. Its network and codebook stand in for those of "
            "--config.",
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="PARTS",
            help="Of encoder, codebook and decoder, those that stay as they are, with commas. "
            "encoder,codebook keeps the ids of existing pictures valid.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="RUN", help="The run's folder. By default runs/ and its name."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that stopped, as if it had not; --set may add."
        ),
    ] = None,
    on_collapse: Annotated[
        str | None,
        typer.Option(
            metavar="warn|stop", help="What a collapsing codebook, NaN or infinity leads to."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print all settings, as a file for --config, with the model's size, what would "
            "be trained and what is missing; then stop, with status 1 where something is.",
        ),
    ] = False,
    list_presets: Annotated[
        bool, typer.Option("--list", help="Print the presets, a line each, and stop.")
    ] = False,
) -> None:
    """Trains a tokenizer, or goes on with one.

    The run's folder gets settings.yaml, metrics.jsonl, pictures, checkpoints and, at the end,
    tokenizer: a folder that every other verb takes as -t. Its path goes to standard output.

    The exit status is 1 where a run was asked to stop before its end; --resume goes on with it.
    """
    from vqtok.commands.train import Request, run

    request = Request(config, variant, tuple(sets or ()), init, freeze, output, resume, on_collapse)
    raise typer.Exit(run(request, dry_run=dry_run, list_presets=list_presets))


Measured = Annotated[
    str,
    typer.Argument(
        metavar="TOKENIZER|RUN",
        help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
        "project's checkpoint, or the folder of a training run that has ended.",
    ),
]


@app.command(
    "eval",
    epilog="""\b
Examples:
  vqtok eval photo-tiny --data photos/
  vqtok eval runs/mine --data photos/ --hold-out 1000 -o report.json
  vqtok eval org/name --data 'val-*.tar' --metrics psnr,ssim,rfid --inception inception.pth""",
)
@chooses(
    "size",
    "policy",
    "device",
    "precision",
    "batch_size",
    name=Measured,
    default=Parameter.empty,
)
def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            metavar="PATH",
            help="A folder of pictures, tars, parquet files, .npy arrays or clips, or a pattern; "
            "as often as you like.",
        ),
    ],
    kind: Annotated[
        str | None,
        typer.Option(help="folder, tars, parquet, arrays or clips, where the names do not tell."),
    ] = None,
    hold_out: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Only the N samples that training with hold_out=N leaves out."
        ),
    ] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N of these.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of psnr, ssim, lpips, rfid, ris, rfvd, usage, quantization and bits_per_pixel, "
            "those to take, with commas; one that cannot be had is then an error. By default all, "
            "and of one that cannot be had the reason.",
        ),
    ] = None,
    inception: Annotated[
        str | None, typer.Option(metavar="PATH", help="The weights for rfid and ris.")
    ] = None,
    lpips_weights: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The folder with the weights of VGG16 and AlexNet."),
    ] = None,
    i3d: Annotated[str | None, typer.Option(metavar="PATH", help="The weights for rfvd.")] = None,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Fetch weights that are nowhere here.")
    ] = False,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Of a clip; by default what the tokenizer was trained on."
        ),
    ] = None,
    frame_stride: Annotated[
        int, typer.Option(min=1, metavar="N", help="Every which frame of a clip.")
    ] = 1,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the report, JSON, to this file."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report.")] = False,
    *,
    setup: Setup,
) -> None:
    """Measures a tokenizer on a set of pictures or clips.

    Error of the pixels (PSNR, SSIM, LPIPS), distance of the sets (rFID, rIS, rFVD), use of the
    codebook and error of the quantizer. Pixels are compared as uint8, with what the tokenizer saw.
    The report says in full what was measured, and with what.

    What cannot be read is named on standard error and skipped; the exit status is then 1.
    """
    from vqtok.commands.eval import Request, run
    from vqtok.evaluation import WeightFiles

    weights = WeightFiles(inception, lpips_weights, i3d, allow_download)
    request = Request(tuple(data), kind, hold_out, limit, frames, frame_stride, metrics, weights)
    raise typer.Exit(run(setup, request, output, as_json=as_json))
