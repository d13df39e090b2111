"""What travels in the package."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from vqtok import probe
from vqtok.tokenizer import VisualTokenizer
from vqtok.zoo import bundled, samples


def test_samples_are_pictures_with_a_source() -> None:
    paths = samples()
    sources = (paths[0].parent / "SOURCES.md").read_text(encoding="utf-8")
    assert len(paths) >= 4
    for path in paths:
        assert path.name in sources
        with Image.open(path) as picture:
            assert min(picture.size) >= 256


@pytest.mark.parametrize("name", bundled())
def test_bundled_tokenizer_is_what_it_says(name: str) -> None:
    folder = bundled()[name]
    tok = VisualTokenizer.from_pretrained(name)  # its fingerprint is compared on the way
    result = probe.check(folder, tok.model)
    assert result.verdict in ("exact", "near ties"), result
    card = (folder / "README.md").read_text(encoding="utf-8")
    for value in tok.fingerprint.to_dict().values():
        assert value in card or value == "vqtok-fp/1"


@pytest.mark.parametrize("name", bundled())
def test_bundled_tokenizer_reconstructs(name: str) -> None:
    """Far from noise: a broken decoder or a shuffled codebook gives under 12 dB."""
    from vqtok.metrics.pixels import psnr
    from vqtok.preprocess import preprocess

    tok = VisualTokenizer.from_pretrained(name)
    for path in samples():
        original = preprocess(path, tok.settings)
        back = tok.decode(tok.encode(path), output_type="np")
        assert psnr(original[None], back[None])[0] > 17


@pytest.mark.parametrize("name", bundled())
def test_weights_are_small(name: str) -> None:
    size = sum(path.stat().st_size for path in bundled()[name].iterdir())
    assert size < 32e6
    config = json.loads((bundled()[name] / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderVQ"
