"""`vqtok tokenize --dry-run`: what a job would make and take, by a few of its samples."""

from __future__ import annotations

import json
from typing import Any

import typer

from vqtok.commands.figures import duration, size_of
from vqtok.errors import plural
from vqtok.offline.job import Job
from vqtok.offline.measure import Measured, measure
from vqtok.offline.plan import Plan

__all__ = ["plural", "run"]

SHOWN = 3


def run(job: Job, *, as_json: bool) -> int:
    """Prints it; the exit status is 1 where none of the samples that were tried can be made."""
    found = measure(job)
    typer.echo(_json(found, job) if as_json else "\n".join(_lines(found, job)))
    return 0 if found.rows else 1


def _json(found: Measured, job: Job) -> str:
    figures = {
        "samples": found.samples,
        "rows": found.samples * found.views,
        "tried": found.looked_at,
        "device": job.device,
        "decode_samples_per_second_and_core": found.decode,
        "encode_rows_per_second": found.encode,
        "decoders": found.decoders,
        "decoders_needed": found.decoders_needed,
        "hours": found.hours,
        "bytes": found.bytes,
        "enlarged": found.enlarged,
        "failed": [each.model_dump() for each in found.failed],
    }
    plan: dict[str, Any] = json.loads(job.plan.to_bytes())
    return json.dumps({"measured": figures, "plan": plan}, indent=2)


def _lines(found: Measured, job: Job) -> list[str]:
    plan = job.plan
    table = {
        "samples": f"{found.samples:,} ({plan.source.kind}); labels: {plan.label}",
        "views": f"{found.views} ({', '.join(plan.view_names[:12])}"
        f"{', ...' if found.views > 12 else ''})",
        "rows": f"{found.samples * found.views:,} in {plan.shards:,} shards of "
        f"{plan.shard_size:,} samples",
        "tokenizer": _tokenizer(plan),
        "tried": f"{found.looked_at:,} samples",
        **_speeds(found, job.device),
        **_odd(found),
    }
    width = max(map(len, table))
    lines = [f"{name:<{width}}  {value}" for name, value in table.items()]
    for name, count in found.bytes.items():
        chosen = "  as planned" if name == plan.format else ""
        lines.append(f"{'size':<{width}}  {size_of(count)} as {name}{chosen}")
    reasons = [f"  {each.key!r}: {each.stage}: {each.reason}" for each in found.failed[:SHOWN]]
    return [
        *lines,
        *reasons,
        f"the plan, which nothing was written of, {plan.hash[:16]}:",
        _shown(plan),
    ]


def _tokenizer(plan: Plan) -> str:
    tokenizer = plan.tokenizer
    return (
        f"{tokenizer.name}, {tokenizer.codebook_size:,} codes ({plan.dtype}), {tokenizer.precision}"
    )


def _speeds(found: Measured, device: str) -> dict[str, str]:
    if not found.rows:
        return {}
    return {
        "decode": f"{found.decode:,.1f} img/s a core",
        "encode": f"{found.encode:,.1f} img/s on {device}, {plural(found.views, 'row')} a sample",
        "cores": f"{found.decoders_needed:,.1f} would keep it busy; {found.decoders} decode",
        "time": f"{duration(found.seconds)} ({found.hours:,.2f} hours) on one such device",
    }


def _odd(found: Measured) -> dict[str, str]:
    told = {"failed": f"{len(found.failed):,} of these samples ({found.share_failed:.1%})"}
    if found.enlarged:
        told["enlarged"] = (
            f"{found.enlarged:,} of their {found.rows:,} rows show less than they have"
        )
    return told


def _shown(plan: Plan) -> str:
    return plan.to_bytes().decode().rstrip()
