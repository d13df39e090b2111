"""What one export writes of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from onnx_toys import bare, fast, pictures, tokenizer
from quantizers.cases import CASES

from vqtok.codec import TorchCodec
from vqtok.errors import ImageError, MismatchError
from vqtok.export.job import Job
from vqtok.export.kinds import Kinds
from vqtok.tokenizer import VisualTokenizer


def written(tok: VisualTokenizer, folder: Path) -> VisualTokenizer:
    """Its graphs, which nothing but the probe is held against."""
    kinds = Kinds("fp32", "fp32")
    nothing: Any = None
    ours = cast(TorchCodec, tok.codec)
    with fast():
        Job(tok, ours, kinds, kinds.graphs(), nothing, lambda *_: None).write(folder)
    return VisualTokenizer.from_pretrained(folder, device="cpu")


def test_graphs_of_several_scales_take_one_size(tmp_path: Path) -> None:
    tok = tokenizer(bare(CASES["multiscale"]), 16)
    graphs = written(tok, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["agreement"] == 1
    assert (graphs.codec.traits.only_size, graphs.codec.traits.only_grid) == ((16, 16), (4, 4))
    picture = pictures(1, 16, 16)[0]
    codes = graphs.encode_images([picture])
    assert codes == tok.encode_images([picture])
    assert [one.shape for one in graphs.decode_codes([codes[0].ids[0]], "np")] == [(16, 16, 3)]
    with pytest.raises(MismatchError) as size:
        graphs.with_preprocess(size=32)
    assert str(size.value) == (
        "preprocessing with size=32 does not fit the model: the sides of a picture are 16 x 16; "
        "got 32 x 32"
    )
    with pytest.raises(ImageError) as other:
        graphs.codec.encode(pictures(1, 32, 32))
    assert str(other.value) == "the sides of a picture are 16 x 16; got 32 x 32"
