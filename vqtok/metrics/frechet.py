"""The Fréchet distance of two sets (FID, FVD) and the Inception score, from running sums.

Sums are float64 and add up: over batches, over processes (an all-reduce of `tensors()`), in any
order. Both figures depend on how many samples there are, so their number belongs to their name.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError, InputError, MismatchError
from vqtok.search import float64

__all__ = ["Moments", "Predictions", "Score", "frechet_distance", "inception_score"]


class Moments:
    """Number, sum and sum of outer products of vectors (N, D); their mean and covariance."""

    def __init__(self, dim: int, *, device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.outer = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @property
    def dim(self) -> int:
        return len(self.total)

    @property
    def rank_deficient(self) -> bool:
        """Whether there are too few vectors for a covariance of full rank.

        Distances are defined then as well, and far too large.
        """
        return int(self.count) <= self.dim

    def add(self, features: Tensor) -> None:
        """Takes in vectors (N, D)."""
        _check(features, self.dim)
        rows = float64(features.detach()).to(self.total.device)
        self.count += len(rows)
        self.total += rows.sum(0)
        self.outer += rows.T @ rows

    def tensors(self) -> tuple[Tensor, ...]:
        """All state, float64, to be summed over processes; see `from_tensors`."""
        return self.count, self.total, self.outer

    @classmethod
    def from_tensors(cls, count: Tensor, total: Tensor, outer: Tensor) -> Self:
        moments = cls(0)
        moments.count, moments.total, moments.outer = count, total, outer
        return moments

    def __add__(self, other: Moments) -> Moments:
        _check_match(self.dim, other.dim)
        pairs = zip(self.tensors(), other.tensors(), strict=True)
        return Moments.from_tensors(*(a + b.to(a.device) for a, b in pairs))

    def mean(self) -> Tensor:
        """(D,)"""
        return self.total / self.count

    def covariance(self) -> Tensor:
        """(D, D), over N - 1."""
        if self.count < 2:
            raise InputError(f"a covariance needs two vectors or more; got {int(self.count)}")
        mean = self.mean()
        return (self.outer - self.count * mean.outer(mean)) / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean a - mean b|² + tr(A + B - 2 (AB)^½) of covariances A and B.

    The trace of the root is the sum of the singular values of A^½ B^½, which are real whatever
    rounding does, and, unlike eigenvalues of a product, keep all their digits for singular A and B.
    """
    _check_match(a.dim, b.dim)
    apart = (a.mean() - b.mean().to(a.total.device)).square().sum()
    (root_a, trace_a), (root_b, trace_b) = _root(a), _root(b)
    shared = torch.linalg.svdvals(root_a.T @ root_b.to(root_a.device)).sum()
    return max(float(apart + trace_a + trace_b.to(apart.device) - 2 * shared), 0.0)


def _root(moments: Moments) -> tuple[Tensor, Tensor]:
    """R (D, r) with R Rᵀ the covariance, and its trace.

    Directions of rounding alone are left out: of few vectors, that is most of them.
    """
    values, vectors = torch.linalg.eigh(moments.covariance())
    kept = values > values[-1] * moments.dim * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt(), values[kept].sum()


class Score(NamedTuple):
    """mean and, over splits, standard deviation (0 for one split)."""

    mean: float
    deviation: float


class Predictions:
    """Running sums for the Inception score over `splits` parts of a set.

    One split (the default) needs nothing but the pictures. The convention of papers is ten: the
    mean of the scores of ten parts, somewhat lower than the score of the whole. Parts of sets that
    are sorted by class, cut in order, score far too low, so here number i of the set counts in
    part i mod `splits`; that needs `numbers`, and makes results independent of batches and ranks.
    """

    def __init__(
        self, classes: int, *, splits: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        if splits < 1:
            raise ConfigError(f"an Inception score has 1 split or more; got {splits}")
        self.count = torch.zeros(splits, dtype=torch.float64, device=device)
        self.total = torch.zeros(splits, classes, dtype=torch.float64, device=device)
        self.negentropy = torch.zeros(splits, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, numbers: Tensor | None = None) -> None:
        """Takes in logits (N, classes) of the pictures with these `numbers` (N,) in the set."""
        splits, classes = self.total.shape
        _check(logits, classes)
        if numbers is None and splits > 1:
            raise InputError(f"an Inception score over {splits} splits needs the pictures' numbers")
        if numbers is None:
            numbers = torch.zeros(len(logits), dtype=torch.int64)
        if numbers.shape != logits.shape[:1] or numbers.is_floating_point():
            raise InputError(
                f"{len(logits)} predictions need as many whole numbers; got "
                f"{str(numbers.dtype).removeprefix('torch.')} {tuple(numbers.shape)}"
            )
        log_p = float64(logits.detach()).to(self.count.device).log_softmax(1)
        p = log_p.exp()
        part = F.one_hot(numbers.to(p.device).long() % splits, splits).to(p.dtype).T
        self.count += part.sum(1)
        self.total += part @ p
        self.negentropy += part @ (p * log_p).sum(1)

    def tensors(self) -> tuple[Tensor, ...]:
        """All state, float64, to be summed over processes; see `from_tensors`."""
        return self.count, self.total, self.negentropy

    @classmethod
    def from_tensors(cls, count: Tensor, total: Tensor, negentropy: Tensor) -> Self:
        predictions = cls(0)
        predictions.count, predictions.total, predictions.negentropy = count, total, negentropy
        return predictions

    def __add__(self, other: Predictions) -> Predictions:
        _check_match(tuple(self.total.shape), tuple(other.total.shape))
        pairs = zip(self.tensors(), other.tensors(), strict=True)
        return Predictions.from_tensors(*(a + b.to(a.device) for a, b in pairs))


def inception_score(predictions: Predictions) -> Score:
    """exp of the mean divergence of a picture's class probabilities from those of all pictures."""
    count = predictions.count
    if not (count > 0).all():
        raise InputError(f"an Inception score over {len(count)} splits needs a picture in each")
    marginal = predictions.total / count[:, None]
    entropy = torch.special.entr(marginal).sum(1)
    scores = (predictions.negentropy / count + entropy).exp()
    return Score(float(scores.mean()), float(scores.std(correction=0)))


def _check(rows: Tensor, width: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != width or not rows.is_floating_point():
        raise InputError(
            f"vectors to add up are floats (N, {width}); got "
            f"{str(rows.dtype).removeprefix('torch.')} {tuple(rows.shape)}"
        )
    if not rows.isfinite().all():
        raise InputError("vectors to add up are finite; got some NaN or infinity")


def _check_match(a: object, b: object) -> None:
    if a != b:
        raise MismatchError(f"sums that go together have one shape; got {a} and {b}")
