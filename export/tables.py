"""Parts of quantizers as graphs hold them: what follows from weights alone is computed once, here.

So a graph's codes have the bits of torch's, whatever a runtime's own normalisation or product
would round to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vqtok.errors import ConfigError
from vqtok.export.search import Search
from vqtok.quantizers.codebook import Codebook
from vqtok.quantizers.gumbel import Mixtures, Scores
from vqtok.quantizers.ibq import ScoredCodebook
from vqtok.quantizers.multiscale import Directions, Phi
from vqtok.search import float64

__all__ = ["settle"]


def settle(quantizer: nn.Module, block: int | None) -> None:
    """Puts constants in the place of all that a quantizer derives from its weights.

    block  codes that a search compares with at a time; None where codes are only looked up
    """
    done: dict[nn.Module, nn.Module] = {}  # a table that is shared stays one
    for parent in list(quantizer.modules()):
        for name, child in list(parent.named_children()):
            if child not in done:
                made = _settled(child, block)
                done[child] = child if made is None else made
            if done[child] is not child:
                setattr(parent, name, done[child])


def _settled(module: nn.Module, block: int | None) -> nn.Module | None:
    """What takes a module's place; None where nothing does."""
    for kind, make in SETTLED.items():
        if type(module).forward is kind.forward:
            with torch.no_grad():
                return make(module, block)
    for kind in SETTLED:
        if isinstance(module, kind):
            raise ConfigError(
                f"graphs do not know the forward of {type(module).__name__}: a "
                f"{kind.__name__} with a forward of its own has no search that they can hold"
            )
    return None


class _Table(nn.Module):
    """`Codebook` with constants: ids (...) -> vectors (..., D); rows (N, D) -> ids (N,)."""

    def __init__(self, codes: Tensor, search: Search | None, cosine: bool = False) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.search = search
        self.cosine = cosine

    codes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """See `Codebook.forward`."""
        if self.search is None or not x.is_floating_point():
            return F.embedding(x, self.codes)
        ids: Tensor = self.search(x)
        return ids


class _Directions(_Table):
    """`Directions` with constants."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Codebook.forward`."""
        return super().forward(F.normalize(x, dim=-1) if x.is_floating_point() else x)


class _Scores(nn.Module):
    """`Scores` with constants, which finds ids and gives no scores."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self.search = search

    def forward(self, rows: Tensor, find: bool) -> Tensor:
        """(N, D) -> ids (N,)."""
        ids: Tensor = self.search(F.pad(rows, (0, 1)))
        return ids


class _Phi(nn.Module):
    """`Phi` as a product of matrices: ONNX Runtime has no convolutions in float64."""

    def __init__(self, phi: Phi) -> None:
        super().__init__()
        self.ratio = phi.ratio
        taps = float64(phi.weight.detach()).permute(0, 2, 3, 1)  # (out, 3, 3, in)
        self.register_buffer("taps", taps.flatten(1))
        bias = None if phi.bias is None else float64(phi.bias.detach())[:, None]
        self.register_buffer("bias", bias)

    taps: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> the same."""
        height, width = x.shape[2:]
        wide = F.pad(x, (1, 1, 1, 1))
        seen = [
            wide[:, :, down : down + height, across : across + width]
            for down in range(3)
            for across in range(3)
        ]
        made = self.taps @ torch.cat(seen, 1).flatten(2)
        if self.bias is not None:
            made = made + self.bias
        refined: Tensor = made.unflatten(2, (height, width))
        return x * (1 - self.ratio) + self.ratio * refined


def _codebook(module: Codebook, block: int | None) -> nn.Module:
    codes = module.table().detach()
    if block is None:
        return _Table(codes, None, module.cosine)
    among = None
    if module.cosine:
        _, owner = module.with_direction(codes)
        among = owner == torch.arange(len(codes), device=codes.device)
    return _Table(codes, Search(codes, among=among, block=block), module.cosine)


def _scored(module: ScoredCodebook, block: int | None) -> nn.Module:
    codes = module.table().detach()
    return _Table(codes, None if block is None else Search(codes, highest=True, block=block))


def _directions(module: Directions, block: int | None) -> nn.Module:
    codes = module.table().detach()
    units = F.normalize(codes, dim=-1)
    return _Directions(codes, None if block is None else Search(units, block=block))


def _scores(module: Scores, block: int | None) -> nn.Module:
    return nn.Identity() if block is None else _Scores(Search(module.as_points(), block=block))


def _mixtures(module: Mixtures, block: int | None) -> nn.Module:
    return _Table(module.weight.detach().float(), None)


# Of a module that inherits the forward of one of these, too.
SETTLED: dict[type[nn.Module], Callable[..., nn.Module]] = {
    Codebook: _codebook,
    Directions: _directions,
    Mixtures: _mixtures,
    Phi: lambda phi, block: _Phi(phi),
    ScoredCodebook: _scored,
    Scores: _scores,
}
