"""Graphs as a codec: pixels to codes and back, what is refused, and what is saved."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_folders as made
import pytest
from onnx_folders import NATIVE, PICTURES, SETTINGS, codes_of, pixels_of

from vqtok.config_file import read_config, write_config
from vqtok.errors import CodesError, ConfigError, ImageError, InputError, LoadError, MismatchError
from vqtok.export.runtime import OnnxBackend, OnnxCodec, probe
from vqtok.export.runtime.folder import sha256
from vqtok.tokenizer import VisualTokenizer
from vqtok.types import Codes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.folder(tmp_path_factory.mktemp("onnx") / "plain", settings=NATIVE)


@pytest.fixture
def tok(place: Path) -> VisualTokenizer:
    return VisualTokenizer.from_pretrained(place, device="cpu")


def codec_of(folder: Path) -> Any:
    return OnnxBackend().load(folder, device="cpu").codec


def test_pixels_to_codes_and_back(tok: VisualTokenizer) -> None:
    assert isinstance(tok.codec, OnnxCodec)
    for size in ((8, 12), (16, 4)):
        pixels = pixels_of(3, size)
        codes = tok.codec.encode(pixels)
        assert np.array_equal(codes.ids, codes_of(pixels, PICTURES))
        assert codes.sizes.tolist() == [list(size)] * 3
        assert codes.codebook == tok.fingerprint.codebook
        back = tok.codec.decode(codes)
        assert back.dtype == np.uint8
        assert np.array_equal(back[:, ::4, ::4, 1], codes.ids * 4)


@pytest.mark.parametrize("kinds", [{"pixels": "float"}, {"codes": "int32"}])
def test_other_types_of_pixels_and_codes(tmp_path: Path, kinds: dict[str, str]) -> None:
    codec = codec_of(made.folder(tmp_path, **kinds))
    pixels = pixels_of(2, (8, 8))
    codes = codec.encode(pixels)
    assert codes.ids.dtype == kinds.get("codes", "int64")
    assert np.abs(codes.ids - codes_of(pixels, PICTURES)).max() <= ("pixels" in kinds)
    assert np.array_equal(codec.decode(codes)[:, ::4, ::4, 2], codes.ids * 4)


def test_a_tokenizer_of_graphs(tok: VisualTokenizer) -> None:
    picture = pixels_of(1, (13, 9))[0]
    ids = tok.encode(picture)
    grid = tok.encode_images(picture)[0]
    assert grid.ids.shape == (1, 3, 2)
    assert [tok.decode(ids, output_type="np").tolist()] == [
        one.tolist() for one in tok.decode_codes(grid, "np")
    ]
    assert [codes.tolist() for codes in tok.encode_codes([picture])] == [grid.ids[0].tolist()]
    assert tok(picture, return_tensors="np").input_ids.tolist() == [ids]
    assert (tok.precision, tok.device, tok.batch_size) == ("ieee32", "cpu", 16)
    assert repr(tok) == f"VisualTokenizer({tok.fingerprint}, 64 codes, ieee32)"
    assert repr(tok.codec) == f"OnnxCodec({str(tok.codec.folder)!r} on cpu)"


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.zeros((1, 8, 8, 3), np.float32),
            "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got float32 "
            "(1, 8, 8, 3)",
        ),
        (
            np.zeros((8, 8, 3), np.uint8),
            "a batch of pictures is a uint8 array of the shape (N, H, W, 3); got uint8 (8, 8, 3)",
        ),
        (
            np.zeros((1, 8, 6, 3), np.uint8),
            "the sides of a picture are multiples of 4 x 4; got 8 x 6",
        ),
        (
            np.zeros((0, 8, 8, 3), np.uint8),
            "there is no picture in a batch of the shape (0, 8, 8, 3)",
        ),
    ],
)
def test_pixels_that_are_none(tok: VisualTokenizer, pixels: Any, message: str) -> None:
    with pytest.raises(ImageError) as error:
        tok.codec.encode(pixels)
    assert str(error.value) == message


def test_codes_that_are_not_these_graphs(tok: VisualTokenizer) -> None:
    sizes = np.zeros((1, 2), np.int32)
    with pytest.raises(MismatchError) as other:
        tok.codec.decode(Codes(np.zeros((1, 2, 2), int), sizes, 64, codebook="f" * 64))
    assert str(other.value) == (
        f"these codes were made with the codebook {'f' * 16} and cannot be decoded by a tokenizer "
        f"whose codebook is {'c' * 16}"
    )
    with pytest.raises(CodesError) as flat:
        tok.codec.decode(Codes(np.zeros((1, 4), int), sizes, 64))
    assert str(flat.value) == (
        "the codes of a picture have the shape (h, w) here, with at least one token; got (4,)"
    )
    with pytest.raises(CodesError) as none:
        tok.codec.decode(Codes(np.zeros((0, 2, 2), int), sizes[:0], 64))
    assert str(none.value) == "there are no codes in a batch of the shape (0, 2, 2)"


@pytest.mark.parametrize("ask", ["model", "codebook", "latents", "vectors"])
def test_what_needs_torch_says_so(tok: VisualTokenizer, ask: str) -> None:
    with pytest.raises(InputError) as error:
        found = getattr(tok, ask)
        found([np.zeros((1, 1), int)] if ask == "latents" else [0])
    assert "OnnxCodec" in str(error.value) or "ONNX Runtime" in str(error.value)


# --- the probe ------------------------------------------------------------------------------------


def test_graphs_that_give_what_torch_gave(tok: VisualTokenizer) -> None:
    result = tok.codec.verify()
    assert str(result) == "exact: 12 of 12 probe ids equal"


def test_a_folder_without_a_probe(tmp_path: Path) -> None:
    assert codec_of(made.folder(tmp_path, probe=False)).verify().verdict == "unchecked"


def test_near_ties_and_more(tmp_path: Path) -> None:
    codec = codec_of(made.folder(tmp_path))
    codes = codec.encode(pixels_of(2, (8, 12))).ids
    codes[0, 0, :2] += 1
    ties = np.zeros(codes.shape, bool)
    ties[0, 0, :2] = True
    made.write_probe(tmp_path, PICTURES, codes=codes, ties=ties)
    assert str(codec.verify()) == "near ties (2): 10 of 12 probe ids equal"
    ties[0, 0, 0] = False
    made.write_probe(tmp_path, PICTURES, codes=codes, ties=ties)
    with pytest.raises(MismatchError) as error:
        codec.verify()
    assert str(error.value) == (
        f"the tokenizer in '{tmp_path}' does not compute here what it did where it was saved: "
        "refused (1): 10 of 12 probe ids equal"
    )


HALF = {"encoder": {"vqtok.precision": "fp16"}}


def test_half_precision_may_differ_as_it_did(tmp_path: Path) -> None:
    codec = codec_of(made.folder(tmp_path, precision="fp16", agreement=0.95, metadata=HALF))
    codes = codec.encode(pixels_of(2, (8, 12))).ids
    ties = np.zeros(codes.shape, bool)
    ties[0, 0, :2] = True
    other = codes.copy()
    other[0, :, :2] += 1
    made.write_probe(tmp_path, PICTURES, codes=other, ties=ties)
    assert probe.agreement(codec, tmp_path / "probe.safetensors") == 0.8
    assert str(codec.verify()) == "near ties (4): 8 of 12 probe ids equal"
    made.write_probe(tmp_path, PICTURES, codes=(codes + 1) % 64, ties=ties)
    with pytest.raises(MismatchError) as error:
        codec.verify()
    assert str(error.value) == (
        f"the tokenizer in '{tmp_path}' does not compute here what it did where it was exported: "
        "0.0% of the probe's ids that are no near ties are equal to torch's, and 95.0% were there"
    )
    result = probe.check(codec, tmp_path / "probe.safetensors")
    assert str(result) == "refused (12): 0 of 12 probe ids equal"


def test_half_precision_that_nobody_measured(tmp_path: Path) -> None:
    codec = codec_of(made.folder(tmp_path, precision="fp16", metadata=HALF))
    codes = codec.encode(pixels_of(2, (8, 12))).ids
    made.write_probe(tmp_path, PICTURES, codes=(codes + 1) % 64)
    assert str(codec.verify()) == "near ties (12): 0 of 12 probe ids equal"


def test_int8_is_a_precision_of_graphs(tmp_path: Path) -> None:
    props = {"encoder": {"vqtok.precision": "int8"}}
    place = made.folder(tmp_path, precision="int8", metadata=props)
    tok = VisualTokenizer.from_pretrained(place, device="cpu", precision="int8")
    assert tok.precision == "int8"
    with pytest.raises(ConfigError) as error:
        OnnxBackend().check("cpu", "int9")
    assert str(error.value) == (
        "there is no precision called 'int9'. Did you mean 'int8'? Known: bf16, fp16, ieee32, "
        "int8, tf32."
    )


def test_a_decoder_of_another_precision(tmp_path: Path) -> None:
    props = {"decoder": {"vqtok.precision": "int8"}}
    codec = codec_of(made.folder(tmp_path, decoder_precision="int8", metadata=props))
    assert (codec.precision, codec.decoder_precision) == ("ieee32", "int8")
    assert repr(codec) == f"OnnxCodec({str(tmp_path)!r} on cpu, pixels in int8)"


def test_probes_that_are_none(tmp_path: Path) -> None:
    codec = codec_of(made.folder(tmp_path))
    made.write_probe(tmp_path, PICTURES, codes=np.zeros((1, 2), int))
    with pytest.raises(MismatchError) as shape:
        codec.verify()
    assert str(shape.value) == (
        f"{tmp_path / 'probe.safetensors'} belongs to another model: its codes have the shape "
        "(1, 2), these graphs' (2, 2, 3)"
    )
    (tmp_path / "probe.safetensors").write_bytes(b"no probe")
    with pytest.raises(LoadError, match="is not a readable probe"):
        codec.verify()


# --- other preprocessing, copies, processes -------------------------------------------------------


def test_other_preprocessing(tok: VisualTokenizer, tmp_path: Path) -> None:
    other = tok.with_preprocess(policy="center", size=8)
    assert other.encode_images(pixels_of(1, (20, 30)))[0].grid == (2, 2)
    assert tok.encode_images(pixels_of(1, (20, 28)))[0].grid == (5, 7)
    assert other.fingerprint.preprocess != tok.fingerprint.preprocess
    assert other.fingerprint.codebook == tok.fingerprint.codebook
    with pytest.raises(MismatchError, match="does not fit the model"):
        tok.with_preprocess(policy="center", size=6, stride=6)
    with pytest.raises(MismatchError) as error:
        other.save_pretrained(tmp_path)
    assert str(error.value) == (
        f"the graphs in {tok.codec.folder} name the preprocessing "
        f"{tok.fingerprint.preprocess[:8]}, and this tokenizer's is "
        f"{other.fingerprint.preprocess[:8]}; export the tokenizer with it on torch"
    )


def test_a_copy_with_another_vocabulary(tok: VisualTokenizer, tmp_path: Path) -> None:
    (tok.codec.folder / "README.md").write_text("card", encoding="utf-8")
    out = tmp_path / "deep" / "copy"
    tok.vocab = replace(tok.vocab, offset=1000, boi=1, eoi=2, eol=3, eof=4, pad=0)
    tok.save_pretrained(out)
    again = VisualTokenizer.from_pretrained(out, device="cpu")
    assert again.fingerprint == tok.fingerprint
    assert again.vocab == tok.vocab
    assert again.codec.verify().verdict == "exact"
    (out / "README.md").write_text("mine", encoding="utf-8")
    tok.save_pretrained(out)
    assert (out / "README.md").read_text(encoding="utf-8") == "mine"
    write_config(out, tok.vocab, tok.fingerprint, "fp16")  # of weights that were there before
    again.save_pretrained(out)  # over itself
    assert list(read_config(out)["fingerprints"]) == ["default"]
    with pytest.raises(ConfigError) as variant:
        tok.save_pretrained(out, variant="fp16")
    assert str(variant.value) == "variant='fp16' names weights of torch; these are ONNX graphs"


def test_a_copy_over_a_file(tok: VisualTokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LoadError) as error:
        tok.save_pretrained(tmp_path / "file")
    assert str(error.value) == f"{tmp_path / 'file'} is a file; a tokenizer is saved as a folder"


def test_pickles_open_anew(tok: VisualTokenizer) -> None:
    pixels = pixels_of(2, (8, 8))
    codes = tok.codec.encode(pixels)
    again = pickle.loads(pickle.dumps(tok))
    assert again.codec.encode(pixels) == codes
    assert again.fingerprint == tok.fingerprint


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(tok: VisualTokenizer, method: str) -> None:
    pixels = pixels_of(2, (8, 8))
    codes = tok.codec.encode(pixels)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(tok.codec.encode, [pixels]) == [codes]


def test_graphs_that_were_replaced(tmp_path: Path) -> None:
    codec = codec_of(made.folder(tmp_path))
    file = tmp_path / "encoder.onnx"
    before = sha256(file)
    props = made.props_of("encoder", made.print_of(), SETTINGS, PICTURES)
    made.write_graph(file, "encoder", PICTURES, {**props, "vqtok.precision": "int8"})
    message = (
        f"{file} was replaced since this tokenizer was loaded: its sha256 was {before} and is "
        f"{sha256(file)} now"
    )
    for one in (codec, pickle.loads(pickle.dumps(codec))):
        with pytest.raises(MismatchError) as error:
            one.encode(pixels_of(1, (8, 8)))
        assert str(error.value) == message
    with pytest.raises(MismatchError) as copied:
        codec.save(tmp_path / "copy", made.vocab_of(PICTURES), None)
    assert str(copied.value) == message


def test_weights_that_were_replaced(tmp_path: Path) -> None:
    made.folder(tmp_path)
    beside = tmp_path / "decoder.onnx.data"
    beside.write_bytes(b"before")
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    before = sha256(beside)
    stored["files"][beside.name] = {"sha256": before, "bytes": 6}
    made.write_files(tmp_path, stored)
    codec = codec_of(tmp_path)
    beside.write_bytes(b"after")
    with pytest.raises(MismatchError) as error:
        codec.decode(codec.encode(pixels_of(1, (8, 8))))
    assert str(error.value) == (
        f"{beside} was replaced since this tokenizer was loaded: its sha256 was {before} and is "
        f"{sha256(beside)} now"
    )


@pytest.mark.parametrize(
    ("said", "encoder", "decoder"),
    [
        ({"pixels": "float"}, "float) and tensor(int64", "int64) and tensor(float"),
        ({"codes": "int32"}, "uint8) and tensor(int32", "int32) and tensor(uint8"),
    ],
)
def test_graphs_of_other_types(
    tmp_path: Path, said: dict[str, str], encoder: str, decoder: str
) -> None:
    made.folder(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    made.write_files(tmp_path, {**stored, **said})
    codec = codec_of(tmp_path)
    codes = Codes(np.zeros((1, 2, 2), int), np.full((1, 2), 8, np.int32), 64)
    for role, here, expected, run in (
        ("encoder", "uint8) and tensor(int64", encoder, lambda: codec.encode(pixels_of(1, (8, 8)))),
        ("decoder", "int64) and tensor(uint8", decoder, lambda: codec.decode(codes)),
    ):
        with pytest.raises(MismatchError) as error:
            run()
        assert str(error.value) == (
            f"{tmp_path / role}.onnx has tensor({here}) for what goes in and comes out, and its "
            f"config.json says tensor({expected})"
        )


def test_a_folder_named_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    codec = codec_of(Path("here"))
    assert codec.folder == tmp_path / "here"
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert codec.verify().verdict == "exact"
    assert len(pickle.loads(pickle.dumps(codec)).encode(pixels_of(1, (8, 8)))) == 1


def test_a_folder_without_a_decoder(tmp_path: Path) -> None:
    made.folder(tmp_path)
    (tmp_path / "decoder.onnx").unlink()
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del stored["files"]
    made.write_files(tmp_path, stored)
    codec = codec_of(tmp_path)
    codes = codec.encode(pixels_of(1, (8, 8)))
    with pytest.raises(InputError) as error:
        codec.decode(codes)
    assert str(error.value) == f"{tmp_path} has no decoder.onnx, and so no decoder"
