"""The NumPy twin of torch's uint8 bicubic makes torch's bytes, without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from preprocess_pictures import SETTINGS, Pixels, noise

from vqtok.bicubic import bicubic
from vqtok.preprocess import RESIZERS
from vqtok.zoo import samples

Size = tuple[int, int]
SIDES = st.integers(1, 120)
SIZES = st.tuples(SIDES, SIDES)
# Without AVX2 torch fails on what becomes one pixel wide, in this layout.
NARROWEST = 1 if "AVX" in torch.backends.cpu.get_cpu_capability() else 2
TARGETS = st.tuples(SIDES, st.integers(NARROWEST, 120))


def by_torch(pixels: Pixels, size: Size) -> Pixels:
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        planes, size=size, mode="bicubic", antialias=True, align_corners=False
    )
    return resized[0].permute(1, 2, 0).numpy()


def rough(size: Size, seed: int) -> Pixels:
    """Any bytes, or black and white alone, where sums leave 0..255."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*size, 3)).astype(np.uint8)
    return pixels if seed % 3 else pixels // 128 * 255


@given(source=SIZES, target=TARGETS, seed=st.integers(0, 2**32))
@example(source=(1, 1), target=(7, 5), seed=1)
@example(source=(9, 9), target=(9, 9), seed=1)
@example(source=(9, 40), target=(9, 13), seed=0)
@example(source=(40, 9), target=(13, 9), seed=0)
@example(source=(2, 2000), target=(30, 3), seed=0)
@example(source=(64, 64), target=(32, 128), seed=2)
def test_bytes_are_torchs(source: Size, target: Size, seed: int) -> None:
    pixels = rough(source, seed)
    assert np.array_equal(bicubic(pixels, target), by_torch(pixels, target))


def side(random: np.random.Generator, most: int, least: int = 1) -> int:
    """Small ones as often as large ones."""
    return int(np.exp(random.uniform(np.log(least), np.log(most))))


def sizes(count: int, seed: int) -> list[tuple[Size, Size]]:
    """Up and down, thin ones, one side kept, and sides that are multiples of each other."""
    random, made = np.random.default_rng(seed), []
    for number in range(count):
        source = [side(random, 1500), side(random, 1500)]
        target = [side(random, 600), side(random, 600, NARROWEST)]
        if number % 5 == 1:
            source[number // 5 % 2], target[number // 5 % 2] = (
                side(random, 6000),
                side(random, 9, 2),
            )
        elif number % 5 == 2:
            target[number // 5 % 2] = max(source[number // 5 % 2], NARROWEST)
        elif number % 5 == 3:
            source[:] = (side(random, 64, 2) * random.integers(1, 9, 2)).tolist()
            target[:] = (np.array(source) * random.integers(1, 9, 2) // 4).clip(2, 600).tolist()
        made.append(((source[0], source[1]), (target[0], target[1])))
    return made


def differing(pairs: list[tuple[Size, Size]]) -> list[tuple[Size, Size]]:
    def equal(source: Size, target: Size, seed: int) -> bool:
        pixels = rough(source, seed)
        return np.array_equal(bicubic(pixels, target), by_torch(pixels, target))

    return [pair for seed, pair in enumerate(pairs) if not equal(*pair, seed)]


def test_bytes_are_torchs_at_a_thousand_sizes() -> None:
    assert differing(sizes(1000, 0)) == []


@pytest.mark.parametrize("sources", [(3024, 4032), (4032, 3024), (64, 12_000)])
def test_bytes_are_torchs_of_large_photographs(sources: Size) -> None:
    pixels = rough(sources, 1)
    assert np.array_equal(bicubic(pixels, (256, 341)), by_torch(pixels, (256, 341)))


def test_a_part_of_a_picture_and_one_that_cannot_be_written() -> None:
    part = noise(60, 80)[7:50, ::2]
    part.setflags(write=False)
    for target in ((20, 31), (43, 31), (20, 40), (43, 40)):
        made = bicubic(part, target)
        assert np.array_equal(made, by_torch(part.copy(), target))
        assert made.flags.writeable and made.flags.c_contiguous and made.base is None


@pytest.mark.parametrize("height", [1, 2, 31])
def test_one_pixel_wide_is_right_on_every_processor(height: int) -> None:
    """Each row by itself, where torch is right everywhere, once as a column."""
    pixels = noise(24, 37)
    rows = by_torch(pixels.transpose(1, 0, 2).copy(), (1, 24)).transpose(1, 0, 2)
    expected = bicubic(rows, (height, 1))
    assert np.array_equal(RESIZERS["torch-u8-bicubic"](pixels, (height, 1)), expected)


WITHOUT = "import sys\nsys.modules['torch'] = None\n"
PRINTS = """
import hashlib
from vqtok.preprocess import Preprocess, preprocess
from vqtok.prints import of_settings

def told(settings, photo):
    pixels = preprocess(photo, settings)
    return of_settings(settings) + hashlib.sha256(pixels.tobytes()).hexdigest()
"""


def without_torch(code: str) -> list[str]:
    """What a process prints in which torch cannot be imported."""
    command = [sys.executable, "-c", WITHOUT + code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    return run.stdout.splitlines()


def test_fingerprints_and_photographs_are_the_same_without_torch() -> None:
    configs = [settings.to_config() for settings in SETTINGS]
    ask = f"for config in {configs!r}:\n"
    ask += f"    print(told(Preprocess.from_config(config), {str(samples()[0])!r}))"
    here: dict[str, Any] = {}
    exec(PRINTS, here)
    assert without_torch(PRINTS + ask) == [here["told"](one, samples()[0]) for one in SETTINGS]


MODULES = (
    "batches clips frames geometry layouts movies pictures preprocess prints readers resize "
    "sequences sheets streams token_ids types videos vocab"
)


def test_modules_that_need_no_torch() -> None:
    code = f"import importlib\nfor name in {MODULES!r}.split():\n"
    assert without_torch(code + "    importlib.import_module('vqtok.' + name)") == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "check_output_type('pt')",
            "output_type='pt' makes tensors with torch, which is not installed: "
            "pip install 'torch'",
        ),
        (
            "check_padding(True, 'right', None, 'pt')",
            "return_tensors='pt' makes tensors with torch, which is not installed: "
            "pip install 'torch'",
        ),
    ],
)
def test_tensors_need_torch(call: str, message: str) -> None:
    code = "from vqtok.errors import MissingExtraError\nfrom vqtok.sequences import *\n"
    said = without_torch(f"{code}try: {call}\nexcept MissingExtraError as e: print(e)")
    assert said == [message]
