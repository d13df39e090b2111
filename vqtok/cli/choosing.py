"""The options that choose a tokenizer, the same for every verb that takes one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from vqtok.cli.options import (
    DEFAULT,
    Backend,
    BatchSize,
    Device,
    Name,
    Policy,
    Precision,
    Revision,
    Size,
    Subfolder,
    Variant,
)

__all__ = ["chooses"]

Verb = Callable[..., Any]

Filename = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Which file of a folder or repository is the checkpoint."),
]
Family = Annotated[
    str,
    typer.Option(
        help="Whose checkpoint it is, where another project made it; auto goes by the names of its "
        "tensors."
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The YAML or JSON that such a checkpoint was trained with. By default one beside it.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of such a checkpoint, over those of the file, as often as you like.",
    ),
]

# Fields of `Setup`, with option and default: those that say which tokenizer it is, for all verbs,
PLACE: dict[str, tuple[Any, Any]] = {
    "revision": (Revision, None),
    "subfolder": (Subfolder, None),
    "variant": (Variant, None),
    "filename": (Filename, None),
    "family": (Family, "auto"),
    "config": (Config, None),
    "sets": (Sets, None),
}
# and those that say how it runs, of which a verb names its own.
MANNER: dict[str, tuple[Any, Any]] = {
    "size": (Size, None),
    "policy": (Policy, None),
    "backend": (Backend, "auto"),
    "device": (Device, "auto"),
    "precision": (Precision, None),
    "batch_size": (BatchSize, 16),
}


def chooses(*manner: str, name: Any = Name, default: Any = DEFAULT) -> Callable[[Verb], Verb]:
    """Gives a verb the options of a tokenizer in the place of its parameter `setup`.

    ```
    @app.command()
    @chooses("device", "batch_size")
    def tokenize(sources: Sources, output: Output = "-", *, setup: Setup) -> None:
    ```

    is a verb with -t, --revision, --config, --set and all else that says which tokenizer is meant,
    and with --device and --batch-size; it gets a `vqtok.commands.setup.Setup`, which it imports for
    type checkers alone. Help has the tokenizer first, then the verb's own, then all others.

    manner   names of `MANNER`
    name     the option or argument that names the tokenizer
    default  of that; `inspect.Parameter.empty` where one must be named
    """
    options = {"name": (name, default), **PLACE, **{one: MANNER[one] for one in manner}}

    def widened(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def run(**given: Any) -> Any:
            from vqtok.commands.setup import Setup

            chosen = {field: given.pop(field) for field in options}
            return verb(setup=Setup(**chosen), **given)

        parameters = _parameters(verb, options)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return widened


def _parameters(verb: Verb, options: dict[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    """The tokenizer's name, those of the verb but `setup`, and the other options."""
    # Setup brings torch, so nobody has imported it yet.
    hints = get_type_hints(verb, localns={"Setup": object}, include_extras=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    name, *others = (
        inspect.Parameter(field, kind, default=default, annotation=option)
        for field, (option, default) in options.items()
    )
    own = [one for one in inspect.signature(verb).parameters.values() if one.name != "setup"]
    kept = [one.replace(kind=kind, annotation=hints[one.name]) for one in own]
    return [name, *kept, *others]
