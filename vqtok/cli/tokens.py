"""The verbs that make data sets of tokens, and look after them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import chooses

if TYPE_CHECKING:
    from vqtok.commands.setup import Setup

__all__ = ["export_tokens", "inspect", "retry_failed", "status", "tokenize", "verify"]

DataSet = Annotated[
    str, typer.Argument(metavar="OUT", help="What `vqtok tokenize` made: a folder or a URL.")
]
Batch = Annotated[
    int,
    typer.Option(
        "--batch-size",
        "--batch",
        min=1,
        help="Rows that go through the model together. It is a part of the plan: ids that are near "
        "ties may depend on it.",
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        help="folder, tars, parquet, lists, arrays or clips, where the names do not tell."
    ),
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SRC",
        help="Where the source is now, as often as you like. By default as job.json has it.",
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        metavar="local|ranks|ray",
        help="local: processes of this machine. ranks: this process is one of those that torchrun, "
        "accelerate, srun or a job array started, which is seen by itself. ray: a Ray cluster.",
    ),
]
Processes = Annotated[
    int | None, typer.Option(min=1, help="Workers of the engine local, one a GPU. By default 1.")
]
Rank = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="This is process I of N, of the engine ranks; from 0."),
]
EngineSets = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-set",
        metavar="NAME=VALUE",
        help="Another setting of the engine, as often as you like; of ray address=auto, actors=8, "
        "gpus=0.5.",
    ),
]
Decoders = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that decode for one worker. By default its share of cores."),
]
DecodeIn = Annotated[
    str,
    typer.Option(
        metavar="threads|processes",
        help="Where samples are decoded. In processes, a file that brings its decoder down costs "
        "no other sample; threads are faster.",
    ),
]
MaxFailed = Annotated[
    str | None,
    typer.Option(
        metavar="1%|100",
        help="Rows that may fail; beyond it the job stops with status 1. By default any number.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(
    epilog="""\b
Examples:
  vqtok tokenize photos/ tokens/
  vqtok tokenize photos/ tokens/ --dry-run
  vqtok tokenize shards/*.tar tokens/ -t photo-tiny --size 512 --views center,hflip
  vqtok tokenize s3://bucket/photos s3://bucket/tokens --max-failed 1%
  vqtok tokenize videos/ tokens/ -t org/clip-tokenizer --frames 17 --stride 2
  vqtok tokenize photos/ latents/ --what latents --buckets auto:256x256@32
  torchrun --nproc-per-node 8 -m vqtok tokenize photos/ tokens/"""
)
@chooses("size", "policy", "backend", "device", "precision")
def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC",
            help="Folders of pictures or videos, tars, parquet files, lists (.jsonl, .csv), .npy "
            "arrays, patterns of these in quotes; paths or URLs.",
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="The data set: a new folder, a URL, or one to go on with."
        ),
    ],
    views: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Rows that each sample gives, with commas: center, hflip, tencrop, tencrop@1.1, "
            "random:4, random:4@0.8-1.0.",
        ),
    ] = "center",
    what: Annotated[
        str, typer.Option(metavar="codes|latents|both", help="What each row holds.")
    ] = "codes",
    quantized: Annotated[
        bool,
        typer.Option("--quantized", help="Latents are the codes' own vectors, not the encoder's."),
    ] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="parquet|webdataset|bin|npy",
            help="Of the shards. All of them are read by vqtok.offline.open_tokens.",
        ),
    ] = "parquet",
    buckets: Annotated[
        str,
        typer.Option(
            metavar="SIZES",
            help="Sizes of which each picture takes the nearest shape: 256x256,192x320 (height "
            "first), or auto:256x256@32 for those of that area in steps of 32.",
        ),
    ] = "",
    frames: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Cut videos into clips of N frames. By default whole."
        ),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=1, metavar="N", help="Every which frame of a video a clip takes.")
    ] = 1,
    every: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Clips begin N frames apart. By default where the last ends."
        ),
    ] = None,
    scenes: Annotated[
        str | None,
        typer.Option(
            metavar="frames|seconds",
            help="Clips lie in the scenes of the column `scenes`, pairs of frames or of seconds; "
            "without --frames each scene is a clip.",
        ),
    ] = None,
    kind: Kind = None,
    batch: Batch = 32,
    shard_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Samples a shard. By default about 64 shards."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random views.")] = 0,
    engine: EngineName = None,
    processes: Processes = None,
    rank: Rank = None,
    engine_sets: EngineSets = None,
    decoders: Decoders = None,
    decode_in: DecodeIn = "threads",
    max_failed: MaxFailed = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Make up to 256 samples in memory and print speeds, hours, sizes and the plan.",
        ),
    ] = False,
    as_json: AsJson = False,
    *,
    setup: Setup,
) -> None:
    """Pictures or clips to a data set of codes, latents or both, shard by shard.

    Started again, it goes on where it stopped, on one machine or several at once: rows do not
    depend on who made them. What was begun with another source, tokenizer or setting is refused.

    A sample that cannot be made is left out and listed with the reason. The exit status is 0 where
    all is done; 1 where more rows have failed than --max-failed allows, or no row could be made.
    Where nothing of a shard can be read, the source is taken to be gone and the job ends, unless
    --max-failed is 100%.
    """
    from dataclasses import replace

    from vqtok.commands.tokenize import Launching, Request, run

    request = Request(
        sources=sources,
        out=out,
        kind=kind,
        views=views,
        what=what,
        quantized=quantized,
        format=form,
        shard_size=shard_size,
        seed=seed,
        buckets=buckets,
        frames=frames,
        stride=stride,
        every=every,
        scenes=scenes,
    )
    launching = Launching(
        engine, processes, rank, decoders, max_failed, engine_sets or (), decode_in
    )
    setup = replace(setup, batch_size=batch)
    raise typer.Exit(run(setup, request, launching, dry_run=dry_run, as_json=as_json))


@app.command(
    epilog="""\b
Examples:
  vqtok status tokens/
  vqtok status tokens/ --watch
  vqtok status tokens/ --failed > failed.jsonl"""
)
def status(
    out: DataSet,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Print the samples that are missing, a line of JSON each."),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Every two seconds, until it is finished.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How far a job is: shards, rows, failures by stage, speed, and who works on what.

    It is read from the data set alone, from any machine, while the job runs or afterwards.
    """
    from vqtok.commands.status import run

    raise typer.Exit(run(out, as_json=as_json, failed=failed, watch=watch))


@app.command(
    epilog="""\b
Examples:
  vqtok verify tokens/
  vqtok verify tokens/ --full
  vqtok verify tokens/ --sample 1% --source photos/"""
)
@chooses("backend", "device", default=None)
def verify(
    out: DataSet,
    full: Annotated[
        bool, typer.Option("--full", help="Read all files and compare their checksums.")
    ] = False,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="1%", help="Make so many of the rows again from the source, and compare."
        ),
    ] = None,
    source: Source = None,
    kind: Kind = None,
    *,
    setup: Setup,
) -> None:
    """Whether a data set is whole: plan, records, files and manifest agree.

    Source and tokenizer, for --sample, are by default those that job.json names. The exit status is
    1 where there is a fault.
    """
    from vqtok.commands.verify import run

    raise typer.Exit(run(setup, out, source, kind, full=full, sample=sample))


@app.command(
    epilog="""\b
Examples:
  vqtok inspect tokens/ -o sheet.png
  vqtok inspect tokens/ -o sheet.png --rows 32 --seed 1
  vqtok inspect tokens/ --histogram usage.png"""
)
@chooses("backend", "device", default=None)
def inspect(
    out: DataSet,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PNG", help="The sheet; - for standard output."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many it shows.")] = 16,
    seed: Annotated[int, typer.Option(help="Another one shows other rows.")] = 0,
    histogram: Annotated[
        str | None,
        typer.Option(metavar="PNG", help="A plot of how often each code came, over all rows."),
    ] = None,
    source: Source = None,
    kind: Kind = None,
    *,
    setup: Setup,
) -> None:
    """A data set as a picture: sources, what comes back of the codes, and code maps.

    Source and tokenizer are by default those that job.json names; without the source, that column
    is left out. It works while the job runs, too.
    """
    from vqtok.commands.inspect import run

    run(setup, out, source, kind, output, histogram, rows=rows, seed=seed)


@app.command(
    "retry-failed",
    epilog="""\b
Examples:
  vqtok retry-failed tokens/
  vqtok retry-failed tokens/ --source /mnt/mended/photos""",
)
@chooses("backend", "device", default=None)
def retry_failed(
    out: DataSet,
    source: Source = None,
    kind: Kind = None,
    engine: EngineName = None,
    processes: Processes = None,
    rank: Rank = None,
    engine_sets: EngineSets = None,
    decoders: Decoders = None,
    decode_in: DecodeIn = "threads",
    max_failed: MaxFailed = None,
    as_json: AsJson = False,
    *,
    setup: Setup,
) -> None:
    """Tries the samples of a finished data set once more that failed.

    Rows that are there stay as they are, byte for byte; new ones come in files of their own. Source
    and tokenizer are by default those that job.json names. The exit status is as that of tokenize.
    """
    from vqtok.commands.retry import run
    from vqtok.commands.tokenize import Launching

    launching = Launching(
        engine, processes, rank, decoders, max_failed, engine_sets or (), decode_in
    )
    raise typer.Exit(run(setup, out, source, kind, launching, as_json=as_json))


@app.command(
    "export-tokens",
    epilog="""\b
Examples:
  vqtok export-tokens tokens/ llamagen/ --to llamagen
  vqtok export-tokens tokens/ gpt/ --to megatron --set end_id=16384
  vqtok export-tokens latents/ dit/ --to lightningdit""",
)
def export_tokens(
    out: DataSet,
    place: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who reads it: 1xgpt, litdata, llamagen, mds (mosaicml-streaming), megatron, rar "
            "or webdataset; of latents lightningdit, npy or webdataset.",
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="An option of that form, as often as you like; a wrong one is answered with all.",
        ),
    ] = None,
    views: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these views, with commas.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export that is there.")
    ] = False,
) -> None:
    """A data set in the form that another trainer reads unchanged.

    The folder is there when it is whole; its origin.json says which data set it was made of.
    """
    from vqtok.commands.export_tokens import run

    run(out, place, to, sets or [], views, overwrite=overwrite)
