"""Multi-scale residual quantization."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import CodesError, ConfigError, InputError
from vqtok.estimators import ESTIMATORS
from vqtok.quantizers import to_grid, to_rows
from vqtok.quantizers.multiscale import PUBLISHED_SCALES, MultiscaleQuantizer
from vqtok.quantizers.vector import VectorQuantizer, tables_of

GRADIENT = {"codebook_update": "gradient", "dead_codes": "off"}


def quantizer(**changes: Any) -> MultiscaleQuantizer:
    torch.manual_seed(0)
    chosen = {"scales": (1, 2, 4), "start": "normal", "estimator": "ste", **changes}
    return MultiscaleQuantizer(4, 16, **chosen)


def latents(*grid: int, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, *(grid or (4, 4)), generator=generator)


def by_hand(ours: MultiscaleQuantizer, z: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Codes (B, L), and the sums after each scale, by torch's own interpolation in float32."""
    table = ours.table.embedding.weight
    rest, total, ids, totals = z.detach(), torch.zeros_like(z), [], []
    for number, (height, width) in enumerate(ours.scales_of(z.shape[2:])):
        rows = to_rows(F.interpolate(rest, size=(height, width), mode="area"))
        found = torch.cdist(rows.double(), table.double()).argmin(1)
        part = to_grid(table[found], z.new_empty(len(z), 4, height, width))
        part = F.interpolate(part, size=z.shape[2:], mode="bicubic")
        if len(ours.phi):
            phi, ratio = ours.phi[ours.phi_of[number]], 0.5
            part = (1 - ratio) * part + ratio * F.conv2d(part, phi.weight, phi.bias, padding=1)
        rest, total = rest - part.detach(), total + part
        ids.append(found.view(len(z), -1))
        totals.append(total)
    return torch.cat(ids, 1), totals


@pytest.mark.parametrize("phis", [0, 1, 2, 4])
@pytest.mark.parametrize("grid", [(4, 4), (5, 7), (3, 1), (9, 9)])
def test_each_scale_gets_what_is_left_over(phis: int, grid: tuple[int, int]) -> None:
    ours, z = quantizer(phis=phis, **GRADIENT), latents(*grid)
    out = ours(z)
    ids, totals = by_hand(ours, z)
    assert torch.equal(out.codes, ids)
    torch.testing.assert_close(out.z, totals[-1].detach(), atol=1e-5, rtol=1e-5)
    commit = sum(F.mse_loss(z, total.detach()) for total in totals) / 3
    torch.testing.assert_close(out.losses["commit"], commit)
    torch.testing.assert_close(out.losses["codebook"].detach(), commit)


@pytest.mark.parametrize("estimator", ["ste", "rotation"])
def test_the_estimator_is_applied_once_to_the_sum(estimator: str) -> None:
    ours, z = quantizer(estimator=estimator), latents().requires_grad_()
    out = ours(z)
    out.z.square().sum().backward()
    rows = to_rows(z.detach()).requires_grad_()
    _, totals = by_hand(ours, z.detach())
    ESTIMATORS[estimator](rows, to_rows(totals[-1].detach())).square().sum().backward()
    assert z.grad is not None
    torch.testing.assert_close(to_rows(z.grad), rows.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_codes_and_phi_learn_from_the_sums_of_all_scales(update: str) -> None:
    ours = quantizer(codebook_update=update)
    out = ours(latents())
    assert not out.z.requires_grad  # nor does the loss "commit": latents that need none
    assert not out.losses["commit"].requires_grad
    out.losses["codebook"].backward()
    moved = [phi.weight for phi in ours.phi]
    moved += [ours.table.embedding.weight] if update == "gradient" else []
    found = [parameter.grad for parameter in moved]
    for parameter in moved:
        parameter.grad = None
    _, totals = by_hand(ours, latents())
    (sum(F.mse_loss(total, latents()) for total in totals) / 3).backward()
    for grad, parameter in zip(found, moved, strict=True):
        torch.testing.assert_close(grad, parameter.grad, atol=1e-6, rtol=1e-4)


def test_without_anything_to_learn_from_it_there_is_no_codebook_loss() -> None:
    assert list(quantizer(phis=0)(latents()).losses) == ["commit"]


def test_losses_are_weighed_as_the_tables() -> None:
    ours = quantizer(commitment_weight=0.25, codebook_weight=2.0, **GRADIENT)
    losses = ours(latents()).losses
    expected = 0.25 * losses["commit"] + 2 * losses["codebook"]
    torch.testing.assert_close(ours.total_loss(losses), expected)


def test_one_scale_without_phi_is_the_vector_quantizer() -> None:
    one = quantizer(scales=(4,), phis=0, start="data")
    plain = VectorQuantizer(4, 16, estimator="ste")
    plain.load_state_dict(one.table.state_dict())
    for step in range(12):
        out, expected = one(latents(seed=step)), plain(latents(seed=step))
        assert torch.equal(out.z, expected.z)
        assert torch.equal(out.codes, expected.codes.flatten(1))
        one.step(out.sums, torch.Generator().manual_seed(step))
        plain.step(expected.sums, torch.Generator().manual_seed(step))
        for name, value in plain.state_dict().items():
            assert torch.equal(value, one.table.state_dict()[name])


def test_a_step_takes_what_all_scales_were_given() -> None:
    ours = quantizer(dead_codes="off")
    assert tables_of(ours) == [ours.table]
    out = ours(latents())
    rows = torch.cat([scale.rows for scale in ours.descend(latents())], 1).flatten(0, 1)
    expected = torch.zeros(16, 4).index_add(0, out.codes.flatten(), rows)
    torch.testing.assert_close(out.sums.total, expected)
    assert torch.equal(out.sums.count, out.codes.flatten().bincount(minlength=16).float())
    before = ours.table.embedding.weight.clone()
    ours.step(out.sums)
    assert not torch.equal(before, ours.table.embedding.weight)
    assert int(ours.table.steps) == 1


def test_a_start_from_data_lets_vectors_pass() -> None:
    ours = quantizer(start="data", kmeans_iters=5, phis=0, estimator="rotation")
    for step in range(5):
        z = latents(seed=step, batch=8)
        out = ours(z)
        assert torch.equal(out.z, z)
        assert not any(float(loss.detach()) for loss in out.losses.values())
        ours.step(out.sums, torch.Generator().manual_seed(step))
    z = latents(seed=50, batch=8)
    left = (z - ours.eval()(z).z).square().mean()
    assert left < 0.7 * z.square().mean()


def test_directions_find_codes_that_keep_their_length() -> None:
    ours = quantizer(by_direction=True, phis=0, scales=(1,)).eval()
    with torch.no_grad():
        ours.table.embedding.weight.mul_(torch.arange(1, 17)[:, None])
    z = latents(1, 1, batch=64)
    codes = ours.encode(z)[:, 0]
    table = ours.table.embedding.weight.detach()
    assert torch.equal(codes, (F.normalize(z[:, :, 0, 0]) @ F.normalize(table).T).argmax(1))
    assert torch.equal(ours.decode(codes[:, None])[:, :, 0, 0], table[codes])
    assert torch.equal(ours.encode(z * 9)[:, 0], codes)


# --- scales, and codes as a sequence ------------------------------------------------------------


def test_scales_of_the_grid_that_is_trained_on_are_the_setting() -> None:
    ours = MultiscaleQuantizer(4, 16)
    assert ours.scales == PUBLISHED_SCALES
    assert ours.scales_of((16, 16)) == tuple((side, side) for side in PUBLISHED_SCALES)
    assert ours.codes_shape((16, 16)) == (680,)
    assert ours.depth == 0


@given(st.integers(1, 40), st.integers(1, 40))
def test_scales_keep_their_share_of_any_grid(height: int, width: int) -> None:
    found = SHAPES.scales_of((height, width))
    assert found[-1] == (height, width)
    for part, (h, w) in zip(SHAPES.scales, found, strict=True):
        for side, whole in ((h, height), (w, width)):
            assert 1 <= side <= whole
            assert side == 1 or abs(side - whole * part / 16) <= 0.5
    assert SHAPES.codes_shape((height, width)) == (sum(h * w for h, w in found),)


SHAPES = MultiscaleQuantizer(4, 16, phis=0)


def test_halves_are_rounded_up() -> None:
    assert quantizer().scales_of((2, 6)) == ((1, 2), (1, 3), (2, 6))


@given(st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=15)
def test_codes_of_any_grid_decode(height: int, width: int) -> None:
    ours = quantizer().eval()
    z = latents(height, width)
    codes = ours.encode(z)
    assert codes.shape == (2, *ours.codes_shape((height, width)))
    vectors = ours.decode(codes, (height, width))
    assert torch.equal(vectors, ours(z).z)
    if height == width == 4:
        assert torch.equal(ours.decode(codes), vectors)


def test_codes_that_tell_no_grid() -> None:
    ours = quantizer()
    with pytest.raises(CodesError) as error:
        ours.decode(torch.zeros(1, 22, dtype=torch.int64))
    assert str(error.value) == (
        "22 codes do not tell their grid, and are not the 21 of 4 x 4, which the scales [1, 2, 4] "
        "are for: pass the grid (h, w) that they cover"
    )


def test_without_a_grid_codes_are_those_of_the_one_that_is_trained_on() -> None:
    ours = quantizer()
    assert ours.decode(torch.zeros(1, 21, dtype=torch.int64)).shape == (1, 4, 4, 4)


def test_codes_of_another_grid() -> None:
    with pytest.raises(CodesError) as error:
        quantizer().decode(torch.zeros(1, 21, dtype=torch.int64), (4, 5))
    assert str(error.value) == "the scales of a grid of 4 x 5 have 27 codes; got 21"


def test_codes_that_are_no_sequence() -> None:
    with pytest.raises(CodesError) as error:
        quantizer().decode(torch.zeros(1, 4, 4, dtype=torch.int64))
    assert str(error.value) == (
        "codes of the quantizer 'multiscale' have the shape (B, L), the scales one after another; "
        "got (1, 4, 4)"
    )


def test_clips_are_refused() -> None:
    ours, clip = quantizer(), torch.zeros(1, 4, 2, 4, 4)
    for call in (ours, ours.encode, ours.margin):
        with pytest.raises(InputError) as error:
            call(clip)
        assert str(error.value) == (
            "latents for the quantizer 'multiscale' are those of pictures, (B, 4, h, w), floats, "
            "all sides at least 1; got float32 (1, 4, 2, 4, 4)"
        )
    with pytest.raises(InputError) as error:
        ours.codes_shape((2, 4, 4))
    assert str(error.value) == "the quantizer 'multiscale' takes a grid (h, w); got (2, 4, 4)"


def test_inputs_of_a_model_that_predicts_scale_after_scale() -> None:
    ours = quantizer()
    codes = ours.encode(latents())
    _, totals = by_hand(ours, latents())
    expected = [
        to_rows(F.interpolate(total, size=side, mode="area")).view(2, -1, 4)
        for total, side in zip(totals, (2, 4), strict=False)
    ]
    torch.testing.assert_close(ours.var_inputs(codes), torch.cat(expected, 1))
    assert quantizer(scales=(2,)).var_inputs(codes[:, :4]).shape == (2, 0, 4)


# --- margins ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_direction", [False, True])
@given(seed=st.integers(0, 2**31), token=st.integers(0, 26), share=st.floats(0, 0.99))
@settings(max_examples=20)
def test_an_id_stays_while_no_vector_moves_by_its_margin(
    by_direction: bool, seed: int, token: int, share: float
) -> None:
    ours, z = quantizer(by_direction=by_direction).eval(), latents(4, 5, batch=1, seed=seed)
    codes, margin = ours.encode(z), ours.margin(z)
    assert margin.shape == codes.shape
    assert margin.dtype == torch.float32
    way = F.normalize(latents(4, 5, batch=1, seed=seed + 1), dim=1)
    moved = ours.encode(z + share * margin[0, token] * way)
    if margin[0, token] > 1e-3:
        assert moved[0, token] == codes[0, token]


@pytest.mark.parametrize("by_direction", [False, True])
def test_a_margin_is_reached_where_all_vectors_move_to_the_face(by_direction: bool) -> None:
    """The first scale's mean moves as far as all vectors that move the same way."""
    ours, z = quantizer(phis=0, by_direction=by_direction).eval(), latents(batch=64)
    codes, margin = ours.encode(z)[:, 0], ours.margin(z)[:, :1, None, None]
    table = ours.table.embedding.weight.detach()
    table = F.normalize(table, dim=1) if by_direction else table
    ways = [F.normalize(other - table[codes], dim=1)[..., None, None] for other in table]
    kept = [ours.encode(z + 0.99 * margin * way)[:, 0] == codes for way in ways]
    assert torch.stack(kept).all()
    crossed = [ours.encode(z + 1.01 * margin * way)[:, 0] != codes for way in ways]
    assert torch.stack(crossed).any(0).all()


def test_margins_are_those_of_the_coarsest_at_most() -> None:
    ours, z = quantizer(), latents(batch=8)
    margin = ours.margin(z)
    assert (margin[:, 1:5] <= margin[:, :1]).all()
    assert (margin[:, 5:] <= margin[:, 1:5].amin(1, keepdim=True)).all()


# --- settings -----------------------------------------------------------------------------------


def test_each_scale_takes_the_nearest_phi() -> None:
    # As VAR's own code has it: the third and the eighth are halfway, but for rounding.
    assert MultiscaleQuantizer(4, 16).phi_of == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert quantizer(phis=1).phi_of == [0, 0, 0]
    assert quantizer(phis=3).phi_of == [0, 1, 2]
    assert quantizer(phis=0).phi_of == []
    assert quantizer(scales=(4,)).phi_of == [0]


def test_a_phi_that_no_scale_takes_asks_for_no_gradient() -> None:
    ours = quantizer(phis=4, **GRADIENT)
    assert ours.phi_of == [0, 2, 3]
    out = ours(latents())
    out.losses["codebook"].backward()
    for parameter in ours.parameters():
        assert parameter.requires_grad == (parameter.grad is not None)
    assert [phi.weight.requires_grad for phi in ours.phi] == [True, False, True, True]


def test_phi_takes_its_share() -> None:
    whole, half = quantizer(phi_ratio=1.0).phi[0], quantizer(phi_ratio=0.5).phi[0]
    x = latents().double()
    torch.testing.assert_close(half(x), (x + whole(x)) / 2)


def test_settings_reach_the_table() -> None:
    ours = quantizer(decay=0.5, estimator="rotation")
    assert ours.table.decay == 0.5
    assert ours.table.estimator is ours.estimator is ESTIMATORS["rotation"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"use_cosine_sim": True},
            "the quantizer 'multiscale' takes no use_cosine_sim: what is left over gets shorter, "
            "and codes of unit length do not; by_direction=True compares directions, and codes "
            "keep their length",
        ),
        *(
            (
                {"scales": wrong},
                f"scales are whole numbers from 1, coarse to fine, such as (1, 2, 4); got {wrong}",
            )
            for wrong in ((), (0, 1), (2, 1), (1, 2.5))
        ),
        *(
            (
                wrong,
                "phis is at least 0, and phi_ratio lies in (0, 1] where there are any; got "
                f"phis={wrong.get('phis', 4)} and phi_ratio={wrong.get('phi_ratio', 0.5)}",
            )
            for wrong in ({"phis": -1}, {"phi_ratio": 0.0}, {"phi_ratio": 1.5})
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        quantizer(**settings)
    assert str(error.value) == message
