from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from commandline import pictures
from onnx_exports import Changed

from vqtok.errors import MismatchError
from vqtok.export.excess import LISTED, MARGIN, TIE, flips_of
from vqtok.export.parity import Bounds, Comparison, bounds_of, compare
from vqtok.export.pictures import Batch, Pictures
from vqtok.tokenizer import VisualTokenizer

RESIDUAL = {"quantizer": "residual", "quantizer_args": {"num_quantizers": 2, "start": "kaiming"}}
SCALES = {"quantizer": "multiscale", "quantizer_args": {"scales": (1, 2, 4), "start": "kaiming"}}


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    tok = tiny.tokenizer()
    found = Pictures(tok.settings, tok.codec.traits, str(pictures(tmp_path, "a.png", "b.png")), 2)
    return list(found.batches((16, 16)))[1]


def run(tok: VisualTokenizer, batch: Batch, **changes: Any) -> Comparison:
    return compare(tok.codec, Changed(tok.codec, **changes), [batch])


def test_equal_codecs(batch: Batch) -> None:
    done = run(tiny.tokenizer(), batch)
    assert done.faults(*bounds_of("fp32", "fp32")) == []
    found = done.to_dict()
    assert found["encoder"]["ids"] == found["encoder"]["equal"] == 3 * 16
    assert found["decoder"]["psnr"] is None
    assert found["runs"] == [
        {
            "size": [16, 16],
            "batch": 3,
            "ids": 48,
            "equal": 48,
            "no_near_tie": 0,
            "max_abs": 0,
            "share_equal": 1.0,
        }
    ]
    json.dumps(found, allow_nan=False)


def test_one_other_id(batch: Batch) -> None:
    tok = tiny.tokenizer()

    def other(ids: Any) -> Any:
        ids[1, 2, 3] = (ids[1, 2, 3] + 1) % 64
        return ids

    done = run(tok, batch, ids=other)
    (flip,) = done.ids.flips
    assert (flip.picture, flip.size, flip.batch) == (batch.keys[1], (16, 16), 3)
    assert flip.position == (2, 3)
    latents, codes = tok.codec.encode_latents(batch.pixels)
    assert flip.torch == codes.ids[1, 2, 3]
    assert flip.onnx == (flip.torch + 1) % 64
    # Both by hand, of torch's latents.
    e = torch.from_numpy(latents[1, :, 2, 3]).double()
    far = (e - tok.model.quantize.embedding.weight.detach().double()).norm(dim=1)
    assert flip.excess == pytest.approx(float(far[flip.onnx] / far.min() - 1))
    margin = tok.model.quantize.margin(torch.from_numpy(latents))[1, 2, 3]
    rms = float(np.sqrt(np.square(latents).mean()))
    assert flip.margin == pytest.approx(float(margin) / rms, rel=1e-5)
    assert not flip.is_tie
    differs, beyond = done.faults(*bounds_of("fp32", "fp32"))
    assert differs == "1 of 48 ids differ, which leaves 97.917% and not 99.9%"
    assert beyond == (
        f"1 of the ids that differ are no near ties: in {flip.picture!r}, at (2, 3), the code "
        f"{flip.onnx} is by {flip.excess:.1e} of it farther from the vector than {flip.torch}, "
        "and 1e-05 is rounding"
    )


def test_a_near_tie_is_no_fault(batch: Batch) -> None:
    """Two codes as good as equal: 0 and 1 may be taken for each other."""
    tok = tiny.tokenizer()
    table = tok.model.quantize.embedding.weight.data
    latents = tok.codec.encode_latents(batch.pixels)[0]
    table[0] = torch.from_numpy(latents[0, :, 0, 0]) + 0.01
    table[1] = table[0] * (1 + 1e-7)
    done = run(tok, batch, ids=lambda ids: np.where(ids < 2, 1 - ids, ids))
    assert done.ids.differing >= 1
    assert done.ids.far == 0
    assert done.ids.worst is not None and 0 < (done.ids.worst.excess or 0) <= TIE
    assert done.faults(Bounds("fp32", excess=TIE), Bounds("fp32")) == []
    (said,) = done.faults(*bounds_of("fp32", "fp32"))
    assert said == (
        f"{done.ids.differing} of 48 ids differ, which leaves {done.ids.decided:.3%} and not "
        "99.9%, though each is a near tie: many codes of this codebook are as good as equal, so "
        "that rounding alone decides between them; train it on, or with another start"
    )


@pytest.mark.parametrize("settings", [RESIDUAL, SCALES], ids=["residual", "multiscale"])
def test_what_comes_after_another_id_need_not_agree(batch: Batch, settings: Any) -> None:
    tok = tiny.tokenizer(**settings)

    def first(ids: Any) -> Any:
        """The first id of a picture and one after it; of another the second alone."""
        flat = ids.reshape(len(ids), -1)
        flat[0, :2] = (flat[0, :2] + 1) % 64
        flat[1, 1] = (flat[1, 1] + 1) % 64
        return flat.reshape(ids.shape)

    done = run(tok, batch, ids=first)
    assert (done.ids.differing, done.ids.after) == (3, 1)
    assert [flip.after for flip in done.ids.flips] == [False, True, False]
    count = done.ids.count
    assert done.ids.agreement == 1 - 3 / count
    assert done.ids.decided == 1 - 2 / count


def test_pixels_that_are_off(batch: Batch) -> None:
    tok = tiny.tokenizer()

    def by_one(pixels: Any) -> Any:
        pixels[0, 0, 0, 0] ^= 1
        return pixels

    done = run(tok, batch, pixels=by_one)
    found = done.to_dict()["decoder"]
    total = 3 * 16 * 16 * 3
    assert (found["bytes"], found["equal"], found["max_abs"]) == (total, total - 1, 1)
    assert found["mean_abs"] == pytest.approx(1 / total)
    assert found["psnr"] == pytest.approx(10 * np.log10(255**2 * total))
    assert done.faults(*bounds_of("fp32", "fp32")) == []
    done = run(tok, batch, pixels=lambda pixels: pixels ^ 2)
    assert done.faults(*bounds_of("fp32", "fp32")) == [
        "decoded pixels are off by up to 2 of 255, and not 1",
        "100.00% of decoded bytes are off, and not 1%",
    ]
    assert done.faults(*bounds_of("fp32", "fp16")) == []
    done = run(tok, batch, pixels=lambda pixels: pixels ^ 16)
    assert done.faults(*bounds_of("fp32", "int8")) == [
        "decoded pixels have 24.0 dB to torch's, and not 30"
    ]


def test_bounds() -> None:
    assert bounds_of("fp16", "fp16") == (Bounds("fp16", 0.8), Bounds("fp16", psnr=30.0))
    assert bounds_of("int8", "fp32")[0] == Bounds("int8")
    assert bounds_of("fp16", "fp32", rough=True)[0] == Bounds("fp16")
    assert bounds_of("fp32", "fp32", rough=True)[0] == Bounds("fp32", 0.999, TIE)


def test_many_flips_are_counted_and_not_all_listed(batch: Batch) -> None:
    tok = tiny.tokenizer()
    whole = Batch(batch.keys * 30, np.concatenate([batch.pixels] * 30))
    found = run(tok, whole, ids=lambda ids: (ids + 1) % 64).to_dict()["encoder"]
    assert found["differing"] == 90 * 16
    assert len(found["flips"]) == LISTED
    assert found["unlisted"] == 90 * 16 - LISTED


def test_other_shapes(batch: Batch) -> None:
    tok = tiny.tokenizer()
    with pytest.raises(MismatchError) as error:
        run(tok, batch, ids=lambda ids: ids[:, :-1])
    assert str(error.value) == (
        "the graphs give codes of the shape (3, 3, 4), and the model of (3, 4, 4)"
    )


def test_settings_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    """Its own preprocessing where that makes pictures of the size."""
    tok = tiny.tokenizer()
    pad = tok.settings.changed(policy="pad")
    found = Pictures(pad, tok.codec.traits, str(pictures(tmp_path, "a.png")), 1)
    padded = next(found.batches((16, 16))).pixels[0]
    assert (padded[0] == 255).all()


def test_pictures_that_overflow(batch: Batch) -> None:
    """They have no ids, which is a fault, and not one of the others'."""
    tok = tiny.tokenizer()
    first = tok.codec.encode(batch.pixels).ids[1]

    def none(ids: Any) -> Any:
        ids[(ids == first).all((1, 2))] = -1
        return ids

    for rough in (False, True):
        done = run(tok, batch, ids=none)
        assert done.faults(*bounds_of("fp16", "fp16", rough=rough)) == [
            "1 of 3 pictures overflow in fp16 and have no ids"
        ]
    found = done.to_dict()["encoder"]
    assert (found["ids"], found["differing"], found["overflowing"]) == (2 * 16, 0, 1)


def test_a_small_share_of_a_long_way_is_no_near_tie(batch: Batch) -> None:
    """One bit of many flipped: hardly farther, and still nothing that rounding does."""
    bits = {"quantizer": "lfq", "num_vq_embeddings": 16, "quantizer_args": {}}
    tok = tiny.tokenizer(**bits)
    latents = torch.full((1, 4, 1, 1), 1e3)
    latents[0, 0] = 0.3
    ours = tok.model.quantize.encode(latents).numpy()
    found = [ours ^ (1 << bit) for bit in range(4)]
    flips = [
        flips_of(tok.model.quantize, latents.numpy(), ours, ids, ["a"], (4, 4))[0] for ids in found
    ]
    flip = min(flips, key=lambda one: one.excess or 0)
    assert flip.excess is not None and 0 < flip.excess <= TIE
    assert flip.margin > MARGIN and not flip.is_tie
    done = Comparison()
    done.ids.add([flip], np.zeros((1, 10_000), int))
    said, *_ = done.faults(*bounds_of("fp32", "fp32"))
    assert said == (
        "1 of the ids that differ are no near ties: in 'a', at (0, 0), where "
        f"{flip.torch} became {flip.onnx}, the vector would have to move by {flip.margin:.1e} of "
        "the latents' rms to change its id, and 1e-04 is rounding"
    )
