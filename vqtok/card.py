"""The model card that `save_pretrained` writes where a folder has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["fingerprint_table", "model_card"]

CARD = """---
library_name: vqtok
tags:
- image-tokenizer
- vector-quantization
- vqgan
- arxiv:2410.06424
---

# An image tokenizer

- {codes} codes of {dim} dimensions, {depth} a token
- one token for {stride} x {stride} pixels; pictures are brought to {size} (policy `{policy}`)
- quantizer `{quantizer}`, estimator `{estimator}`
- {parameters:.2f} M parameters

```python
from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained("path/to/this/folder")
ids = tok(["picture.jpg"], return_tensors="pt").input_ids
pictures = tok.batch_decode(ids)
```

Not stated yet: what it was trained on, how, and how good it is.

## Fingerprint

{prints}
"""


def fingerprint_table(tok: VisualTokenizer) -> str:
    """The fingerprint as a Markdown table."""
    rows = [f"| {name} | `{value}` |" for name, value in tok.fingerprint.to_dict().items()]
    return "\n".join(["| part | sha256 |", "| --- | --- |", *rows[1:]])


def model_card(tok: VisualTokenizer) -> str:
    """What can be said of a tokenizer from itself, and what cannot."""
    model, fixed = tok.model, tok.settings.size is not None
    return CARD.format(
        codes=tok.codebook_size,
        dim=model.quantize.dim,
        depth=max(1, tok.vocab.depth),
        size="{} x {}".format(*tok.settings.sides) if fixed else "a multiple of that",
        policy=tok.settings.policy,
        stride=model.spatial_compression_ratio,
        quantizer=model.config.quantizer,
        estimator=model.quantize.estimator.name,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        prints=fingerprint_table(tok),
    )
