"""`vqtok encode`: pictures to JSON lines."""

from __future__ import annotations

from vqtok.commands.outputs import check_lines, lines
from vqtok.commands.rows import Row, line
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Failures, encoded, find

__all__ = ["run"]


def run(setup: Setup, arguments: list[str], output: str) -> int:
    """Writes a line for each picture to `output`; returns the exit status."""
    check_lines(output)
    sources = find(arguments)
    failures = Failures(len(sources))
    tok = setup.load()
    with lines(output) as file:
        for part in encoded(tok, sources, failures, "encode", to_stdout=output == "-"):
            for one in part:
                file.write(line(Row(one.key, one.codes), tok.precision).encode())
    return failures.status()
