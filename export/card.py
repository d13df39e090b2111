"""The README.md of a folder of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqtok.card import HERE, fingerprint_table, licence, origin
from vqtok.contents import GRAPHS
from vqtok.export.excess import LISTED
from vqtok.export.metadata import sizes_of
from vqtok.export.report import ids_line, notes, pictures_line, pixels_line
from vqtok.strides import by
from vqtok.tokenizer import VisualTokenizer
from vqtok.traits import Traits
from vqtok.types import axes_text

__all__ = ["onnx_card", "plain_script"]

CARD = """---
library_name: vqtok
{licence}tags:
- {kind}-tokenizer
- vector-quantization
- onnx
- onnxruntime
---

# {title}, as ONNX graphs

{codes} codes, {depth} a token; one token for {stride} pixels. Written by `vqtok export`.

| graph | input | output |
| --- | --- | --- |
{graphs}

{pixels_are}, and normalisation is inside. N is any number, and {sizes}. Ids lie in
[0, {codes}). Each graph's `metadata_props` name the fingerprint below, the preprocessing, the
precision and what it is for.

## Use

With vqtok, which needs `vqtok[export]` and no torch for this:

```python
from vqtok import VisualTokenizer

tok = VisualTokenizer.from_pretrained("{here}")
codes = tok.encode_images(["{example}"])
```

With onnxruntime alone, which is given pixels of the right size. Ids are those of vqtok where
pictures are resized as the file preprocessor_config.json says; Pillow's resize is another:

```python
{plain}
```

## Parity with torch

Precision: encoder `{precision}`, decoder `{decoder_precision}`; opset {opset}; compared by
onnxruntime {runtime} on {provider}. `parity.json` has the details, and lists ids that differ, up to
{listed:,} of them.

- compared: {compared}
- ids: {ids}
- pixels of the same ids: {decoded}
{notes}
## Fingerprint

{prints}

## Where it comes from

{origin}
"""

PLAIN = """import numpy as np
import onnxruntime as ort
from PIL import Image

def session(name):
    return ort.InferenceSession(name, providers=["CPUExecutionProvider"])

{read}
codes = session("encoder.onnx").run(["codes"], {{"pixels": pixels}})[0]
print(codes.shape, codes.dtype)

back = session("decoder.onnx").run(["pixels"], {{"codes": codes}})[0]
{write}"""

READ = 'picture = Image.open("picture.jpg").convert("RGB").resize(({width}, {height}))\n'
READ_CLIP = """frames = [Image.open(f"frame{{n}}.png").convert("RGB") for n in range({frames})]
clip = np.stack([frame.resize(({width}, {height})) for frame in frames])
"""
FLOAT_IN = "pixels = {pixels}.astype(np.float32) / 255\npixels = np.moveaxis(pixels, -1, 0)[None]\n"
BYTES_IN = "pixels = {pixels}[None]  # uint8\n"
FLOAT_OUT = "back = np.moveaxis(back * 255, 1, -1).round().astype(np.uint8)\n"


def onnx_card(tok: VisualTokenizer, config: Mapping[str, Any], parity: Mapping[str, Any]) -> str:
    """What can be said of an export; `config` is its config.json."""
    report = tok.conversion or {}
    traits = Traits.from_dict(config["traits"])
    title = "A video tokenizer" if traits.is_video else "An image tokenizer"
    if "source" in report:
        title = f"{report['title'][0].upper()}{report['title'][1:]}"
    told = notes(parity)
    return CARD.format(
        licence=licence(report.get("derived_from", report)),
        kind="video" if traits.is_video else "image",
        title=title,
        codes=traits.codebook_size,
        depth=max(1, traits.depth),
        stride=by(traits.stride),
        graphs="\n".join(_rows(config, traits)),
        pixels_are=(
            "Pixels are uint8, 0 to 255"
            if config["pixels"] == "uint8"
            else "Pixels are float32 in [0, 1]"
        ),
        sizes=sizes_of(traits, _only(tok, traits)),
        here=HERE,
        example="clip.mp4" if traits.is_video else "picture.jpg",
        plain=plain_script(tok, config, traits),
        **{name: config[name] for name in ("precision", "decoder_precision", "opset")},
        runtime=parity["onnxruntime"]["version"],
        provider=parity["onnxruntime"]["provider"],
        listed=LISTED,
        compared=pictures_line(parity),
        ids=ids_line(parity),
        decoded=pixels_line(parity),
        notes="".join(f"- {note}\n" for note in told),
        prints=fingerprint_table(tok),
        origin=origin(report),
    )


def _only(tok: VisualTokenizer, traits: Traits) -> tuple[int, ...] | None:
    """The one size in pixels that the graphs take; None where they take many."""
    return tok.settings.sides if traits.is_multiscale else traits.only_size


def _rows(config: Mapping[str, Any], traits: Traits) -> list[str]:
    axes = "T, H, W" if traits.is_video else "H, W"
    shape = f"(N, {axes}, 3)" if config["pixels"] == "uint8" else f"(N, 3, {axes})"
    pixels = f"`pixels`: {'uint8' if config['pixels'] == 'uint8' else 'float32'} {shape}"
    codes = f"`codes`: {config['codes']} (N, {axes_text(traits.axes, traits.depth)[1:]}"
    codes = codes.replace(",)", ")")
    rows = []
    for name in GRAPHS:
        if name in config.get("files", GRAPHS[:2]):
            pair = (pixels, codes) if "encoder" in name else (codes, pixels)
            rows.append(f"| {name} | {pair[0]} | {pair[1]} |")
    return rows


def plain_script(tok: VisualTokenizer, config: Mapping[str, Any], traits: Traits) -> str:
    """Fifteen lines of plain onnxruntime that run in the folder, on a picture or frames in it."""
    height, width = _sides(tok, traits)
    given = {"height": height, "width": width, "frames": _frames(traits)}
    read, name = (READ_CLIP, "clip") if traits.is_video else (READ, "np.asarray(picture)")
    floats = config["pixels"] == "float"
    pixels = (FLOAT_IN if floats else BYTES_IN).format(pixels=name)
    first = "back[0][0]" if traits.is_video else "back[0]"
    write = (FLOAT_OUT if floats else "") + f'Image.fromarray({first}).save("back.png")'
    return PLAIN.format(read=read.format(**given) + pixels, write=write)


def _sides(tok: VisualTokenizer, traits: Traits) -> tuple[int, int]:
    if tok.settings.size is not None:
        return tok.settings.sides
    step = traits.stride[-2:]
    return step[0] * 32, step[1] * 32


def _frames(traits: Traits) -> int:
    if not traits.is_video:
        return 1
    return traits.window or traits.size_of((2, 1, 1))[0]
