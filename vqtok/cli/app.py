"""The `vqtok` command itself, to which the modules beside this one add their verbs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

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
  vqtok info --precision all
  vqtok train --config smoke
  vqtok serve photo-tiny""",
)


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
