"""README.md of a data set: what it is, how it is read, and what is not known of it.

A function of plan and manifest; `datasets.load_dataset` finds the rows through its head.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqtok.offline.manifest import Manifest
    from vqtok.offline.plan import Plan

__all__ = ["card_of"]

# What `datasets` takes as it is, and the pattern of its files.
LOADED = {"parquet": "shards/*.parquet", "webdataset": "shards/*.tar"}
WHAT = {"codes": "Codes", "latents": "Latents", "both": "Codes and latents"}

CARD = """{head}
# {what} of {samples:,} {kind}

{what} that the tokenizer `{tokenizer}` made of {samples:,} {kind}, in the format {version} of
[vqtok](https://pypi.org/project/vqtok). One row is one view of {one}. There are no pixels in it:
the tokenizer's decoder makes them from codes.

{facts}

## Reading it

```python
{snippets}
```

## Licence

Unknown: neither the licence of the {kind} nor that of the tokenizer's weights is written down
here, and both bear on what may be done with these rows. Whoever passes them on should say.

## How it was made

{making}
"""

OURS = """from vqtok.offline import open_tokens

tokens = open_tokens("path/to/this/folder", expect={name})
row = tokens[0]  # row.key, .view, {arrays}, .grid, .label, .text, .columns"""

PARQUET = """
import numpy as np
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="train", streaming=True)
row = next(iter(rows))
{array}"""

TAR = """
from datasets import load_dataset

rows = load_dataset("path/to/this/folder", split="train", streaming=True)
row = next(iter(rows))  # row["{member}"], row["json"]["key"]"""

CODES = 'codes = np.frombuffer(row["codes"], "{dtype}").reshape({shape})'
LATENTS = 'latents = np.frombuffer(row["latents"], "<f2").reshape(row["latents_shape"])'


def card_of(plan: Plan, manifest: Manifest) -> bytes:
    """A dataset card in UTF-8."""
    kind = ("clips", "a clip") if plan.tokenizer.is_video else ("pictures", "a picture")
    text = CARD.format(
        head=_head(plan),
        what=WHAT[plan.what],
        samples=plan.source.samples,
        kind=kind[0],
        one=kind[1],
        tokenizer=plan.tokenizer.name,
        version=manifest.version,
        facts=_table(_facts(plan, manifest)),
        snippets=_snippets(plan),
        making=_table(_making(plan)),
    )
    return text.encode()


def _head(plan: Plan) -> str:
    lines = ["---", "license: unknown", "tags:", "- vqtok", "- visual-tokens"]
    pattern = LOADED.get(plan.format)
    if pattern is not None:
        lines += ["configs:", "- config_name: default", "  data_files:", "  - split: train"]
        lines.append(f"    path: {json.dumps(pattern)}")
    return "\n".join([*lines, "---", ""])


def _facts(plan: Plan, manifest: Manifest) -> dict[str, str]:
    facts = {
        "rows": f"{manifest.rows:,} of {manifest.planned:,} planned{_lost(manifest)}",
        "views": ", ".join(f"`{name}`" for name in plan.view_names),
        "labels": _labels(manifest),
        "files": f"{manifest.bytes:,} bytes in {manifest.shards:,} shards, format `{plan.format}`",
        "sha256": f"`{manifest.dataset_sha256}`",
    }
    if manifest.codes is not None:
        use = manifest.codes
        facts["codes in use"] = f"{use.used:,} of {use.size:,}, {use.entropy:.3f} bits each"
    if manifest.latents is not None:
        stats = manifest.latents
        facts["shift_factor, scaling_factor"] = f"{stats.shift_factor!r}, {stats.scaling_factor!r}"
    return facts


def _lost(manifest: Manifest) -> str:
    stages = [f"{count:,} at `{stage}`" for stage, count in manifest.failed_by_stage.items()]
    return f"; {manifest.failed:,} failed: {', '.join(stages)}" if stages else ""


def _labels(manifest: Manifest) -> str:
    if manifest.classes is None:
        return "10,000 classes or more"
    return f"{len(manifest.classes):,} classes" if manifest.classes else "none"


def _making(plan: Plan) -> dict[str, str]:
    tokenizer = plan.tokenizer
    prints = {
        f"{part} sha256": f"`{value}`"
        for part, value in tokenizer.fingerprint.items()
        if part != "schema"
    }
    preprocess = json.dumps(plan.preprocess, sort_keys=True)
    return {
        "codebook": f"{tokenizer.codebook_size:,} codes{_depth(plan)}",
        "precision": f"`{tokenizer.precision}`, batches of {plan.batch}",
        "preprocessing": f"`{preprocess}`",
        "source": f"`{plan.source.kind}`, keys sha256 `{plan.source.listing}`",
        "plan sha256": f"`{plan.hash}`",
        **prints,
    }


def _depth(plan: Plan) -> str:
    return f", {plan.tokenizer.depth} a token" if plan.tokenizer.depth else ""


def _snippets(plan: Plan) -> str:
    arrays = {"codes": ".codes", "latents": ".latents", "both": ".codes, .latents"}[plan.what]
    ours = OURS.format(name=json.dumps(plan.tokenizer.name, ensure_ascii=False), arrays=arrays)
    if plan.format == "webdataset":
        return f"{ours}\n{TAR.format(member='codes.npy' if plan.with_codes else 'latents.npy')}"
    if plan.format != "parquet":
        return ours
    return f"{ours}\n{PARQUET.format(array=_array(plan))}"


def _array(plan: Plan) -> str:
    if not plan.with_codes:
        return LATENTS
    tail = f'[*row["grid"], {plan.tokenizer.depth}]' if plan.tokenizer.depth else 'row["grid"]'
    return CODES.format(dtype="<u2" if plan.dtype == "uint16" else "<u4", shape=tail)


def _table(facts: dict[str, str]) -> str:
    lines = [f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
