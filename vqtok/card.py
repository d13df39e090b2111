"""The model card that `save_pretrained` writes where a folder has none, and training in full."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqtok.folders import Savable
    from vqtok.types import Fingerprint

__all__ = ["HERE", "derived", "fingerprint_table", "licence", "model_card", "origin"]

CARD = """---
library_name: vqtok
{licence}tags:
- {kind}-tokenizer
- vector-quantization
- vqgan
- arxiv:2410.06424
---

# {title}

- {codes} codes of {dim} dimensions, {depth} a token
- one token for {stride} pixels; {brought} {size} (policy `{policy}`)
- quantizer `{quantizer}`, estimator `{estimator}`
- {parameters:.2f} M parameters

```python
{use}
```

{story}

## Fingerprint

{prints}
"""

HERE = "path/to/this/folder"  # until it has a name on the hub
# How licences are called on the hub; any other is "other" there, with its own name.
LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0"}

USE = """from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained("path/to/this/folder")
ids = tok(["picture.jpg"], return_tensors="pt").input_ids
pictures = tok.batch_decode(ids)"""

USE_FOR_CLIPS = """from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained("path/to/this/folder")
ids = tok(["clip.mp4"], return_tensors="pt").input_ids
clips = tok.batch_decode(ids)  # a list of frames each"""

UNTOLD = "Not stated yet: what it was trained on, how, and how good it is."


def fingerprint_table(tok: Savable) -> str:
    """The fingerprint as a Markdown table."""
    return _table(tok.fingerprint)


def derived(report: Mapping[str, Any]) -> str:
    """One sentence on what a tokenizer went on from; `report` is that one's conversion.json."""
    where = f" of {repo}" if (repo := report["source"].get("repository")) else ""
    return (
        f"It went on from {report['title']} (family `{report['family']}`, "
        f"`{report['source']['file']}`{where}), whose licence is, as far as it is known: "
        f"{report['licence']}."
    )


def model_card(tok: Savable, *, title: str | None = None, story: str | None = None) -> str:
    """What can be said of a tokenizer from itself and, in `story`, what else is known of it.

    Without them, those of what was converted are from its report.
    """
    model, settings, report = tok.model, tok.settings, tok.conversion or {}
    kind = "video" if model.is_video else "image"
    if "source" in report:
        title = title or f"{report['title'][0].upper()}{report['title'][1:]}, converted"
    return CARD.format(
        kind=kind,
        licence=licence(report.get("derived_from", report)),
        title=title or f"{'A video' if model.is_video else 'An image'} tokenizer",
        codes=model.quantize.codebook_size,
        dim=model.quantize.dim,
        depth=max(1, model.quantize.depth),
        brought=f"{'frames' if model.is_video else 'pictures'} are brought to",
        size="a multiple of that" if settings.size is None else "{} x {}".format(*settings.sides),
        policy=settings.policy,
        stride=" x ".join(map(str, model.stride)),
        quantizer=model.config.quantizer,
        estimator=model.quantize.estimator.name,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        use=USE_FOR_CLIPS if model.is_video else USE,
        story=story or origin(report),
        prints=_table(tok.fingerprint),
    )


def licence(report: Mapping[str, Any]) -> str:
    """Lines for the hub on the licence of what was converted, "" of what was trained here.

    A licence of which more is to be said than its name is "other": the card says the rest.
    """
    if "licence" not in report:
        return ""
    said = str(report["licence"]).removesuffix(", code and published weights")
    known = LICENCES.get(said)
    return f"license: {known}\n" if known else f"license: other\nlicense_name: {_slug(said)}\n"


def _slug(text: str) -> str:
    """The first clause of a text, as the hub takes names; one that says whose it is names none."""
    if text.startswith("that of "):
        return "unknown"
    return "-".join(re.findall(r"[a-z0-9.]+", re.split(r"[:;]", text.lower())[0])) or "unknown"


def _table(found: Fingerprint) -> str:
    rows = [f"| {name} | `{value}` |" for name, value in found.to_dict().items()]
    return "\n".join(["| part | sha256 |", "| --- | --- |", *rows[1:]])


def origin(report: Mapping[str, Any]) -> str:
    """What the card says of where it came from."""
    if "derived_from" in report:
        return f"{derived(report['derived_from'])}\n\n{UNTOLD}"
    if not report:
        return UNTOLD
    source = report["source"]
    where = f" of {source['repository']} at {source['commit']}" if source["repository"] else ""
    return "\n".join(
        [
            f"Converted by vqtok from `{source['file']}`{where}, a checkpoint of the family "
            f"`{report['family']}` ({report['title']}); conversion.json has the details.",
            "",
            f"Licence of the weights, as far as it is known: {report['licence']}.",
            *_listed("sha256 of its files", [f"`{v}` {k}" for k, v in source["sha256"].items()]),
            *_listed("What to know of it", report["notes"]),
        ]
    )


def _listed(head: str, items: Iterable[str]) -> list[str]:
    rows = [f"- {item}" for item in items]
    return ["", f"{head}:", "", *rows] if rows else []
