"""Every quantizer in the shapes that its tests run in."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from vqtok.quantizers import QUANTIZERS, Quantizer
from vqtok.types import CodeSums


class Case(NamedTuple):
    name: str
    dim: int
    codebook_size: int
    settings: dict[str, Any]


CASES = {
    "vector": Case("vector", 4, 16, {}),
    "vector, cosine": Case("vector", 4, 16, {"use_cosine_sim": True}),
    "vector, gradient": Case("vector", 4, 16, {"codebook_update": "gradient"}),
    "fsq": Case("fsq", 3, 90, {"levels": (6, 5, 3)}),
    "lfq": Case("lfq", 5, 32, {}),
    "bsq": Case("bsq", 5, 32, {}),
    "bsq, grouped entropy": Case("bsq", 6, 64, {"group_size": 3}),
    "bsq, several ids": Case("bsq", 6, 8, {}),
    "ibq": Case("ibq", 4, 16, {}),
    "gumbel": Case("gumbel", 4, 16, {}),
    "simvq": Case("simvq", 4, 16, {}),
    "residual": Case("residual", 4, 16, {"num_quantizers": 3}),
    "residual, shared": Case("residual", 4, 16, {"num_quantizers": 3, "shared_codebook": True}),
    "multiscale": Case("multiscale", 4, 16, {"scales": (1, 2, 4)}),
    "multiscale, by direction": Case(
        "multiscale", 4, 16, {"scales": (1, 2, 4), "phis": 0, "by_direction": True}
    ),
    "grouped": Case("grouped", 6, 16, {"groups": 2}),
    "grouped, fsq": Case("grouped", 6, 90, {"groups": 2, "kind": "fsq", "levels": (6, 5, 3)}),
    "grouped, gumbel": Case("grouped", 4, 8, {"groups": 2, "kind": "gumbel"}),
}
# Those that keep statistics of their vectors.
TABLES = {
    label: case
    for label, case in CASES.items()
    if case.name in ("vector", "residual", "multiscale")
    or (case.name == "grouped" and "kind" not in case.settings)
}
# One of each, for what takes long.
SHORT = (
    "vector",
    "fsq",
    "lfq",
    "bsq",
    "ibq",
    "gumbel",
    "simvq",
    "residual",
    "multiscale",
    "grouped",
)


def latents(case: Case, batch: int = 2, grid: tuple[int, ...] = (3, 4), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, case.dim, *grid, generator=generator)


def build(case: Case, seed: int = 0, *, started: bool = True, **more: Any) -> Quantizer:
    """In training mode; with `started`, a start from data is over and codes lie among vectors."""
    torch.manual_seed(seed)
    settings = case.settings | more
    quantizer = QUANTIZERS[case.name](case.dim, case.codebook_size, **settings)
    for step in range(12 if started else 0):
        sums = quantizer(latents(case, seed=100 + step)).sums
        if sums is None:
            break
        quantizer.step(sums, torch.Generator().manual_seed(step))
    return quantizer


def joined(a: CodeSums, b: CodeSums) -> CodeSums:
    """The sums of two micro-batches or ranks."""
    return CodeSums(
        a.count + b.count, a.total + b.total, torch.cat([a.candidates, b.candidates], -2)
    )


def state(quantizer: Quantizer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def assert_same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
