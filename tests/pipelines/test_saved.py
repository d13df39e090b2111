"""A saved pipeline that holds `AutoencoderVQ` loads again after `import vqtok`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from fakehub import FakeHub
from tiny import model

import vqtok

READ = """
{first}
import torch
vae = DiffusionPipeline.from_pretrained({where!r}).vae
torch.manual_seed(0)
codes = vae.encode_codes(torch.rand(1, 3, 16, 16) * 2 - 1)
print(type(vae).__module__, type(vae).__name__, codes.flatten().tolist())
"""
DIFFUSERS = "from diffusers import DiffusionPipeline"
OLD_DIFFUSERS = "from diffusers.pipelines import pipeline_loading_utils"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    net = diffusers.DiTTransformer2DModel(
        sample_size=4, num_layers=1, attention_head_dim=4, num_attention_heads=2, in_channels=4
    )
    diffusers.DiTPipeline(net, model(), diffusers.DDIMScheduler()).save_pretrained(folder)
    return folder


def expected() -> str:
    torch.manual_seed(0)
    vae = model()
    torch.manual_seed(0)
    codes = vae.encode_codes(torch.rand(1, 3, 16, 16) * 2 - 1)
    return f"vqtok.autoencoders.image AutoencoderVQ {codes.flatten().tolist()}"


def test_the_index_names_the_package(saved: Path) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    assert index["vae"] == ["vqtok", "AutoencoderVQ"]
    assert vqtok.ModelMixin is diffusers.ModelMixin


def test_from_a_folder(saved: Path) -> None:
    pipe = diffusers.DiffusionPipeline.from_pretrained(saved)
    assert type(pipe.vae) is vqtok.AutoencoderVQ


@pytest.mark.parametrize(
    "first",
    [f"import vqtok\n{DIFFUSERS}", f"{DIFFUSERS}\n{OLD_DIFFUSERS}\nimport vqtok"],
    ids=["vqtok first", "diffusers first"],
)
def test_from_a_hub(saved: Path, tmp_path: Path, first: str) -> None:
    with FakeHub() as hub:
        hub.add("someone/pipeline", saved)
        done = subprocess.run(
            [sys.executable, "-c", READ.format(first=first, where="someone/pipeline")],
            capture_output=True,
            text=True,
            env=hub.environment(tmp_path),
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected()
