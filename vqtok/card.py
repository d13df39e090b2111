"""The model card that `save_pretrained` writes where a folder has none, and training in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqtok.folders import Savable
    from vqtok.types import Fingerprint

__all__ = ["fingerprint_table", "model_card"]

CARD = """---
library_name: vqtok
tags:
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


def model_card(tok: Savable, *, title: str | None = None, story: str = UNTOLD) -> str:
    """What can be said of a tokenizer from itself and, in `story`, what else is known of it."""
    model, settings = tok.model, tok.settings
    kind = "video" if model.is_video else "image"
    return CARD.format(
        kind=kind,
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
        story=story,
        prints=_table(tok.fingerprint),
    )


def _table(found: Fingerprint) -> str:
    rows = [f"| {name} | `{value}` |" for name, value in found.to_dict().items()]
    return "\n".join(["| part | sha256 |", "| --- | --- |", *rows[1:]])
