"""Binary spherical quantization."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantizers.cases import CASES, latents
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.quantizers import QUANTIZERS, to_rows
from vqtok.quantizers.bsq import BinarySphericalQuantizer

CASE = CASES["bsq"]
WIDE = CASES["bsq, grouped entropy"]


@given(seed=st.integers(0, 2**16), size=st.floats(1e-3, 1e3))
def test_codes_are_the_nearest_on_the_sphere(seed: int, size: float) -> None:
    ours = BinarySphericalQuantizer(5, 32).eval()
    z = latents(CASE, seed=seed) * size
    table = ours.look_up(torch.arange(32)).double()
    assert torch.allclose(table.norm(dim=1), torch.ones(32).double())
    gaps = torch.cdist(F.normalize(to_rows(z).double(), dim=1), table)
    assert torch.equal(ours.encode(z).flatten(), gaps.argmin(1))


def test_the_first_dimension_is_the_highest_bit() -> None:
    ours = BinarySphericalQuantizer(3, 8).eval()
    z = torch.tensor([[1.0, -1, -1], [-1, -1, 5], [-1, 2, 0], [0, 0, 0]]).T[None]
    assert ours.encode(z).tolist() == [[4, 1, 2, 0]]
    assert torch.allclose(
        ours.decode(torch.tensor([[4]]))[0, :, 0], 3**-0.5 * torch.tensor([1, -1.0, -1])
    )


def test_several_ids_are_the_one_in_parts() -> None:
    one, two = BinarySphericalQuantizer(6, 64).eval(), BinarySphericalQuantizer(6, 8).eval()
    z = latents(WIDE)
    parts = two.encode(z)
    assert (one.depth, two.depth) == (0, 2) and parts.shape == (2, 3, 4, 2)
    assert torch.equal(one.encode(z), parts[..., 0] * 8 + parts[..., 1])
    assert torch.equal(two.decode(parts), one.decode(one.encode(z)))
    assert two.codes_shape((3, 4)) == (3, 4, 2)


def test_36_bits() -> None:
    """The widest of the published ones."""
    ours = BinarySphericalQuantizer(36, 1 << 18).eval()
    z = torch.randn(2, 36, 3, 4)
    codes = ours.encode(z)
    assert codes.shape == (2, 3, 4, 2) and int(codes.max()) < 1 << 18
    assert torch.equal(ours.decode(codes), torch.where(z > 0, 1.0, -1.0) / 6)


@pytest.mark.parametrize("scale", [None, 1.0, 0.25])
def test_the_gradient_is_that_of_the_unit_vector_times_a_scale(scale: float | None) -> None:
    ours = BinarySphericalQuantizer(6, 64, gradient_scale=scale)
    z, weights = latents(WIDE).requires_grad_(), latents(WIDE, seed=1)
    out = ours(z).z
    assert torch.equal(out, ours.decode(ours.encode(z)))
    (out * weights).sum().backward()
    rows, g = to_rows(z).detach().double(), to_rows(weights).double()
    length, unit = rows.norm(dim=1, keepdim=True), F.normalize(rows, dim=1)
    along = (g * unit).sum(1, keepdim=True)
    expected = (g - along * unit) / length * (6**-0.5 if scale is None else scale)
    assert z.grad is not None
    torch.testing.assert_close(to_rows(z.grad).double(), expected, rtol=1e-4, atol=1e-6)


def written_out(z: Tensor, group: int, inverse: float, gamma: float) -> Tensor:
    """The entropy loss over the codes of each group, in float64."""
    unit = F.normalize(to_rows(z).double(), dim=1)
    dim = unit.shape[1]
    bits = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * group).view(-1, group)
    logits = 2 * inverse * unit.unflatten(1, (-1, group)) @ bits.T / dim**0.5
    shares = logits.softmax(-1)
    sure = -(shares * shares.log()).sum((1, 2)).mean()
    mean = shares.mean(0)
    return sure + gamma * (mean * (mean + 1e-8).log()).sum()


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_the_entropy_loss_in_float64(group: int) -> None:
    ours = BinarySphericalQuantizer(
        6, 64, group_size=group, inv_temperature=3.0, diversity_gamma=0.7, commitment_weight=2.0
    )
    z = latents(WIDE)
    losses = ours(z).losses
    expected = written_out(z, group, 3.0, 0.7).float()
    torch.testing.assert_close(losses["entropy"], expected, rtol=1e-5, atol=1e-6)
    gap = (F.normalize(z, dim=1) - ours.decode(ours.encode(z))).square().mean()
    torch.testing.assert_close(losses["commit"], gap)
    torch.testing.assert_close(ours.total_loss(losses), 2 * gap + 0.1 * expected)


def test_larger_groups_see_bits_that_move_together() -> None:
    z = latents(WIDE)
    z = torch.cat([z[:, :1], z[:, :1], z[:, 2:]], 1)  # the first two bits are one
    even = {}
    for group in (1, 2):
        both = BinarySphericalQuantizer(6, 64, group_size=group, inv_temperature=50.0)
        sure = BinarySphericalQuantizer(
            6, 64, group_size=group, inv_temperature=50.0, diversity_gamma=0.0
        )
        even[group] = float(sure(z).losses["entropy"] - both(z).losses["entropy"])
    assert even[2] < even[1] - 0.4  # of log 2


@pytest.mark.parametrize("value", [0.0, 50.0, -50.0])
def test_sure_bits_have_a_gradient(value: float) -> None:
    z = torch.full((1, 6, 2, 2), value).requires_grad_()
    ours = BinarySphericalQuantizer(6, 64, group_size=3, inv_temperature=500.0)
    out = ours(z)
    (out.z.sum() + ours.total_loss(out.losses)).backward()
    assert z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("size", [1000, 1 << 4, 1 << 7])
def test_a_codebook_size_must_match_the_bits(size: int) -> None:
    with pytest.raises(ConfigError) as error:
        BinarySphericalQuantizer(6, size)
    assert str(error.value) == (
        "'bsq' has one bit a dimension, and ids of codebook_size codes stand for equal shares of "
        f"them: codebook_size is 2^n, where n divides dim=6; got {size}"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"group_size": 4},
            "group_size divides the dimensions evenly; got group_size=4 and dim=6",
        ),
        ({"inv_temperature": 0.0}, "inv_temperature is positive; got 0.0"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        QUANTIZERS["bsq"](6, 64, **changes)
    assert str(error.value) == message


def test_groups_have_one_id_each() -> None:
    with pytest.raises(ConfigError) as error:
        QUANTIZERS["grouped"](12, 8, groups=2, kind="bsq")
    assert str(error.value) == (
        "the groups of 'grouped' are quantizers with one code a token; 'bsq' has more"
    )
    grouped = QUANTIZERS["grouped"](6, 8, groups=2, kind="bsq")
    assert grouped.encode(latents(WIDE)).shape == (2, 3, 4, 2)
