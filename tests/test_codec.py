"""uint8 pixels to `Codes` and back through a torch model."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from vqtok.codec import TorchCodec, check_device
from vqtok.errors import CodesError, ConfigError, ImageError, InputError, MismatchError
from vqtok.types import Codec, Codes


@pytest.fixture(scope="module")
def codec() -> TorchCodec:
    codec = tiny.tokenizer().codec
    assert isinstance(codec, TorchCodec)
    return codec


def pixels(count: int = 2, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def test_it_is_a_codec(codec: TorchCodec) -> None:
    assert isinstance(codec, Codec)


def test_round_trip_equals_the_model(codec: TorchCodec) -> None:
    batch = pixels()
    codes = codec.encode(batch)
    x = torch.from_numpy(batch).permute(0, 3, 1, 2)
    assert np.array_equal(codes.ids, codec.model.encode_codes(x).numpy())
    assert codes.codebook == codec.fingerprint.codebook
    assert codes.sizes.tolist() == [[16, 16]] * 2
    assert codes.grid == (4, 4)
    back = codec.decode(codes)
    assert (back.shape, back.dtype) == (batch.shape, np.uint8)
    exact = codec.model.decode_codes(torch.from_numpy(codes.ids.astype(np.int64)))
    assert np.abs(back / 127.5 - 1 - exact.permute(0, 2, 3, 1).numpy()).max() <= 0.5 / 127.5 + 1e-6


def test_ids_do_not_depend_on_the_batch(codec: TorchCodec) -> None:
    batch = pixels(5)
    together = codec.encode(batch)
    for index in range(5):
        assert np.array_equal(together[index].ids, codec.encode(batch[index : index + 1]).ids)


def test_latents_are_the_codebook_s_rows(codec: TorchCodec) -> None:
    codes = codec.encode(pixels())
    table = codec.model.quantize.embedding.weight.detach()
    expected = table[torch.from_numpy(codes.ids.astype(np.int64))].movedim(-1, 1)
    assert torch.equal(codec.latents(codes), expected)


def test_codes_of_another_codebook_are_refused(codec: TorchCodec) -> None:
    other = tiny.tokenizer(seed=1).codec
    with pytest.raises(MismatchError) as error:
        codec.decode(other.encode(pixels()))
    assert str(error.value) == (
        f"these codes were made with the codebook {other.fingerprint.codebook[:16]} and cannot be "
        f"decoded by a tokenizer whose codebook is {codec.fingerprint.codebook[:16]}"
    )


def test_precision_is_that_of_cast_weights() -> None:
    codec = tiny.tokenizer().codec
    assert codec.precision == "ieee32"
    codec.model.to(torch.bfloat16)
    assert codec.precision == "bf16"


def test_messages(codec: TorchCodec) -> None:
    with pytest.raises(ImageError) as error:
        codec.encode(pixels()[0])
    assert str(error.value) == (
        "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got uint8 (16, 16, 3)"
    )
    with pytest.raises(ConfigError) as unknown:
        TorchCodec(codec.model, codec.fingerprint, "fp61")
    assert str(unknown.value) == (
        "there is no precision called 'fp61'. Did you mean 'fp16'? Known: bf16, fp16, ieee32, tf32."
    )
    with pytest.raises(CodesError) as outside:
        Codes(np.full((1, 2, 2), 64), np.zeros((1, 2), np.int32), 64)
    assert str(outside.value) == ("codes of this tokenizer lie in [0, 64); got some from 64 to 64")


def test_codes_of_another_kind_are_refused(codec: TorchCodec) -> None:
    with pytest.raises(MismatchError) as error:
        codec.decode(Codes(np.zeros((1, 2, 2, 3), int), np.zeros((1, 2), np.int32), 32, depth=3))
    assert str(error.value) == (
        "these codes have codebook_size=32 and depth=3; this tokenizer decodes codebook_size=64 "
        "and depth=0"
    )


def test_devices() -> None:
    check_device("cpu")
    for name in ("gpu", "meta", "cpu:x"):
        with pytest.raises(ConfigError) as error:
            check_device(name)
        assert str(error.value).startswith(f"there is no device '{name}' here: ")
    with pytest.raises(InputError) as dtype:
        check_device(torch.float16)
    assert str(dtype.value) == (
        "a tokenizer is moved to a device, not cast; got torch.float16. Its weights stay float32; "
        "for faster arithmetic load it with another precision"
    )


def test_codes_are_arrays() -> None:
    with pytest.raises(CodesError) as error:
        Codes([[0]], np.zeros((1, 2), np.int32), 64)  # type: ignore[arg-type]
    assert str(error.value) == "ids are a numpy array; got list"


def test_an_encoder_that_overflows_makes_no_ids() -> None:
    codec = TorchCodec(tiny.model(), tiny.tokenizer().fingerprint)
    with torch.no_grad():
        codec.model.quant_conv.bias[0] = torch.nan
    with pytest.raises(InputError) as error:
        codec.encode(pixels())
    assert str(error.value) == (
        "the encoder's output is not finite with float32 weights and precision='ieee32'; half "
        "precision may overflow, or weights are damaged"
    )
