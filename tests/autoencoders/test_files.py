from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import model
from torch import Tensor

from vqtok import AutoencoderVQ
from vqtok.autoencoders.loading import load_model
from vqtok.errors import LoadError

FILE = "diffusion_pytorch_model.safetensors"


def equal(one: AutoencoderVQ, other: AutoencoderVQ) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mid_block_add_attention": True, "estimator": "ste", "pixel_mean": (0.0, 0.5, 1.0)},
        {"quantizer": "residual", "quantizer_args": {"num_quantizers": 2}},
        {"estimator": "rotation", "estimator_args": {"max_angle": 45.0}, "shift_factor": 0.1},
    ],
)
def test_saved_and_loaded(
    tmp_path: Path, changes: dict[str, Any], diffusers_log: list[str]
) -> None:
    ours = model(**changes)
    ours.save_pretrained(tmp_path)
    again = AutoencoderVQ.from_pretrained(tmp_path)
    assert equal(again, ours) and not again.training
    assert again.to_json_string() == ours.to_json_string()
    assert diffusers_log == []


def test_shards(tmp_path: Path) -> None:
    ours = model()
    ours.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1
    assert equal(AutoencoderVQ.from_pretrained(tmp_path), ours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_leaves_the_codebook_alone(
    tmp_path: Path, dtype: torch.dtype, signed: Tensor
) -> None:
    ours = model()
    ours.save_pretrained(tmp_path)
    half = AutoencoderVQ.from_pretrained(tmp_path, torch_dtype=dtype)
    assert half.dtype == half.quant_conv.weight.dtype == dtype
    kinds = {name: value.dtype for name, value in half.quantize.state_dict().items()}
    assert kinds == {name: value.dtype for name, value in ours.quantize.state_dict().items()}
    assert torch.equal(half.quantize.embedding.weight, ours.quantize.embedding.weight)
    close = (half.encode_codes(signed) == ours.encode_codes(signed)).float().mean()
    assert close > 0.9
    assert half(signed.to(dtype)).sample.dtype == dtype


def test_a_variant(tmp_path: Path) -> None:
    ours = model()
    ours.save_pretrained(tmp_path)
    half = AutoencoderVQ.from_pretrained(tmp_path, torch_dtype=torch.float16)
    half.save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "diffusion_pytorch_model.fp16.safetensors").is_file()
    again = AutoencoderVQ.from_pretrained(tmp_path, variant="fp16", torch_dtype=torch.float16)
    assert equal(again, half)
    assert equal(AutoencoderVQ.from_pretrained(tmp_path), ours)


def test_loading_says_more_where_asked(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    _, info = AutoencoderVQ.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == [] and info["unexpected_keys"] == []


def refused(folder: Path) -> str:
    with pytest.raises(LoadError) as error:
        load_model(folder)
    return str(error.value)


def test_weights_that_lack(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / FILE)
    for name in ("decoder.conv_in.weight", "quantize.total"):
        del weights[name]
    save_file(weights, tmp_path / FILE)
    assert refused(tmp_path) == (
        f"the weights in {tmp_path} lack 2 of this model's tensors, among them "
        "'decoder.conv_in.weight'"
    )


def test_a_damaged_file(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:5000])
    assert refused(tmp_path).startswith(f"{tmp_path / FILE} is not a readable safetensors file: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    (tmp_path / FILE).unlink()
    assert refused(tmp_path) == (
        f"{tmp_path} holds no weights: there is neither {FILE} nor {FILE}.index.json"
    )


def test_weights_of_another_size(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    save_file(model(num_vq_embeddings=32).state_dict(), tmp_path / FILE)
    assert refused(tmp_path).startswith(f"the model in {tmp_path} cannot be loaded: ")


def test_loaded_for_ids(tmp_path: Path) -> None:
    ours = model().train()
    ours.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert equal(loaded, ours) and not loaded.training and loaded.dtype == torch.float32


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path, safe_serialization=False)
    assert list(tmp_path.glob("*.bin"))
    with pytest.raises(OSError, match=r"no file named diffusion_pytorch_model\.safetensors"):
        AutoencoderVQ.from_pretrained(tmp_path)


def test_a_misspelt_name_does_not_ask_the_hub() -> None:
    with pytest.raises(LoadError) as error:
        AutoencoderVQ.from_pretrained("photo-tny")
    assert str(error.value) == (
        "there is no tokenizer called 'photo-tny', neither in the package nor as a folder. Did you "
        "mean 'photo-tiny'? In the package: photo-tiny; `vqtok info --list` names other projects' "
        "checkpoints. On the hub, write org/name."
    )
    assert AutoencoderVQ.from_pretrained("photo-tiny").config.num_vq_embeddings == 1024
