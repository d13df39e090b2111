"""Pictures to ids and back through the object that users hold."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from tiny import picture

from vqtok import batches
from vqtok.errors import CodesError, ConfigError, InputError, MismatchError
from vqtok.preprocess import Preprocess
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes
from vqtok.vocab import VisualVocab


@pytest.fixture(scope="module")
def tok() -> VisualTokenizer:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def native() -> VisualTokenizer:
    return VisualTokenizer.from_model(tiny.model())


def test_every_kind_of_source_gives_the_same_ids(tok: VisualTokenizer, tmp_path: Path) -> None:
    array = picture()
    image = Image.fromarray(array)
    path = tmp_path / "a.png"
    image.save(path)
    data = path.read_bytes()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    sources = [array, image, path, str(path), data, io.BytesIO(data), tensor]
    expected = tok.encode(array)
    assert all(ids == expected for ids in tok(sources)["input_ids"])
    for source in (array, image, path, str(path), data, tensor):  # one alone is a batch of one
        assert tok(source)["input_ids"] == [expected]


def test_batch_in_one_array(tok: VisualTokenizer) -> None:
    batch = np.stack([picture(16, 16, seed) for seed in range(3)])
    assert tok(batch)["input_ids"] == tok(list(batch))["input_ids"]


def test_call_pads_and_batch_decode_restores_each_size(native: VisualTokenizer) -> None:
    pictures = [picture(16, 16), picture(24, 12), picture(8, 32)]
    batch = native(pictures, return_tensors="pt")
    lengths = [4 * 5 + 2, 6 * 4 + 2, 2 * 9 + 2]
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, max(lengths))
    assert batch.input_ids.dtype == torch.int64
    assert batch.attention_mask.sum(1).tolist() == lengths
    assert batch.image_grid_thw.tolist() == [[1, 4, 4], [1, 6, 3], [1, 2, 8]]
    assert (batch.input_ids[1, lengths[1] :] == native.pad_token_id).all()
    images = native.batch_decode(batch.input_ids)
    assert [image.size for image in images] == [(16, 16), (12, 24), (32, 8)]


def test_left_padding(native: VisualTokenizer) -> None:
    pictures = [picture(16, 16), picture(8, 8)]
    batch = native(pictures, return_tensors="np", padding_side="left")
    assert batch.attention_mask[1].tolist() == [0] * 14 + [1] * 8
    assert [image.size for image in native.batch_decode(batch.input_ids)] == [(16, 16), (8, 8)]


def test_decode_needs_nothing_but_ids(tok: VisualTokenizer) -> None:
    array = picture()
    ids = tok.encode(array)
    assert ids[0] == tok.boi_token_id
    assert ids[-1] == tok.eoi_token_id
    assert ids[5] == tok.eol_token_id
    grid = tok.encode_codes(array)[0]
    direct = tok.decode_codes([grid], "np")[0]
    assert np.array_equal(tok.decode(ids, output_type="np"), direct)
    assert np.array_equal(np.asarray(tok.decode(torch.tensor(ids))), direct)
    as_tensor = tok.decode(ids, output_type="pt")
    assert as_tensor.shape == (3, 16, 16)
    assert np.array_equal(as_tensor.permute(1, 2, 0).numpy(), direct)


def test_without_row_ends_a_grid_is_needed() -> None:
    vocab = VisualVocab(64, row_ends=False)
    tok = VisualTokenizer.from_model(tiny.model(), Preprocess(size=16, stride=4), vocab)
    ids = tok.encode(picture())
    assert len(ids) == 16 + 2
    assert tok.decode(ids, (4, 4)).size == (16, 16)
    assert tok.batch_decode([ids], [(1, 4, 4)])[0].size == (16, 16)
    assert tok.decode(ids, (2, 8)).size == (32, 8)
    with pytest.raises(CodesError, match=r"pass the grid, \(h, w\)"):
        tok.decode(ids)


def test_ids_do_not_depend_on_company_or_batch_size(native: VisualTokenizer) -> None:
    pictures = [picture(16, 16, seed) for seed in range(5)] + [picture(8, 16)]
    alone = [native.encode_codes(p)[0] for p in pictures]
    for batch_size in (1, 2, 16):
        native.batch_size = batch_size
        assert all(map(torch.equal, native.encode_codes(pictures), alone))


def test_empty_list(tok: VisualTokenizer) -> None:
    assert tok([])["input_ids"] == []
    assert tok.encode_codes([]) == []
    assert tok.batch_decode([]) == []
    for kind in ("pt", "np"):
        batch = tok([], return_tensors=kind)
        assert tuple(batch.input_ids.shape) == tuple(batch.attention_mask.shape) == (0, 0)
        assert tuple(batch.image_grid_thw.shape) == (0, 3)
        assert str(batch.input_ids.dtype).endswith("int64")


def test_pictures_of_an_iterator_are_not_read_ahead(
    tok: VisualTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand photographs, decoded, would fill any memory."""
    monkeypatch.setattr(batches, "WAITING", 4 * 16 * 16 * 3)
    alive: list[int] = []
    encode = tok.codec.encode

    def encoded(pixels: np.ndarray) -> Codes:
        alive[-len(pixels) :] = []
        return encode(pixels)

    def pictures() -> Iterator[np.ndarray]:
        for seed in range(10):
            alive.append(seed)
            assert len(alive) <= 4
            yield picture(16, 16, seed)

    monkeypatch.setattr(tok.codec, "encode", encoded)
    found = tok.encode_codes(pictures())
    assert all(
        torch.equal(codes, tok.encode_codes(picture(16, 16, seed))[0])
        for seed, codes in enumerate(found)
    )
    assert len(found) == 10


def test_columns_of_tables(tok: VisualTokenizer, tmp_path: Path) -> None:
    paths = []
    for seed in range(2):
        paths.append(str(tmp_path / f"{seed}.png"))
        Image.fromarray(picture(seed=seed)).save(paths[-1])
    expected = [tok.encode(path) for path in paths]
    for column in (np.array(paths), np.array(paths, object), (path for path in paths)):
        assert tok(column)["input_ids"] == expected


@pytest.mark.parametrize(
    ("images", "name"),
    [({"image": 1}, "the picture is a dict"), ([[1], [2]], "picture 0 is a list")],
)
def test_what_is_no_picture(tok: VisualTokenizer, images: Any, name: str) -> None:
    with pytest.raises(InputError) as error:
        tok(images)
    assert str(error.value) == (
        f"{name}; a picture is a path, the bytes of a file, an open file, a PIL image, an array or "
        "a tensor"
    )


class Far:
    """A tensor on another device: numpy cannot look at it."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def cpu(self) -> torch.Tensor:
        return self.values

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_ids_on_another_device(tok: VisualTokenizer) -> None:
    grid = tok.encode_codes(picture())[0]
    (expected,) = tok.decode_codes([grid], "np")
    ids = torch.tensor(tok.encode(picture()))
    assert np.array_equal(tok.decode(Far(ids), output_type="np"), expected)
    assert np.array_equal(tok.batch_decode([Far(ids)], output_type="np")[0], expected)
    assert np.array_equal(tok.decode_codes([Far(grid)], "np")[0], expected)


def test_threads(native: VisualTokenizer) -> None:
    pictures = [picture(8 * (1 + seed % 3), 16, seed) for seed in range(12)]
    expected = [native.encode(p) for p in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(native.encode, pictures)) == expected


@pytest.mark.parametrize("size", [0, "4", True, 2.0])
def test_batch_size(size: Any) -> None:
    with pytest.raises(ConfigError) as error:
        tiny.tokenizer().batch_size = size
    assert str(error.value) == f"batch_size is a whole number, at least 1; got {size!r}"


def test_codebook_and_latents(tok: VisualTokenizer) -> None:
    table = tok.model.quantize.embedding.weight
    assert torch.equal(tok.codebook, table)
    grid = tok.encode_codes(picture())[0]
    (latents,) = tok.latents([grid])
    assert torch.equal(latents, table[grid].movedim(-1, 0))


def test_sizes_and_ids(tok: VisualTokenizer) -> None:
    assert (tok.codebook_size, tok.offset, tok.vocab_size, len(tok)) == (64, 0, 69, 69)
    assert tok.precision == "ieee32"
    assert tok.device == torch.device("cpu")


def test_with_preprocess_changes_ids_and_keeps_codes(tok: VisualTokenizer) -> None:
    other = tok.with_preprocess(size=32)
    assert other.encode_codes(picture())[0].shape == (8, 8)
    assert not other.fingerprint.same_ids(tok.fingerprint)
    assert other.fingerprint.codebook == tok.fingerprint.codebook
    assert other.model is tok.model
    assert tok.encode_codes(picture())[0].shape == (4, 4)


def test_codes_of_another_codebook_are_refused(tok: VisualTokenizer) -> None:
    other = tiny.tokenizer(seed=1)
    codes = other.codec.encode(picture(16, 16)[None])
    own = tok.codec.encode(picture(16, 16)[None])
    for mixed in (codes, [codes], [own, codes], [np.zeros((4, 4), int), codes]):
        with pytest.raises(MismatchError) as error:
            tok.decode_codes(mixed)
        assert str(error.value) == (
            f"these codes were made with the codebook {other.fingerprint.codebook[:16]} and cannot "
            f"be decoded by a tokenizer whose codebook is {tok.fingerprint.codebook[:16]}"
        )
    assert len(tok.decode_codes([own, np.zeros((4, 4), int)])) == 2


def test_residual_tokens() -> None:
    tok = VisualTokenizer.from_model(
        tiny.model(quantizer="residual", quantizer_args={"num_quantizers": 3, "start": "kaiming"}),
        Preprocess(size=16, stride=4),
    )
    assert tok.vocab.depth == 3
    batch = tok([picture(), picture(30, 30)], return_tensors="pt")
    assert batch.input_ids.shape == (2, 4 * (4 * 3 + 1) + 2)
    assert batch.image_grid_thw.tolist() == [[1, 4, 4]] * 2
    assert [image.size for image in tok.batch_decode(batch.input_ids)] == [(16, 16)] * 2
    assert tok.encode_codes(picture())[0].shape == (4, 4, 3)
    with pytest.raises(InputError, match="has 3 codes a token and no single codebook"):
        _ = tok.codebook


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"padding": "short"},
            "padding is True, False, 'longest' or 'max_length'; got 'short'",
        ),
        ({"padding": "max_length"}, "padding='max_length' needs max_length"),
        (
            {"max_length": 21},
            "a picture takes 22 ids, more than max_length=21; a cut sequence is no picture, so "
            "take a smaller size",
        ),
        ({"padding_side": "top"}, "padding_side is 'left' or 'right'; got 'top'"),
        ({"max_length": "30"}, "max_length is a whole number, at least 1; got '30'"),
        ({"return_tensors": "tf"}, "return_tensors is 'pt', 'np' or None; got 'tf'"),
    ],
)
def test_bad_padding(tok: VisualTokenizer, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        tok([picture()], **options)
    assert str(error.value) == message


def test_ragged_without_padding(native: VisualTokenizer) -> None:
    pictures = [picture(16, 16), picture(8, 8)]
    assert [len(ids) for ids in native(pictures, padding=False)["input_ids"]] == [22, 8]
    with pytest.raises(InputError) as error:
        native(pictures, padding=False, return_tensors="pt")
    assert str(error.value) == "sequences of 8 to 22 ids make no tensor without padding"


def test_max_length_padding(tok: VisualTokenizer) -> None:
    batch = tok([picture()], padding="max_length", max_length=30, return_tensors="np")
    assert batch.input_ids.shape == (1, 30)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda tok: tok.decode([1, 2, 66, 64]),
            "3 ids stand before the picture, which begins (boi, 64) at position 3; pass the ids "
            "from there on",
        ),
        (
            lambda tok: tok.batch_decode([[1, 2, 66], [1, 2]]),
            "sequence 1: the last row has no end: after id 2 at position 1 there is no eol (66)",
        ),
        (
            lambda tok: tok.batch_decode(torch.tensor([1, 2, 66])),
            "these are the ids of one picture, which `decode` takes, not of several",
        ),
        (
            lambda tok: tok.batch_decode([1, 2, 66]),
            "these are the ids of one picture, which `decode` takes, not of several",
        ),
        (
            lambda tok: tok.batch_decode(tok([picture()])),
            "the ids of several pictures are a list or a tensor; pass its `input_ids`",
        ),
        (
            lambda tok: tok.batch_decode(None),
            "the ids of several pictures are a list or a tensor; got NoneType",
        ),
        (lambda tok: tok.decode([0], 4), "a picture's grid is (h, w), both at least 1; got 4"),
        (
            lambda tok: tok.decode([0], (4.5, 4.5)),
            "a picture's grid is (h, w), both at least 1; got (4.5, 4.5)",
        ),
        (
            lambda tok: tok.decode_codes(torch.zeros(4, 4, dtype=torch.int64)),
            "a list of grids of codes, each (h, w), is needed; one is (4,)",
        ),
        (
            lambda tok: tok.decode_codes([[[1, 2], [3]]]),
            "a grid of codes is one array; got rows of unequal length",
        ),
        (
            lambda tok: tok.decode_codes([np.zeros((2, 2))]),
            "codes are whole numbers; got an array of float64",
        ),
        (
            lambda tok: tok.decode_codes(3),
            "grids of codes come as a list or as `Codes`; got 3",
        ),
        (
            lambda tok: tok.decode_codes([np.zeros((2, 2, 2), int)]),
            "a list of grids of codes, each (h, w), is needed; one is (2, 2, 2)",
        ),
        (
            lambda tok: tok.decode_codes([np.full((2, 2), 64)]),
            "codes of this tokenizer lie in [0, 64); got some from 64 to 64",
        ),
        (
            lambda tok: tok.batch_decode([[0]], [(1, 1), (1, 1)]),
            "there are 1 sequences and 2 grids",
        ),
        (
            lambda tok: tok.decode([0], (2, 2, 2)),
            "a picture's grid is (h, w), both at least 1; got (2, 2, 2)",
        ),
        (
            lambda tok: tok.decode_codes([np.zeros((2, 2), int)], "jpg"),
            "output_type is 'pil', 'np' or 'pt'; got 'jpg'",
        ),
    ],
)
def test_bad_codes(tok: VisualTokenizer, call: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        call(tok)
    assert str(error.value) == message


def test_bad_picture_is_named(tok: VisualTokenizer) -> None:
    with pytest.raises(InputError, match="picture 1"):
        tok([picture(), np.zeros((4, 4, 7), np.uint8)])


def test_codes_are_a_batch(tok: VisualTokenizer) -> None:
    codes = tok.codec.encode(np.stack([picture(16, 16, seed) for seed in range(3)]))
    assert isinstance(codes, Codes)
    images = tok.decode_codes(codes, "np")
    assert len(images) == 3
    for same in (list(codes), [codes], [codes[0], codes[1:]]):
        assert all(map(np.array_equal, images, tok.decode_codes(same, "np")))
    assert all(map(torch.equal, tok.latents([codes]), tok.codec.latents(codes)))


def test_native_lets_an_inherited_size_go(tok: VisualTokenizer) -> None:
    native = tok.with_preprocess(policy="native", max_area=4096)
    assert native.encode_codes(picture(20, 24))[0].shape == (5, 6)
    assert native.with_preprocess(policy="center", size=16).settings == tok.settings
