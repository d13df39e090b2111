"""Figures of jobs as people read them. `vqtok status` needs them soon, so no torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from vqtok.offline.ledger import failures
from vqtok.offline.records import Failure, Record

__all__ = ["duration", "failed_lines", "size_of", "waits_of"]

SHOWN = 3


def waits_of(shares: Mapping[str, float]) -> str:
    """decode 70%, encode 2%, write 1%"""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def duration(seconds: float) -> str:
    """1:02:03"""
    return str(timedelta(seconds=round(seconds)))


def failed_lines(records: Sequence[Record], planned: int) -> list[str]:
    """How many rows failed at which stage, and the first reasons."""
    lost: list[Failure] = [each for some in failures(records).values() for each in some]
    stages: dict[str, int] = {}
    for failure in lost:
        stages[failure.stage] = stages.get(failure.stage, 0) + failure.rows
    by_stage = ", ".join(f"{stage} {rows:,}" for stage, rows in sorted(stages.items()))
    lines = [f"failed: {sum(stages.values()):,} of {planned:,} rows ({by_stage})"]
    lines += [f"  {each.key!r}: {each.stage}: {each.reason}" for each in lost[:SHOWN]]
    if len(lost) > SHOWN:
        lines.append(f"  and {len(lost) - SHOWN:,} more samples")
    return lines


def size_of(count: float) -> str:
    """1.2 GB"""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:  # which three digits would show as 1e+03
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
