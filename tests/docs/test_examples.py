"""The examples of docs/examples on photographs that are in the package: what is made is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vqtok import VisualTokenizer
from vqtok.offline import open_tokens, tokenize
from vqtok.pictures import load_image
from vqtok.zoo import samples

EXAMPLES = Path(__file__).resolve().parents[2] / "docs/examples"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 crops of four photographs, codes and latents."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "photos").mkdir()
    for photo in samples():
        (folder / "photos" / photo.name).write_bytes(photo.read_bytes())
    views = ["random:150@0.25-0.6"]
    out = folder / "tokens"
    tok = VisualTokenizer.from_pretrained("photo-tiny").with_preprocess(size=64)
    tokenize(folder / "photos", out, tok, views=views, what="both")
    return out


def run(name: str, folder: Path, *arguments: str | Path) -> str:
    """What an example prints."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1])


def test_a_gpt_learns_more_than_how_often_codes_come(tokens: Path, tmp_path: Path) -> None:
    size = ["--steps", "200", "--width", "128", "--depth", "3", "--held-out", "0.1"]
    said = run("gpt.py", tmp_path, tokens, *size, "--output", "samples.png")
    loss = number(r"validation loss ([\d.]+) nats a code", said)
    assert loss < number(r"how often each code comes up has ([\d.]+)", said) - 0.1
    assert load_image(tmp_path / "samples.png").shape == (4 * 64 + 3 * 4 + 16,) * 2 + (3,)


def test_a_pipeline_of_latents_is_saved_and_samples(tokens: Path, tmp_path: Path) -> None:
    size = ["--steps", "40", "--width", "64", "--depth", "2", "--sampling", "4"]
    said = run("latent_dit.py", tmp_path, tokens, *size, "--pipeline", "dit")
    assert number(r"after 40 steps: loss ([\d.]+)", said) < 1
    assert load_image(tmp_path / "samples.png").shape == (4 * 64 + 3 * 4 + 16,) * 2 + (3,)
    config = (tmp_path / "dit/vae/config.json").read_text()
    scale = open_tokens(tokens).manifest.latents.scaling_factor
    assert number(r'"scaling_factor": ([\d.]+)', config) == pytest.approx(scale)
