"""The model card that `save_pretrained` writes where a folder has none, and training in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqtok.autoencoders import AutoencoderBase
    from vqtok.preprocess import Preprocess
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.types import Fingerprint

__all__ = ["clip_card", "fingerprint_table", "model_card"]

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

USE_FOR_CLIPS = """from vqtok.autoencoders import {name}

model = {name}.from_pretrained("path/to/this/folder").eval()
codes = model.encode_codes(clips)  # uint8 (B, 3, T, H, W) -> (B, t, h, w)
clips = model.decode_codes(codes)  # floats in [-1, 1]"""

UNTOLD = "Not stated yet: what it was trained on, how, and how good it is."


def fingerprint_table(tok: VisualTokenizer) -> str:
    """The fingerprint as a Markdown table."""
    return _table(tok.fingerprint)


def model_card(
    tok: VisualTokenizer, *, title: str = "An image tokenizer", story: str = UNTOLD
) -> str:
    """What can be said of a tokenizer from itself and, in `story`, what else is known of it."""
    return _card(tok.model, tok.settings, tok.fingerprint, title=title, story=story)


def clip_card(
    model: AutoencoderBase,
    settings: Preprocess,
    found: Fingerprint,
    *,
    title: str = "A video tokenizer",
    story: str = UNTOLD,
) -> str:
    """The same for a model of clips, whose frames `settings` prepare."""
    return _card(model, settings, found, title=title, story=story)


def _card(
    model: AutoencoderBase, settings: Preprocess, found: Fingerprint, *, title: str, story: str
) -> str:
    is_clip = len(model.stride) == 3
    return CARD.format(
        kind="video" if is_clip else "image",
        title=title,
        codes=model.quantize.codebook_size,
        dim=model.quantize.dim,
        depth=max(1, model.quantize.depth),
        brought="frames are brought to" if is_clip else "pictures are brought to",
        size="a multiple of that" if settings.size is None else "{} x {}".format(*settings.sides),
        policy=settings.policy,
        stride=" x ".join(map(str, model.stride)),
        quantizer=model.config.quantizer,
        estimator=model.quantize.estimator.name,
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        use=USE_FOR_CLIPS.format(name=type(model).__name__) if is_clip else USE,
        story=story,
        prints=_table(found),
    )


def _table(found: Fingerprint) -> str:
    rows = [f"| {name} | `{value}` |" for name, value in found.to_dict().items()]
    return "\n".join(["| part | sha256 |", "| --- | --- |", *rows[1:]])
