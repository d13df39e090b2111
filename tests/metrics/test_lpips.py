"""LPIPS against its formula in float64, on random weights, and what it takes and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from metric_weights import VARIABLES, layout, random_tensors, random_weights
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError, ImageError, LoadError
from vqtok.metrics.lpips import Lpips, Net
from vqtok.metrics.weights import find_weights, read_tensors

# Of each convolution: number, stride, padding; whether a pooling stands before it, and whether
# what comes after it is compared.
VGG = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
POOLED, COMPARED = {5, 10, 17, 24}, {2, 7, 14, 21, 28}
ALEX = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
NETS: list[Net] = ["vgg", "alex"]
FILES = {"vgg": "vgg16", "alex": "alexnet"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("weights")
    for name in FILES.values():
        random_weights(place, name)
    return place


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def pictures(n: int = 2, side: int = 40, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, 3, side, side + 5, generator=generator) * 2 - 1
    return x, y


def vgg_features(weights: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    found = []
    for i in VGG:
        x = F.max_pool2d(x, 2) if i in POOLED else x
        x = F.conv2d(x, weights[f"{i}.weight"], weights[f"{i}.bias"], padding=1).clamp_min(0)
        found += [x] if i in COMPARED else []
    return found


def alex_features(weights: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    found = []
    for i, (stride, padding) in ALEX.items():
        x = F.max_pool2d(x, 3, 2) if i in (3, 6) else x
        x = F.conv2d(x, weights[f"{i}.weight"], weights[f"{i}.bias"], stride, padding).clamp_min(0)
        found.append(x)
    return found


def by_hand(net: str, folder: Path, x: Tensor, y: Tensor) -> Tensor:
    """The paper's equation 1, with the scaling of version 0.1, place by place, in float64."""
    heads = {n: t.double() for n, t in read_tensors(find_weights("lpips")).items()}
    trunk = read_tensors(find_weights(FILES[net], folder))
    weights = {name: tensor.double() for name, tensor in trunk.items()}
    features = vgg_features if net == "vgg" else alex_features
    mean = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[:, None, None]
    deviation = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[:, None, None]
    a, b = (features(weights, (t.double() - mean) / deviation) for t in (x, y))
    total = torch.zeros(len(x), dtype=torch.float64)
    for i in range(5):
        p, q = F.normalize(a[i], dim=1), F.normalize(b[i], dim=1)
        weighted = heads[f"{net}.lin{i}"] * (p - q) ** 2
        total += weighted.sum(1).flatten(1).mean(1)
    return total


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", NETS)
def test_it_is_the_formula(net: Net, folder: Path) -> None:
    x, y = pictures()
    wanted = by_hand(net, folder, x, y)
    distance = Lpips.load(net, folder)
    got = distance(x, y)
    assert (got.shape, got.dtype) == ((2,), torch.float32)
    assert wanted.min() > 0.01
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=0)
    exact = distance.double()(x, y)
    torch.testing.assert_close(exact, wanted, rtol=1e-7, atol=0)


@pytest.mark.parametrize("net", NETS)
def test_equal_pictures_are_at_zero_and_order_is_nothing(net: Net, folder: Path) -> None:
    x, y = pictures()
    distance = Lpips.load(net, folder)
    assert distance(x, x).tolist() == [0, 0]
    assert torch.equal(distance(x, y), distance(y, x))
    nearer = x + 0.05 * (y - x)
    assert (distance(x, nearer) > 0).all()
    assert (distance(x, nearer) < distance(x, y)).all()


def test_each_picture_counts_alone(folder: Path) -> None:
    x, y = pictures(3)
    distance = Lpips.load("alex", folder)
    alone = [distance(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(distance(x, y), torch.cat(alone), rtol=1e-5, atol=0)


def test_no_pictures_have_no_distances(folder: Path) -> None:
    none = torch.zeros(0, 3, 40, 40)
    assert Lpips.load("alex", folder)(none, none).shape == (0,)


def test_a_clip_is_the_mean_of_its_frames(folder: Path) -> None:
    x, y = (t.unflatten(0, (2, 3)).transpose(1, 2) for t in pictures(6))
    distance = Lpips.load("alex", folder)
    frames = [distance(x[:, :, t], y[:, :, t]) for t in range(3)]
    torch.testing.assert_close(distance(x, y), torch.stack(frames).mean(0), rtol=1e-5, atol=0)


def test_half_precision_changes_the_pictures_alone(folder: Path) -> None:
    x, y = pictures()
    distance = Lpips.load("alex", folder)
    wanted = distance(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(x, y), wanted)
    assert torch.equal(distance.half()(x, y), wanted)
    halves = x.bfloat16(), y.bfloat16()
    assert torch.equal(distance(*halves), distance(*(t.float() for t in halves)))


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", NETS)
def test_the_gradient_is_the_slope(net: Net, folder: Path) -> None:
    x, y = (t.double() for t in pictures(1))
    distance = Lpips.load(net, folder, check_range=False).double()
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(leaf, y).sum(), leaf)
    step = 1e-6 * gradient / gradient.norm()
    slope = (distance(x + step, y) - distance(x - step, y)).item() / 2e-6
    assert slope == pytest.approx(gradient.norm().item(), rel=1e-4)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("size", [0, 1e-30])
def test_the_gradient_is_finite_where_features_vanish(
    net: Net, size: float, tmp_path: Path
) -> None:
    tensors = random_tensors(Lpips(net).trunk)
    biases = {name: 0 * tensor for name, tensor in tensors.items() if name.endswith("bias")}
    faint = {"0.weight": size * tensors["0.weight"]}
    save_file(tensors | biases | faint, tmp_path / "faint.safetensors")
    distance = Lpips.load(net, tmp_path / "faint.safetensors")
    x, y = pictures()
    x.requires_grad_()
    distance(x, y).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# --- files ----------------------------------------------------------------------------------------


def test_torchvisions_file_serves_as_it_is(folder: Path, tmp_path: Path) -> None:
    short = read_tensors(find_weights("alexnet", folder))
    whole = {f"features.{name}": tensor for name, tensor in short.items()}
    torch.save(whole | {"classifier.1.weight": torch.ones(3, 2)}, tmp_path / "alexnet.pth")
    x, y = pictures()
    distance = Lpips.load("alex", tmp_path / "alexnet.pth")
    assert torch.equal(distance(x, y), Lpips.load("alex", folder)(x, y))


@pytest.mark.parametrize(
    ("net", "wanted"), [("vgg", "bb2de53203e8999a"), ("alex", "b91efb0b94569d70")]
)
def test_names_and_shapes_are_torchvisions(net: Net, wanted: str) -> None:
    """The prints of `torchvision.models.*().features`."""
    assert layout(random_tensors(Lpips(net).trunk)) == wanted


@pytest.mark.parametrize("net", NETS)
def test_the_packages_heads_serve_as_they_are(net: Net, folder: Path, tmp_path: Path) -> None:
    heads = read_tensors(find_weights("lpips"))
    packaged = {f"lin{i}.model.1.weight": 2 * heads[f"{net}.lin{i}"] for i in range(5)}
    torch.save(packaged, tmp_path / "alex.pth")
    x, y = pictures()
    distance = Lpips.load(net, folder, tmp_path / "alex.pth")
    twice = 2 * Lpips.load(net, folder)(x, y)
    torch.testing.assert_close(distance(x, y), twice, rtol=1e-6, atol=0)


def test_the_shipped_heads() -> None:
    heads = read_tensors(find_weights("lpips"))
    assert sorted(heads) == sorted(f"{net}.lin{i}" for net in NETS for i in range(5))
    assert all((tensor >= 0).all() for tensor in heads.values())


def test_the_wrong_files(folder: Path) -> None:
    vgg = find_weights("vgg16", folder)
    with pytest.raises(LoadError) as error:
        Lpips.load("alex", vgg)
    assert str(error.value) == (
        f"{vgg} holds no weights of AlexNet: without 3.bias, 3.weight, 6.bias and 3 more; with the "
        "unknown 12.bias, 12.weight, 14.bias and 19 more; of other shapes: 0.weight, 10.weight"
    )
    with pytest.raises(LoadError) as error:
        Lpips.load("vgg", folder, vgg)
    assert str(error.value) == (
        f"{vgg} holds no weights of LPIPS's heads: without heads.0.weight, heads.1.weight, "
        "heads.2.weight and 2 more"
    )


def test_an_unknown_network() -> None:
    with pytest.raises(ConfigError) as error:
        Lpips.load("alexnet")  # type: ignore[arg-type]
    assert str(error.value) == (
        "there is no LPIPS network called 'alexnet'. Did you mean 'alex'? Known: alex, vgg."
    )


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            torch.zeros(2, 3, 40, 40),
            torch.zeros(1, 3, 40, 40),
            "LPIPS compares two batches of one shape, pictures (B, 3, H, W) or clips "
            "(B, 3, T, H, W); got (2, 3, 40, 40) and (1, 3, 40, 40)",
        ),
        (
            torch.zeros(2, 1, 40, 40),
            torch.zeros(2, 1, 40, 40),
            "LPIPS compares two batches of one shape, pictures (B, 3, H, W) or clips "
            "(B, 3, T, H, W); got (2, 1, 40, 40) and (2, 1, 40, 40)",
        ),
        (
            torch.zeros(2, 3, 40, 30),
            torch.zeros(2, 3, 40, 30),
            "LPIPS with 'alex' needs pictures of at least 31 x 31 pixels; got 40 x 30",
        ),
        (
            torch.zeros(2, 3, 40, 40),
            torch.zeros(2, 3, 40, 40, dtype=torch.uint8),
            "LPIPS compares floats in [-1, 1]; got uint8",
        ),
        (
            torch.zeros(2, 3, 40, 40),
            torch.linspace(0, 255, 9600).view(2, 3, 40, 40),
            "LPIPS compares pictures in [-1, 1]; got values from 0 to 255",
        ),
        (
            torch.full((2, 3, 40, 40), torch.nan),
            torch.zeros(2, 3, 40, 40),
            "LPIPS compares pictures in [-1, 1]; got values from nan to nan",
        ),
    ],
)
def test_what_is_no_pair_of_pictures(folder: Path, x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ImageError) as error:
        Lpips.load("alex", folder)(x, y)
    assert str(error.value) == message


def test_the_range_is_looked_at_unless_it_is_not(folder: Path) -> None:
    x, y = pictures()
    distance = Lpips.load("alex", folder, check_range=False)
    assert distance(3 * x, y).isfinite().all()
    with pytest.raises(ImageError):
        Lpips.load("alex", folder)(3 * x, y)


@pytest.mark.parametrize(("net", "side"), [("vgg", 16), ("alex", 31)])
def test_the_smallest_pictures(net: Net, side: int, folder: Path) -> None:
    x = torch.zeros(1, 3, side, side)
    assert Lpips.load(net, folder)(x, x).tolist() == [0]
