from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vqtok.errors import ConfigError
from vqtok.training.losses.alignment import Alignment, alignment, load_teacher


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_loops(z: np.ndarray, f: np.ndarray, margin: float, cosine_margin: float) -> float:
    """The two terms of VA-VAE's loss, place by place."""

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))

    near, apart = [], []
    for one, other in zip(z, f, strict=True):
        places = [(one[:, i, j], other[:, i, j]) for i, j in np.ndindex(*one.shape[1:])]
        near += [max(0.0, 1 - cosine_margin - cosine(*place)) for place in places]
        for a, b in places:
            apart += [max(0.0, abs(cosine(a, c) - cosine(b, d)) - margin) for c, d in places]
    return float(np.mean(near) + np.mean(apart))


@pytest.mark.parametrize("margins", [(0.0, 0.0), (0.25, 0.5), (0.1, 0.9)])
def test_it_is_what_loops_make_it(margins: tuple[float, float]) -> None:
    z, f = numbers(2, 4, 3, 2), numbers(2, 4, 3, 2, seed=1)
    found = alignment(z, f, *margins)
    assert found.shape == ()
    assert found.item() == pytest.approx(by_loops(z.numpy(), f.numpy(), *margins))


def test_known_values() -> None:
    """Two places: latents turned against both features, whose own cosine they keep."""
    f = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    assert alignment(3 * f, f, 0, 0) == 0
    assert alignment(-f, f, 0.25, 0.5) == 1.5
    same = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    # At one of two places the cosine is 0; two of four pairs have cosines of 1 in place of 0.
    assert alignment(same, f, 0.25, 0.5) == 0.5 / 2 + 0.75 / 2


def test_a_batch_scores_the_mean_of_its_halves() -> None:
    z, f = numbers(4, 4, 3, 2), numbers(4, 4, 3, 2, seed=1)
    pairs = zip(z.chunk(2), f.chunk(2), strict=True)
    halves = [alignment(*pair, 0.25, 0.5) for pair in pairs]
    torch.testing.assert_close(alignment(z, f, 0.25, 0.5), torch.stack(halves).mean())


def test_the_gradient_is_that_of_the_value() -> None:
    z, f = numbers(1, 3, 2, 2).requires_grad_(), numbers(1, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda z: alignment(z, f, 0.01, 0.0), (z,))


def test_half_precision_is_compared_in_float32() -> None:
    z, f = numbers(2, 4, 3, 2).bfloat16(), numbers(2, 4, 3, 2, seed=1).bfloat16()
    expected = alignment(z.float(), f.float(), 0.25, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = alignment(z, f, 0.25, 0.5)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


class Teacher(nn.Module):
    """Features of patches of `patch` pixels; a dropout that would show if it were trained."""

    def __init__(self, channels: int = 3, width: int = 6, patch: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        return self.drop(self.embed(x))


class Answers(nn.Module):
    """Gives whatever it is made with."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_latents_are_projected_onto_the_teacher() -> None:
    torch.manual_seed(0)
    align = Alignment(Teacher(), 5, 0.25, 0.5, size=16)
    latents, x = torch.randn(2, 5, 4, 4), torch.rand(2, 3, 16, 16)
    expected = alignment(align.project(latents), align.teacher(x), 0.25, 0.5)
    assert align.project.weight.shape == (6, 5, 1, 1)
    assert align.project.bias is None
    assert torch.equal(align(latents, x), expected)


def test_only_the_projection_learns() -> None:
    torch.manual_seed(0)
    align = Alignment(Teacher(), 5, 0.0, 0.0, size=16)
    latents = torch.randn(2, 5, 4, 4, requires_grad=True)
    align(latents, torch.rand(2, 3, 16, 16)).backward()
    trained = [name for name, weight in align.named_parameters() if weight.requires_grad]
    assert trained == ["project.weight"]
    for grad in (latents.grad, align.project.weight.grad):
        assert grad is not None
        assert torch.isfinite(grad).all()
        assert grad.any()
    assert all(weight.grad is None for weight in align.teacher.parameters())


def test_the_teacher_never_trains() -> None:
    align = Alignment(Teacher(), 5, 0.25, 0.5, size=16)
    assert align.train() is align
    assert align.training
    assert not any(module.training for module in align.teacher.modules())


@pytest.mark.parametrize("grid", [(4, 4), (8, 6), (2, 3), (1, 1)])
def test_features_are_resized_to_the_grid_of_latents(grid: tuple[int, int]) -> None:
    """As Pillow resizes: half-pixel centres, and averages over what becomes one place."""
    align = Alignment(Teacher(width=1), 1, 0.0, -1.0, size=16)
    nn.init.ones_(align.project.weight)
    seen: list[Tensor] = []
    align.teacher.forward = lambda x: x[:, :1, :4, :4]  # type: ignore[method-assign]
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vqtok.training.losses.alignment.alignment",
            lambda latents, features, *margins: seen.append(features) or latents.sum(),
        )
        align(torch.ones(1, 1, *grid), x)
    picture = Image.fromarray(x[0, 0, :4, :4].numpy())
    expected = np.asarray(picture.resize(grid[::-1], Image.Resampling.BILINEAR))
    np.testing.assert_allclose(seen[0][0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_may_have_other_channels(channels: int) -> None:
    align = Alignment(Teacher(channels), 5, 0.25, 0.5, channels=channels, size=16)
    assert align(torch.randn(2, 5, 4, 4), torch.rand(2, channels, 16, 16)).isfinite()


def test_clips_are_refused() -> None:
    align = Alignment(Teacher(), 5, 0.25, 0.5, size=16)
    with pytest.raises(ConfigError) as error:
        align(torch.randn(2, 5, 2, 4, 4), torch.rand(2, 3, 4, 16, 16))
    assert str(error.value) == (
        "loss.align compares pictures (B, C, H, W) with their latents (B, D, h, w); got "
        "(2, 3, 4, 16, 16) and (2, 5, 2, 4, 4); clips are trained without it"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            torch.zeros(1, 17, 6),
            "loss.align.teacher maps pixels (B, C, H, W) to features (B, F, h, w); got "
            "(1, 17, 6) for (1, 3, 16, 16)",
        ),
        (
            torch.zeros(2, 6, 4, 4),
            "loss.align.teacher maps pixels (B, C, H, W) to features (B, F, h, w); got "
            "(2, 6, 4, 4) for (1, 3, 16, 16)",
        ),
        (
            {"features": 1},
            "loss.align.teacher maps pixels (B, C, H, W) to features (B, F, h, w); got dict for "
            "(1, 3, 16, 16)",
        ),
        (
            AssertionError("16 is no multiple of 14"),
            "loss.align.teacher does not take pixels (1, 3, 16, 16): 16 is no multiple of 14",
        ),
    ],
)
def test_teachers_that_do_not_answer(answer: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        Alignment(Answers(answer), 5, 0.25, 0.5, size=16)
    assert str(error.value) == message


@pytest.fixture
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_teachers.py").write_text(
        "from torch import nn\n"
        "def good(): return nn.Conv2d(3, 6, 4, 4)\n"
        "def number(): return 7\n"
        "def broken(): return nn.this_is_missing\n"
    )
    (tmp_path / "teacher_without_torch.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("teachers")
def test_a_teacher_is_what_its_function_returns() -> None:
    assert isinstance(load_teacher("some_teachers:good"), nn.Conv2d)


FOUND = "Its module must be installed, or lie in a folder of PYTHONPATH"
FORM = "loss.align.teacher is 'package.module:function', a function that returns the network; got "


@pytest.mark.usefixtures("teachers")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (name, f"{FORM}{name!r}")
            for name in ("", "dinov2", "some_teachers:", ":good", "a:b:c", ".x:good", "a/b.py:f")
        ),
        (
            "no_such_module:good",
            "loss.align.teacher='no_such_module:good' cannot be found: "
            f"No module named 'no_such_module'. {FOUND}",
        ),
        (
            "teacher_without_torch:good",
            "loss.align.teacher='teacher_without_torch:good' cannot be found: "
            f"No module named 'nowhere_to_be_found'. {FOUND}",
        ),
        (
            "some_teachers:best",
            "loss.align.teacher='some_teachers:best' cannot be found: "
            f"module 'some_teachers' has no attribute 'best'. {FOUND}",
        ),
        (
            "some_teachers:number",
            "loss.align.teacher='some_teachers:number' returns a torch.nn.Module; got int",
        ),
    ],
)
def test_teachers_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_teacher(name)
    assert str(error.value) == message


@pytest.mark.usefixtures("teachers")
def test_a_mistake_inside_the_function_shows_as_it_is() -> None:
    with pytest.raises(AttributeError, match="this_is_missing"):
        load_teacher("some_teachers:broken")
