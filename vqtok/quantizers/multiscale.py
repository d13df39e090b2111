"""Multi-scale residual quantization (VAR, arXiv 2404.02905): a picture from coarse to fine.

Each scale says what the coarser ones left over, seen at its own size, by codes of one table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import CodesError, ConfigError, InputError
from vqtok.estimators import Loss
from vqtok.layouts import shape_of
from vqtok.quantizers import QUANTIZERS, Quantizer, to_rows
from vqtok.quantizers._resample import area, bicubic
from vqtok.quantizers.codebook import Codebook, margins
from vqtok.quantizers.vector import VectorQuantizer
from vqtok.search import float64, nearest
from vqtok.strides import share
from vqtok.types import CodeSums, Quantized

__all__ = ["PUBLISHED_SCALES", "Directions", "MultiscaleQuantizer", "Phi", "Scale"]

# Those of VAR's tokenizer, whose grid is 16 x 16.
PUBLISHED_SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)


class Scale(NamedTuple):
    """One scale at work on what the coarser ones left over."""

    rows: Tensor  # (B, n, D) float32: what is left, at this size
    ids: Tensor  # (B, n)
    total: Tensor  # (B, D, h, w) float64: what all scales up to this one say together


class Phi(nn.Conv2d):
    """A convolution that takes `ratio` of a picture's place: (1 - ratio) x + ratio conv(x)."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__(dim, dim, 3, padding=1)
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> the same, in float64."""
        bias = None if self.bias is None else float64(self.bias)
        return x * (1 - self.ratio) + self.ratio * F.conv2d(x, float64(self.weight), bias, 1, 1)


class Directions(Codebook):
    """K codes that are found by their directions, and keep their lengths."""

    def forward(self, x: Tensor, margin: bool = False, to: Tensor | None = None) -> Tensor:
        """See `Codebook.forward`."""
        if not x.is_floating_point():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            rows, codes = F.normalize(x.float(), dim=-1), F.normalize(self.table(), dim=-1)
            if to is not None:
                return self.apart(rows, codes, to)
            ids = nearest(rows, codes)
            # The cells of directions are cones: they widen with the distance from the origin.
            return margins(rows, codes, ids) * x.norm(dim=1) if margin else ids


@QUANTIZERS.register("multiscale")
class MultiscaleQuantizer(Quantizer):
    """Scales of one picture, each quantized by the same `VectorQuantizer`, whose settings go on.

    What is left over is averaged to a scale's size; its codes are brought back to the whole grid by
    bicubic interpolation and a convolution φ, and subtracted. A picture is the sum over its scales.
    Codes are (B, L): the scales from coarse to fine, each row by row. The estimator is applied
    once, to vector and sum. Losses are means over the scales, each comparing the vectors with what
    all scales up to it say together; until a start from data is done, all of them are open.

    scales        side of each scale of the grid that it is trained on, which is the last one's. For
                  any other grid (h, w) they keep their share of it: `scales_of`
    phis          how many convolutions φ there are. Scales take the one that is nearest to them in
                  the order, from coarse to fine; with 0 there is none
    phi_ratio     the share of φ's output that goes through the convolution
    by_direction  codes are found by the angle to a vector alone, and keep their length
    """

    identity: ClassVar[dict[str, Any]] = {
        "scales": PUBLISHED_SCALES,
        "phis": 4,
        "phi_ratio": 0.5,
        "by_direction": False,
    }

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        scales: Sequence[int] = PUBLISHED_SCALES,
        phis: int = 4,
        phi_ratio: float = 0.5,
        by_direction: bool = False,
        estimator: str | None = None,
        estimator_args: dict[str, Any] | None = None,
        commitment_weight: float = 1.0,
        **settings: Any,
    ) -> None:
        _check_settings(scales, phis, phi_ratio, settings)
        shared: dict[str, Any] = {
            "estimator": estimator,
            "estimator_args": estimator_args,
            "commitment_weight": commitment_weight,
        }
        super().__init__(dim, codebook_size, **shared)
        self.scales = tuple(scales)
        self.table = VectorQuantizer(dim, codebook_size, **shared, **settings)
        if by_direction:
            directions = Directions(codebook_size, dim)
            directions.weight = self.table.embedding.weight
            self.table.embedding = directions
        self.phi = nn.ModuleList(Phi(dim, phi_ratio) for _ in range(phis))
        self.phi_of = _nearest_ticks(len(self.scales), phis)
        for number, phi in enumerate(self.phi):
            # Where processes train together, a weight without a gradient would stop them.
            phi.requires_grad_(number in self.phi_of)

    def scales_of(self, grid: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Height and width of each scale of a grid (h, w), coarse to fine; the last is the grid.

        A scale that has the side p of P in the grid that it is trained on has the sides h p / P and
        w p / P here, rounded, halves up, and at least 1: for that grid exactly `scales`.
        """
        if len(grid) != 2:
            raise InputError(
                f"the quantizer 'multiscale' takes a grid (h, w); got {tuple(map(int, grid))}"
            )
        whole = self.scales[-1]

        def side(length: int, part: int) -> int:
            rounded = share(length, part, whole)
            # `max` would fix the size of an exported graph.
            return max(1, rounded) if isinstance(rounded, int) else torch.sym_max(1, rounded)

        height, width = grid
        return tuple((side(height, part), side(width, part)) for part in self.scales)

    def codes_shape(self, grid: Sequence[int]) -> tuple[int, ...]:
        """See `Quantizer.codes_shape`: (L,), the areas of all scales together."""
        return (sum(_areas(self.scales_of(grid))),)

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            scales = list(self.descend(z))
            q = scales[-1].total.to(z.device, torch.float32)
            out = self.carry(to_rows(z).float(), to_rows(q), z, loss, generator)
            losses = self.losses(z, [scale.total for scale in scales])
            codes = torch.cat([scale.ids for scale in scales], 1)
            sums = None
            if self.training:
                out, losses = self.table.unless_open(out, losses, z)
                rows = torch.cat([scale.rows for scale in scales], 1)
                sums = self.table.sums(rows.flatten(0, 1), codes.flatten(), len(z))
        return Quantized(out, codes, losses, sums)

    def encode(self, z: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, L), int64."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            return torch.cat([scale.ids for scale in self.descend(z.detach())], 1)

    def decode(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """Codes (B, L) -> vectors (B, D, h, w), float32.

        Without a grid it is the one that is trained on, where L fits that; codes do not tell.
        """
        self.check_codes(codes)
        *_, total = self._totals(codes.long(), self._grid(codes.shape[1], grid))
        return total.to(codes.device, torch.float32).contiguous()

    def vectors(self, codes: Tensor) -> Tensor:
        """See `Quantizer.vectors`: rows of the table, which each scale spreads over its area."""
        self.check_codes(codes[None])
        return self.table.look_up(codes)

    def var_inputs(self, codes: Tensor, grid: Sequence[int] | None = None) -> Tensor:
        """Codes (B, L) -> (B, L - n, D), float32, n the number of codes of the first scale.

        For each further scale what the scales before it say together, at its size: the inputs of a
        model that predicts scale after scale.
        """
        self.check_codes(codes)
        grid = self._grid(codes.shape[1], grid)
        # In this order, so that the last total is never made.
        pairs = zip(self.scales_of(grid)[1:], self._totals(codes.long(), grid), strict=False)
        seen = [area(total, scale).flatten(2).mT for scale, total in pairs]
        if not seen:
            return torch.zeros(len(codes), 0, self.dim, device=codes.device)
        return torch.cat(seen, 1).to(codes.device, torch.float32)

    def margin(self, z: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, L): how far all vectors may move, each by less, and an id stays.

        While no coarser id changes, what is left over moves as the vectors do, and their means by
        no more than the one that moves most. So a token has the least margin of all coarser ones,
        and its own.
        """
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            least = z.new_full((len(z), 1), torch.inf, dtype=torch.float32)
            margins = []
            for rows, ids, _ in self.descend(z.detach()):
                far = self.table.clearance(rows.flatten(0, 1)).view(ids.shape)
                margins.append(torch.minimum(far, least))
                least = margins[-1].amin(1, keepdim=True)
        return torch.cat(margins, 1)

    @torch.no_grad()
    def excess(self, z: Tensor, codes: Tensor) -> Tensor:
        """See `Quantizer.excess`."""
        self.check_latents(z)
        self.check_codes(codes)
        areas = _areas(self.scales_of(self._grid(codes.shape[1], z.shape[2:])))
        with torch.autocast(z.device.type, enabled=False):
            scales = self.descend(z, codes.long().split(areas, 1))
            found = [
                self.table.farther(rows.flatten(0, 1), ids.flatten()).view(ids.shape)
                for rows, ids, _ in scales
            ]
        return torch.cat(found, 1)

    def step(self, sums: CodeSums, generator: torch.Generator | None = None) -> None:
        """See `Quantizer.step`."""
        self.table.step(sums, generator)

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        return self.table.total_loss(losses)

    def losses(self, z: Tensor, totals: Sequence[Tensor]) -> dict[str, Tensor]:
        """Vectors (B, D, h, w) and what the scales up to each say -> the unweighted losses.

        "codebook" moves φ, too, and is there wherever something learns from it.
        """
        e = float64(z)

        def mean(of: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(of)).mean().to(z.device, torch.float32)

        losses = {"commit": mean([F.mse_loss(e, total.detach()) for total in totals])}
        if len(self.phi) or not self.table.by_average:
            losses["codebook"] = mean([F.mse_loss(total, e.detach()) for total in totals])
        return losses

    def descend(self, z: Tensor, codes: Sequence[Tensor] = ()) -> Iterator[Scale]:
        """(B, D, h, w) -> the scales, from coarse to fine.

        With the `codes` of the scales, (B, n) each, they are subtracted in place of the nearest.

        In float64: products in float32 round otherwise with another batch or machine, and here
        each id depends on all those before it.
        """
        grid = z.shape[2:]
        scales = self.scales_of(grid)
        rest, total = float64(z.detach()), None
        for number, scale in enumerate(scales):
            seen = rest if number == len(scales) - 1 else area(rest, scale)
            rows = seen.flatten(2).mT.to(z.device, torch.float32)
            own = codes[number] if codes else self.table.find(rows.flatten(0, 1))
            ids = own.view(rows.shape[:2])
            part = self._part(number, ids, scale, grid)
            rest = rest - part.detach()
            total = part if total is None else total + part
            yield Scale(rows, ids, total)

    def check_latents(self, z: Tensor) -> None:
        """Raises where z is not (B, D, h, w)."""
        super().check_latents(z)
        if z.ndim != 4 or not z.is_floating_point() or 0 in z.shape:
            raise InputError(
                "latents for the quantizer 'multiscale' are those of pictures, "
                f"(B, {self.dim}, h, w), floats, all sides at least 1; got {str(z.dtype)[6:]} "
                f"{tuple(z.shape)}"
            )

    def check_codes(self, codes: Tensor) -> None:
        """See `Quantizer.check_codes`; raises where codes are not (B, L), too."""
        super().check_codes(codes)
        if codes.ndim != 2:
            raise CodesError(
                "codes of the quantizer 'multiscale' have the shape (B, L), the scales one after "
                f"another; got {tuple(codes.shape)}"
            )

    # --- inside ---------------------------------------------------------------------------------

    def _totals(self, codes: Tensor, grid: Sequence[int]) -> Iterator[Tensor]:
        """(B, L) -> what all scales up to each say together (B, D, h, w), float64."""
        scales, total = self.scales_of(grid), None
        each = zip(codes.split(_areas(scales), 1), scales, strict=True)
        for number, (ids, scale) in enumerate(each):
            part = self._part(number, ids, scale, grid)
            total = part if total is None else total + part
            yield total

    def _part(
        self, number: int, ids: Tensor, scale: tuple[int, int], grid: Sequence[int]
    ) -> Tensor:
        """What the codes (B, n) of one scale say about the whole grid: (B, D, h, w), float64."""
        picture = float64(self.table.look_up(ids)).mT.unflatten(2, scale)
        if number < len(self.scales) - 1:
            height, width = grid
            picture = bicubic(picture, (height, width))
        refined: Tensor = self.phi[self.phi_of[number]](picture) if self.phi_of else picture
        return refined

    def _grid(self, length: int, grid: Sequence[int] | None) -> Sequence[int]:
        """The grid that so many codes cover."""
        if grid is not None:
            grid = shape_of(grid)
            expected = self.codes_shape(grid)[0]
            if length != expected:
                raise CodesError(
                    f"the scales of a grid of {' x '.join(map(str, grid))} have {expected} codes; "
                    f"got {length}"
                )
            return grid
        trained = self.scales[-1], self.scales[-1]
        if length != self.codes_shape(trained)[0]:
            raise CodesError(
                f"{length} codes do not tell their grid, and are not the "
                f"{self.codes_shape(trained)[0]} of {trained[0]} x {trained[1]}, which the scales "
                f"{list(self.scales)} are for: pass the grid (h, w) that they cover"
            )
        return trained


def _areas(scales: Sequence[tuple[int, int]]) -> list[int]:
    return [height * width for height, width in scales]


def _nearest_ticks(scales: int, phis: int) -> list[int]:
    """For each scale the number of its φ, as published: the ticks of four lie further out.

    By numpy, whose rounding decides where a scale is halfway between two.
    """
    if not phis:
        return []
    edge = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    ticks = np.linspace(edge, 1 - edge, phis)
    places = [number / max(1, scales - 1) for number in range(scales)]
    return [int(np.argmin(np.abs(ticks - place))) for place in places]


def _check_settings(
    scales: Sequence[int], phis: int, phi_ratio: float, settings: dict[str, Any]
) -> None:
    if settings.get("use_cosine_sim"):
        raise ConfigError(
            "the quantizer 'multiscale' takes no use_cosine_sim: what is left over gets shorter, "
            "and codes of unit length do not; by_direction=True compares directions, and codes "
            "keep their length"
        )
    whole = all(isinstance(side, int) and side > 0 for side in scales)
    if not scales or not whole or list(scales) != sorted(scales):
        raise ConfigError(
            f"scales are whole numbers from 1, coarse to fine, such as (1, 2, 4); got {scales}"
        )
    if phis < 0 or (phis and not 0 < phi_ratio <= 1):
        raise ConfigError(
            "phis is at least 0, and phi_ratio lies in (0, 1] where there are any; got "
            f"phis={phis} and phi_ratio={phi_ratio}"
        )
