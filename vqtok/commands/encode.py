"""`vqtok encode`: pictures or clips to JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

from vqtok.commands.clips import encoded_clips, find_clips
from vqtok.commands.outputs import check_lines, lines
from vqtok.commands.rows import Row, line
from vqtok.commands.setup import Setup
from vqtok.commands.sources import Failures, check_named, encoded, find
from vqtok.tokenizer import VisualTokenizer

__all__ = ["run"]


def run(setup: Setup, arguments: list[str], output: str) -> int:
    """Writes a line for each picture or clip to `output`; returns the exit status."""
    check_lines(output)
    check_named(arguments)
    tok = setup.load()
    rows = _clips if tok.is_video else _pictures
    failures, found = rows(tok, arguments, to_stdout=output == "-")
    with lines(output) as file:
        for row in found:
            file.write(line(row, tok.precision).encode())
    return failures.status()


def _pictures(
    tok: VisualTokenizer, arguments: list[str], *, to_stdout: bool
) -> tuple[Failures, Iterator[Row]]:
    sources = find(arguments)
    failures = Failures(len(sources))
    parts = encoded(tok, sources, failures, "encode", to_stdout=to_stdout)
    return failures, (Row(one.key, one.codes) for part in parts for one in part)


def _clips(
    tok: VisualTokenizer, arguments: list[str], *, to_stdout: bool
) -> tuple[Failures, Iterator[Row]]:
    clips = find_clips(arguments)
    failures = Failures(len(clips), "clips")
    done = encoded_clips(tok, clips, failures, "encode", to_stdout=to_stdout)
    return failures, (Row(one.clip.key, one.codes, one.fps) for one in done)
