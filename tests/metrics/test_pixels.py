"""PSNR and SSIM as scikit-image has them, and one rounding for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vqtok.errors import ConfigError, ImageError
from vqtok.metrics.pixels import Pictures, psnr, ssim, to_uint8

SKIMAGE: dict[str, dict[str, Any]] = {
    "uniform7": {},
    "gaussian11": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}


def pictures(n: int = 3, h: int = 20, w: int = 33, channels: int = 3) -> list[Pictures]:
    """Smooth pictures, and noisy copies of them, the later ones noisier."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:h, :w]
    phase = random.uniform(0, 6, (n, 1, 1, channels))
    clean = 128 + 90 * np.sin(y[..., None] / 5 + x[..., None] / 7 + phase)
    noise = random.standard_normal(clean.shape) * np.array([3, 20, 80, 5])[:n, None, None, None]
    return [np.clip(p, 0, 255).round().astype(np.uint8) for p in (clean, clean + noise)]


# --- to_uint8 -------------------------------------------------------------------------------------


def test_all_256_values_come_back() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    for signed in (
        values.float() / 127.5 - 1,
        values.float() / 255 * 2 - 1,
        values.double() / 127.5 - 1,
    ):
        assert to_uint8(signed.view(1, 1, 16, 16)).ravel().tolist() == values.tolist()


def test_it_clamps_and_rounds() -> None:
    pixels = torch.tensor([-torch.inf, -7, -1.001, -0.995, 0.995, 1.001, 7, torch.inf])
    assert to_uint8(pixels.view(1, 1, 2, 4)).ravel().tolist() == [0, 0, 0, 1, 254, 255, 255, 255]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype: torch.dtype) -> None:
    pixels = torch.linspace(-1, 1, 48).view(1, 3, 4, 4).to(dtype).requires_grad_()
    assert np.array_equal(to_uint8(pixels), to_uint8(pixels.float()))


def test_channels_go_last() -> None:
    pixels = torch.rand(2, 3, 4, 5) * 2 - 1
    out = to_uint8(pixels)
    assert (out.shape, out.dtype) == ((2, 4, 5, 3), np.uint8)
    assert out.flags.c_contiguous
    assert out[1, 2, 3, 0] == to_uint8(pixels[1:, :1, 2:3, 3:4]).item()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            torch.zeros(3, 4, 5),
            "decoded pixels are floats of the shape (N, C, H, W); got float32 (3, 4, 5)",
        ),
        (
            torch.zeros(1, 3, 4, 5, dtype=torch.uint8),
            "decoded pixels are floats of the shape (N, C, H, W); got uint8 (1, 3, 4, 5)",
        ),
        (
            torch.full((1, 3, 4, 5), torch.nan),
            "decoded pixels are numbers in [-1, 1]; got some NaN",
        ),
    ],
)
def test_pixels_that_are_none(pixels: torch.Tensor, message: str) -> None:
    with pytest.raises(ImageError) as error:
        to_uint8(pixels)
    assert str(error.value) == message


# --- PSNR -----------------------------------------------------------------------------------------


def test_psnr_by_hand() -> None:
    a = np.zeros((4, 2, 2, 3), np.uint8)
    b = a.copy()
    b[1] = 255  # the largest error there is: 0 dB
    b[2] = 1
    b[3, 0, 0, 0] = 10  # a mean square of 100 / 12
    expected = [np.inf, 0, 20 * np.log10(255), 10 * np.log10(255**2 * 12 / 100)]
    assert psnr(a, b) == pytest.approx(expected)
    assert psnr(b, a) == pytest.approx(expected)


def test_psnr_is_that_of_skimage() -> None:
    a, b = pictures()
    expected = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)]
    assert psnr(a, b) == pytest.approx(expected, rel=1e-12)


# --- SSIM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", list(SKIMAGE))
@pytest.mark.parametrize("shape", [(20, 33, 3), (11, 11, 3), (40, 16, 1)])
def test_ssim_is_that_of_skimage(window: Any, shape: tuple[int, int, int]) -> None:
    a, b = pictures(3, *shape)
    settings = {"channel_axis": -1, "data_range": 255, **SKIMAGE[window]}
    expected = [structural_similarity(x, y, **settings) for x, y in zip(a, b, strict=True)]
    assert ssim(a, b, window) == pytest.approx(expected, rel=1e-9)


def test_the_windows_differ_and_one_is_the_default() -> None:
    a, b = pictures()
    assert np.array_equal(ssim(a, b), ssim(a, b, "uniform7"))
    assert abs(ssim(a, b, "uniform7") - ssim(a, b, "gaussian11")).min() > 1e-4


@pytest.mark.parametrize("window", list(SKIMAGE))
def test_ssim_by_hand(window: Any) -> None:
    a, b = pictures()
    assert ssim(a, a, window) == pytest.approx(1)
    assert ssim(a, b, window) == pytest.approx(ssim(b, a, window))
    black, grey = np.zeros((1, 12, 12, 3), np.uint8), np.full((1, 12, 12, 3), 100, np.uint8)
    c1 = 2.55**2
    assert ssim(black, grey, window) == pytest.approx(c1 / (100**2 + c1))


def test_no_pictures() -> None:
    none = np.zeros((0, 16, 16, 3), np.uint8)
    assert psnr(none, none).shape == ssim(none, none).shape == (0,)


def test_a_window_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as error:
        ssim(*pictures(), "gaussian")  # type: ignore[arg-type]
    assert str(error.value) == (
        "there is no SSIM window called 'gaussian'. Did you mean 'gaussian11'? "
        "Known: gaussian11, uniform7."
    )


def test_a_picture_smaller_than_the_window() -> None:
    with pytest.raises(ImageError) as error:
        ssim(*pictures(1, 10, 40), "gaussian11")
    assert str(error.value) == (
        "SSIM with the window 'gaussian11' needs pictures of at least 11 x 11 pixels; got 10 x 40"
    )


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a / 255,
            "pictures to compare are uint8 arrays of the shape (N, H, W, C); got float64 "
            "(3, 20, 33, 3)",
        ),
        (
            lambda a: a[0],
            "pictures to compare are uint8 arrays of the shape (N, H, W, C); got uint8 (20, 33, 3)",
        ),
        (
            lambda a: a[:1],
            "pictures to compare have one shape; got (3, 20, 33, 3) and (1, 20, 33, 3)",
        ),
    ],
)
def test_pictures_that_cannot_be_compared(metric: Any, change: Any, message: str) -> None:
    a, b = pictures()
    with pytest.raises(ImageError) as error:
        metric(a, change(b))
    assert str(error.value) == message
