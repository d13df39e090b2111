"""One folder and one weight file for vqtok, diffusers and transformers, with equal ids."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from autoencoders.toys import TOYS, pixels, toy
from diffusers import VQModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import model, tokenizer
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig

from vqtok import AutoencoderVQ, VisualTokenizer
from vqtok.autoencoders import AUTOENCODERS
from vqtok.errors import ConfigError, ImageError, InputError, LoadError
from vqtok.hf.configuration import VQTokConfig
from vqtok.hf.image_processing import VQTokImageProcessor, VQTokImageProcessorPil
from vqtok.hf.modeling import VQTokModel
from vqtok.preprocess import Preprocess

BACKENDS = {"torchvision": VQTokImageProcessor, "pil": VQTokImageProcessorPil}
needs_auto_image_processor = pytest.mark.skipif(
    getattr(AutoImageProcessor, "is_dummy", False),
    reason="transformers before 5.18 has no AutoImageProcessor without torchvision",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("tokenizer")
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (40, 56, 4), dtype=np.uint8), "RGBA")


@needs_auto_image_processor
@pytest.mark.parametrize("backend", BACKENDS)
def test_four_readers(folder: Path, picture: Image.Image, backend: str) -> None:
    (ids,) = VisualTokenizer.from_pretrained(folder).encode_codes(picture)
    assert len(ids.unique()) >= 3
    processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
    assert type(processor) is BACKENDS[backend]
    pixels = processor(picture, return_tensors="pt").pixel_values
    theirs = AutoModel.from_pretrained(folder)
    assert type(theirs) is VQTokModel and not theirs.training
    assert torch.equal(theirs.encode(pixels).image_codes[0], ids)
    ours = AutoencoderVQ.from_pretrained(folder)
    assert torch.equal(ours.encode_codes(pixels)[0], ids)
    stock = VQModel.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(stock.quantize(stock.encode(pixels).latents)[2][2], ids.flatten())
    decoded = theirs.decode(ids[None]).pixel_values
    assert torch.equal(decoded, ours.decode_codes(ids[None]))


def test_outputs(folder: Path) -> None:
    theirs = AutoModel.from_pretrained(folder)
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        out = theirs(pixels)
        loss, values, codes = theirs(pixels, return_dict=False)
    assert list(out) == ["loss", "pixel_values", "image_codes"]
    assert torch.equal(out.loss, loss) and torch.equal(out.pixel_values, values)
    assert torch.equal(out.image_codes, codes)
    assert torch.equal(theirs.encode(pixels, return_dict=False)[0], codes)
    assert torch.equal(
        theirs.decode(codes, return_dict=False)[0], theirs.autoencoder.decode_codes(codes)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_codebook_stays_float32(folder: Path, dtype: torch.dtype) -> None:
    theirs = AutoModel.from_pretrained(folder, dtype=dtype)
    assert theirs.quant_conv.weight.dtype == dtype
    assert theirs.quantize.embedding.weight.dtype == torch.float32
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    assert theirs.encode(pixels).image_codes.shape == (1, 4, 4)
    assert theirs(pixels).pixel_values.dtype == dtype


def test_shards(tmp_path: Path) -> None:
    ours = model()
    ours.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    theirs = AutoModel.from_pretrained(tmp_path)
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(theirs.state_dict()[k], v) for k, v in ours.state_dict().items())


def test_saved_by_transformers(tmp_path: Path, folder: Path) -> None:
    theirs = AutoModel.from_pretrained(folder)
    theirs.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    assert torch.equal(again.encode(pixels).image_codes, theirs.encode(pixels).image_codes)


def test_a_new_model_starts_as_ours_does() -> None:
    settings = dict(model().config)
    torch.manual_seed(3)
    theirs = VQTokModel(VQTokConfig(**settings)).state_dict()
    torch.manual_seed(3)
    ours = AutoencoderVQ.from_config(settings).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


def test_a_copy_has_its_own_weights() -> None:
    theirs = VQTokModel(VQTokConfig(**dict(model().config)))
    other = copy.deepcopy(theirs)
    other.quantize.embedding.weight.data.zero_()
    assert theirs.quantize.embedding.weight.any()
    assert other.autoencoder.quantize is other.quantize


def test_weights_that_lack(tmp_path: Path, folder: Path) -> None:
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["encoder.conv_in.bias"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(LoadError) as error:
        AutoModel.from_pretrained(tmp_path)
    assert str(error.value) == (
        f"the weights in {tmp_path} lack 1 of this model's tensors, among them "
        "'encoder.conv_in.bias'"
    )


def test_the_configuration_has_the_autoencoders_settings() -> None:
    parameters = inspect.signature(AutoencoderVQ.__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.name != "self"}
    plain = json.loads(json.dumps(defaults))
    assert VQTokConfig().settings() == plain


def test_a_configuration_equals_its_copy(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert VQTokConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    assert config.settings() == json.loads(json.dumps(VQTokConfig(**config.settings()).settings()))


@pytest.mark.parametrize("processor", BACKENDS.values())
def test_what_an_image_processor_takes(
    processor: Any, picture: Image.Image, tmp_path: Path
) -> None:
    picture.save(tmp_path / "a.png")
    whole = np.asarray(picture.convert("RGB"))
    made = processor(policy="center", size=16, stride=4)
    one = made(picture, return_tensors="np").pixel_values
    assert one.shape == (1, 3, 16, 16) and one.dtype == np.float32
    again = made([str(tmp_path / "a.png"), picture], return_tensors="np").pixel_values
    assert np.array_equal(again, np.concatenate([one, one]))
    first = made(np.moveaxis(whole, -1, 0), return_tensors="np").pixel_values
    last = made([[whole]], return_tensors="np").pixel_values
    assert np.array_equal(first, last)
    values = made(picture).pixel_values
    kind = np.ndarray if processor is VQTokImageProcessorPil else torch.Tensor
    assert isinstance(values, list) and isinstance(values[0], kind)


@pytest.mark.parametrize("processor", BACKENDS.values())
def test_settings_for_one_call(processor: Any, picture: Image.Image) -> None:
    made = processor(policy="center", size=16, stride=4)
    for size in (32, (32, 32), {"height": 32, "width": 32}):
        assert made(picture, size=size, return_tensors="pt").pixel_values.shape == (1, 3, 32, 32)
    assert made(picture, return_tensors="pt").pixel_values.shape == (1, 3, 16, 16)


@needs_auto_image_processor
@pytest.mark.parametrize("processor", BACKENDS.values())
def test_both_write_the_file_that_vqtok_reads(processor: Any, tmp_path: Path) -> None:
    rule = Preprocess(policy="pad", size=(16, 32), stride=4, background=(1, 2, 3))
    processor(**rule.model_dump()).save_pretrained(tmp_path)
    assert Preprocess.load(tmp_path) == rule
    for backend, kind in BACKENDS.items():
        again = AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
        assert type(again) is kind and again.to_dict() == rule.to_config()


@pytest.mark.parametrize(
    ("kind", "settings", "call", "message"),
    [
        (
            ConfigError,
            {"polic": "center"},
            {},
            "preprocessing has no setting 'polic'. Did you mean 'policy'? Known: background, "
            "max_area, max_pixels, policy, resize, size, stride.",
        ),
        (
            ConfigError,
            {},
            {"do_convert_rgb": False},
            "do_convert_rgb=False: vqtok makes RGB of every picture",
        ),
        (
            ConfigError,
            {},
            {"policy": "center"},
            "policy 'center' needs a size, such as size=256",
        ),
        (
            InputError,
            {},
            {"return_tensors": "pt"},
            "pictures of the sizes [(16, 32), (32, 48)] make no one tensor: leave out "
            "return_tensors, or choose a policy other than 'native'",
        ),
    ],
)
def test_errors(kind: type[Exception], settings: Any, call: Any, message: str) -> None:
    with pytest.raises(kind) as error:
        VQTokImageProcessorPil(**settings)(
            [Image.new("RGB", (40, 20)), Image.new("RGB", (50, 40))], **call
        )
    assert str(error.value) == message


def test_a_url_is_refused() -> None:
    with pytest.raises(ImageError) as error:
        VQTokImageProcessorPil()("https://example.org/a.png")
    assert str(error.value) == (
        "'https://example.org/a.png' is a URL, and vqtok fetches none: download it, then pass its "
        "path or bytes"
    )


@pytest.mark.parametrize("name", TOYS)
def test_every_architecture(name: str, tmp_path: Path) -> None:
    ours = toy(name)
    ours.save_pretrained(tmp_path / "ours")
    theirs = AutoModel.from_pretrained(tmp_path / "ours")
    assert type(theirs) is VQTokModel and type(theirs.autoencoder) is type(ours)
    x = pixels(ours)
    codes = ours.encode_codes(x)
    assert torch.equal(theirs.encode(x).image_codes, codes)
    assert torch.equal(theirs.decode(codes).pixel_values, ours.decode_codes(codes))
    theirs.save_pretrained(tmp_path / "theirs")
    again = AutoModel.from_pretrained(tmp_path / "theirs")
    assert torch.equal(again.encode(x).image_codes, codes)
    half = AutoModel.from_pretrained(tmp_path / "ours", dtype=torch.float16)
    assert half.quantize.embedding.weight.dtype == torch.float32
    assert half.autoencoder.last_layer.dtype == torch.float16


@pytest.mark.parametrize("name", TOYS)
def test_settings_of_every_architecture(name: str) -> None:
    config = {k: v for k, v in toy(name).config.items() if not k.startswith("_")}
    named = VQTokConfig(_class_name=AUTOENCODERS[name].__name__, **config)
    assert named.autoencoder() is AUTOENCODERS[name]
    own = inspect.signature(AUTOENCODERS[name].__init__).parameters
    settings = {key: value for key, value in config.items() if key in own}
    assert named.settings() == json.loads(json.dumps(settings))
    again = VQTokConfig.from_dict(json.loads(named.to_json_string()))
    assert again.settings() == named.settings()
    foreign = {key for other in TOYS for key in toy(other).config} - set(config)
    assert not foreign & (set(named.to_dict()) - set(PreTrainedConfig().to_dict()))
