"""The verb that serves tokenizers over HTTP."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vqtok.cli.app import app
from vqtok.cli.choosing import Family, Filename, Sets
from vqtok.cli.options import DEFAULT, Policy, Precision, Revision, Size, Subfolder, Variant

__all__ = ["serve"]


def _option(kind: Any, default: str, text: str, metavar: str | None = None) -> Any:
    """An option that is None where it isn't given, so that variables and a file come to count."""
    shown = f"{text} [{default}]" if default else text
    return Annotated[kind | None, typer.Option(metavar=metavar, help=shown)]


# Settings by their names in `vqtok.serve.settings`; defaults stand in brackets.
# Numbers are text here, for what is none is complained about with the rest.
SETTINGS: dict[str, Any] = {
    "host": _option(
        str,
        "127.0.0.1",
        "Where to listen: 127.0.0.1 is this machine alone, 0.0.0.0 every address, :: IPv6, too.",
        "ADDRESS",
    ),
    "port": _option(str, "8000", "From 1024 to 65535.", "N"),
    "api_processes": _option(
        str,
        "2",
        "Processes that speak HTTP and decode pictures. A GPU that takes 3,000 pictures of 256x256 "
        "a second wants 2 for raw pixels, 3 for JPEG and 9 for PNG.",
        "N",
    ),
    "decoder_threads": _option(str, "2", "Threads that decode pictures in each of them.", "N"),
    "device": _option(str, "auto", "cpu, cuda, cuda:1, mps; auto takes a GPU where there is one."),
    "devices": _option(str, "", "All GPUs, or these: a worker of each model on each.", "all|0,1"),
    "workers_per_device": _option(str, "1", "Workers of each model there.", "N"),
    "max_batch": _option(str, "32", "Pictures that go through the model together.", "N"),
    "deterministic": _option(
        bool,
        "no",
        "Run each picture alone, so that ids don't depend on what else is asked.",
    ),
    "slots": _option(
        str,
        "64",
        "Pictures of a model under way in each API process. More requests are answered 429.",
        "N",
    ),
    "clip_slots": _option(str, "2", "The same for clips and larger pictures.", "N"),
    "slot_frames": _option(
        str,
        "16",
        "Frames of a clip that go through at once; of a longer one as many at a time.",
        "N",
    ),
    "streams": _option(str, "2", "Longer clips under way in each API process.", "N"),
    "timeout": _option(
        str, "30", "After which a request, or a part of a longer clip, is answered 504.", "SECONDS"
    ),
    "drain_delay": _option(
        str,
        "2",
        "Between SIGTERM, when /ready says no, and refusing work: until balancers have seen that.",
        "SECONDS",
    ),
    "hang_timeout": _option(
        str,
        "",
        "Without progress in a batch, after which its worker is replaced. By default two fifths of "
        "--timeout, so that another can do what it had.",
        "SECONDS",
    ),
    "start_timeout": _option(
        str,
        "600",
        "Without progress while a worker loads and warms up, after which it is replaced.",
        "SECONDS",
    ),
    "max_body": _option(
        str,
        "64MB",
        "Of a request. What is more than this, or than one of these, is answered 413.",
        "BYTES",
    ),
    "max_film": _option(str, "500MB", "Of a request with one clip in a file.", "BYTES"),
    "max_pixels": _option(str, "50000000", "Of an uploaded picture.", "N"),
    "max_area": _option(
        str, "1048576", "Pixels where the tokenizer takes pictures in their own size.", "N"
    ),
    "max_images": _option(str, "256", "Pictures of a request.", "N"),
    "max_frames": _option(str, "100000", "Frames of a clip.", "N"),
    "api_key_file": _option(
        str,
        "",
        "Holds a key; requests must carry it as Authorization: Bearer KEY. Or put the key itself "
        "into VQTOK_SERVE_API_KEY.",
        "FILE",
    ),
    "cache": _option(
        str, "64MB", "Of decoded pictures that each API process keeps; 0 for none.", "BYTES"
    ),
    "log": _option(str, "json", "json is a line for each request on standard output.", "json|off"),
    "page": _option(bool, "yes", "A page at / to try it in a browser."),
    "cors": _option(
        list[str], "", "Whose pages may call from browsers, as often as you like, or *.", "ORIGIN"
    ),
}
# Of the tokenizer that is the argument, by their names in `ModelSettings`.
CHOSEN: dict[str, Any] = {
    "size": Size,
    "policy": Policy,
    "precision": Precision,
    "backend": _option(
        str,
        "auto",
        "What runs it: torch; onnx, for what `vqtok export` wrote; auto is what its folder is for.",
    ),
    "revision": Revision,
    "subfolder": Subfolder,
    "variant": Variant,
    "filename": Filename,
    "family": Family,
    "tokenizer_config": Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The YAML or JSON that such a checkpoint was trained with. By default one beside "
            "it.",
        ),
    ],
    "sets": Sets,
}

Verb = Callable[..., Any]


def _with_settings(verb: Verb) -> Verb:
    """Gives a verb the options above; it gets them as `chosen` and `others`."""
    hints = {**CHOSEN, **SETTINGS}
    own = list(inspect.signature(verb, eval_str=True).parameters.values())[:-2]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
        for name, hint in (*SETTINGS.items(), *CHOSEN.items())
    ]

    @functools.wraps(verb)
    def run(**given: Any) -> Any:
        chosen, others = ({name: given.pop(name) for name in some} for some in (CHOSEN, SETTINGS))
        return verb(**given, chosen=chosen, others=others)

    parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *more]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters} | hints
    return run


@app.command(
    epilog="""\b
Examples:
  vqtok serve photo-tiny
  vqtok serve org/tokenizer --host 0.0.0.0 --devices all --api-processes 8
  vqtok serve --model small=photo-tiny --model clips=org/clip-tokenizer
  vqtok serve --config serve.yaml --port 9000
  VQTOK_SERVE_API_KEY=... vqtok serve photo-tiny
  curl --data-binary @cat.jpg -H 'content-type: image/jpeg' localhost:8000/v1/encode

\b
A file for --config:
  port: 9000
  models:
    small: photo-tiny
    large: {tokenizer: org/name, precision: bf16, size: 512}"""
)
@_with_settings
def serve(
    tokenizer: Annotated[
        str | None,
        typer.Argument(
            metavar="TOKENIZER",
            help="A tokenizer folder, the name of one in the package, org/name on the hub, another "
            f"project's checkpoint or its name in `vqtok info --list`. [{DEFAULT}]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What it is called in paths. By default the last part of its own name.",
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME=TOKENIZER",
            help="One more, at /v1/models/NAME/encode and so on, as often as you like. Paths "
            "without a name are those of the first.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="A YAML file of settings: the names of the options below with _ for -, and "
            "models. VQTOK_SERVE_PORT and so on stand over it, options over both.",
        ),
    ] = None,
    chosen: Any = None,
    others: Any = None,
) -> None:
    """Pictures to codes and back over HTTP: /v1/encode, /v1/decode, /v1/reconstruct.

    / is a page to try it, /docs tells about every path, /v1/model about the tokenizer and the
    limits; /live, /ready, /startup and /metrics are for those who run it.

    SIGTERM: /ready says no, after --drain-delay new work is refused, what is under way is finished,
    and the status is 0. Ctrl-C does the same without the delay; a second one ends all at once.
    A worker that dies or hangs is replaced; where more than that is broken, the status is 1.
    """
    from vqtok.commands.serve import Request, run

    chosen["settings"] = chosen.pop("sets") or None
    chosen["config"] = chosen.pop("tokenizer_config")
    chosen["family"] = None if chosen["family"] == "auto" else chosen["family"]
    if not others["cors"]:
        others["cors"] = None
    request = Request(tokenizer, name, models or (), config, chosen, others)
    raise typer.Exit(run(request, DEFAULT))
