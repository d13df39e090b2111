from __future__ import annotations

import tiny
import torch

from vqtok.metrics.pixels import from_uint8
from vqtok.training.starting import go_on


def pixels(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator)


def test_codes_of_a_stock_checkpoint_stay_where_they_are() -> None:
    """Their running means are made of the codes, so the first step moves none far."""
    stock = tiny.model().to_diffusers()
    model = tiny.model(seed=1)
    codes = stock.quantize.embedding.weight.detach().clone()
    model.load_state_dict(model.state_dict() | stock.state_dict())
    assert not model.quantize.means_agree()
    go_on(model, [pixels(0), pixels(1)])
    assert model.quantize.means_agree()
    assert model.quantize.steps >= model.quantize.open_steps
    ids = torch.cat([model.encode_codes(pixels(0)), model.encode_codes(pixels(1))]).flatten()
    count = torch.bincount(ids, minlength=64).float()
    tokens, size = float(count.sum()), len(count)
    torch.testing.assert_close(model.quantize.count, (count + 1) * tokens / (tokens + size))
    model.train()
    x = torch.cat([from_uint8(pixels(0)), from_uint8(pixels(1))])
    model.quantize.step(model(x).quantized.sums)
    unused = count == 0
    moved = model.quantize.embedding.weight[unused]
    torch.testing.assert_close(moved, codes[unused], rtol=0.02, atol=1e-3)


def test_running_means_that_are_there_are_kept() -> None:
    model = tiny.model(quantizer_args={"start": "kaiming", "dead_codes": "off"}).train()
    for seed in range(3):
        model.quantize.step(model(from_uint8(pixels(seed))).quantized.sums)
    before = {name: tensor.clone() for name, tensor in model.quantize.state_dict().items()}
    go_on(model, [pixels(9)])
    for name, tensor in model.quantize.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_start_from_data_is_not_done_again() -> None:
    model = tiny.model(quantizer_args={"start": "data"})
    assert model.quantize.is_open()
    go_on(model, [pixels()])
    assert not model.quantize.is_open()


def test_quantizers_without_a_table_of_means() -> None:
    for changes in (
        {"quantizer": "fsq", "quantizer_args": {"levels": [4, 4, 4]}, "latent_channels": 3},
        {"quantizer_args": {"codebook_update": "gradient", "start": "kaiming"}},
    ):
        go_on(tiny.model(**changes), [pixels()])
