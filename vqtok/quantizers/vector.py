"""The vector quantizer of VQ-VAE and VQGAN: the nearest row of a learned table."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vqtok.errors import ConfigError, did_you_mean
from vqtok.estimators import Loss
from vqtok.quantizers import QUANTIZERS, Quantizer, to_grid, to_rows
from vqtok.quantizers._upkeep import (
    DEAD_CODE_RULES,
    Table,
    draw_candidates,
    move_by_average,
    move_by_kmeans,
    smoothed,
)
from vqtok.quantizers.codebook import Codebook, TableQuantizer
from vqtok.types import CodeSums, Quantized

__all__ = ["VectorQuantizer", "tables_of"]


@QUANTIZERS.register("vector")
class VectorQuantizer(TableQuantizer):
    """One code a token, by Euclidean distance or, with `use_cosine_sim`, by direction.

    codebook_update  "ema": codes are running means of their vectors, moved by `step`;
                     "gradient": codes are parameters, moved by the codebook loss
    decay            of the running means and counts; by default .8 under an estimator that
                     rotates and .99 under the others. Means over so few steps as .8 takes are
                     noise where a step has fewer tokens than there are codes: raise it there
    start            "data": k-means over the first `kmeans_iters` batches, during which vectors
                     pass unquantized; "kaiming", "uniform" (±1/K) or "normal"
    dead_codes       what becomes of a code whose running count is under `dead_share` of the
                     average: "off" nothing, "resample" it moves onto a vector of the batch,
                     "cvq" all codes are drawn towards such vectors the more, the less they are used
    quantize_after   steps during which vectors pass unquantized, before the codebook starts
    legacy_beta      weighs the codebook loss, not the commitment, by `commitment_weight`, as
                     taming-transformers and diffusers' VQModel do
    zero_counts      starts the running counts at 0 instead of 1, as the code behind the rotation
                     paper does: codes without a vector in the first step jump away, and die
    """

    identity: ClassVar[dict[str, Any]] = {"use_cosine_sim": False}

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        use_cosine_sim: bool = False,
        codebook_update: Literal["ema", "gradient"] = "ema",
        decay: float | None = None,
        eps: float = 1e-5,
        start: Literal["data", "kaiming", "uniform", "normal"] = "data",
        kmeans_iters: int = 10,
        dead_codes: Literal["off", "resample", "cvq"] = "resample",
        dead_share: float = 0.03,
        candidates_per_item: int = 64,
        quantize_after: int = 0,
        codebook_weight: float = 1.0,
        legacy_beta: bool = False,
        zero_counts: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(dim, codebook_size, **shared)
        rotates = self.estimator.rotates
        self.decay = decay if decay is not None else 0.8 if rotates else 0.99
        _check_known("codebook_update", codebook_update, ("ema", "gradient"))
        _check_known("dead_codes rule", dead_codes, DEAD_CODE_RULES)
        if not 0 <= self.decay < 1:
            raise ConfigError(f"decay lies in [0, 1); got {self.decay}")
        if start == "data" and kmeans_iters < 1:
            raise ConfigError(
                f"a start from data takes at least one batch; got kmeans_iters={kmeans_iters}"
            )
        if legacy_beta and codebook_update == "ema":
            raise ConfigError(
                "legacy_beta weighs the codebook loss, and running means have none; it goes with "
                "codebook_update='gradient'"
            )
        self.embedding = Codebook(codebook_size, dim, cosine=use_cosine_sim)
        self.embedding.start(start)
        self.by_average = codebook_update == "ema"
        self.embedding.weight.requires_grad_(not self.by_average)
        self.eps = eps
        self.dead_codes = dead_codes
        self.dead_share = dead_share
        self.candidates_per_item = candidates_per_item
        self.kmeans_iters = kmeans_iters if start == "data" else 0
        self.open_steps = max(quantize_after, self.kmeans_iters)
        self.codebook_weight = codebook_weight
        self.legacy_beta = legacy_beta
        # Persistent, so that a checkpoint goes on where it stopped, whoever writes it.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.full((codebook_size,), float(not zero_counts)))
        if self.by_average:
            self.register_buffer("total", self.embedding.weight.detach().clone())
        if start == "normal" and rotates and dead_codes == "off" and not use_cosine_sim:
            warnings.warn(
                "a codebook that starts at N(0, 1) has collapsed to a single code under the "
                f"estimator {self.estimator.name!r} without replacement of dead codes; "
                "start='data' or dead_codes='resample' avoids it",
                stacklevel=2,
            )

    steps: Tensor
    count: Tensor
    total: Tensor

    def forward(
        self, z: Tensor, *, loss: Loss | None = None, generator: torch.Generator | None = None
    ) -> Quantized:
        """See `Quantizer.forward`."""
        self.check_latents(z)
        with torch.autocast(z.device.type, enabled=False):
            rows = to_rows(z).float()
            ids = self.find(rows)
            e, q = self.compared(rows), self.look_up(ids)
            out, losses = self.carry(e, q, z, loss, generator), self.losses(e, q)
            if self.training:
                out, losses = self.unless_open(out, losses, to_grid(e, z).to(z.dtype))
            sums = self.sums(e.detach(), ids, z.shape[0]) if self.training else None
        return Quantized(out, ids.view(z.shape[0], *z.shape[2:]), losses, sums)

    def total_loss(self, losses: dict[str, Tensor]) -> Tensor:
        """See `Quantizer.total_loss`."""
        if "codebook" not in losses:
            return super().total_loss(losses)
        if self.legacy_beta:
            return losses["commit"] + self.commitment_weight * losses["codebook"]
        return super().total_loss(losses) + self.codebook_weight * losses["codebook"]

    @torch.no_grad()
    def step(self, sums: CodeSums, generator: torch.Generator | None = None) -> None:
        """Moves codes, counts and running means by the joint sums of one optimizer step."""
        step = int(self.steps)
        if generator is None:  # not the process's own, which differs between ranks
            generator = torch.Generator().manual_seed(step)
        candidates = draw_candidates(sums.candidates, generator)
        table = Table(self.embedding.weight, self.count, self.total if self.by_average else None)
        first = self.open_steps - self.kmeans_iters
        if first <= step < self.open_steps:
            move_by_kmeans(table, sums, candidates, fresh=step == first)
        elif step >= self.open_steps:
            move_by_average(table, sums, self.decay, self.eps)
            DEAD_CODE_RULES[self.dead_codes](table, candidates, self.dead_share, self.decay)
        if self.embedding.cosine and self.by_average:
            self.embedding.weight.copy_(F.normalize(self.embedding.weight, dim=-1))
        self.steps += 1

    def means_agree(self) -> bool:
        """Whether the codes are the running means beside them, as after any step."""
        means = self.compared(self.total / smoothed(self.count, self.eps)[:, None])
        codes = self.embedding.table()
        return bool((means - codes).norm() <= 1e-2 * codes.norm())

    @torch.no_grad()
    def go_on(self, count: Tensor | None = None) -> None:
        """Takes the codes as started and, with the `count` (K,) of a step, their running means.

        For codes of a checkpoint that holds none: those of a new table would pull the codes away.
        """
        self.steps.clamp_(min=self.open_steps)
        if count is not None:
            # A token more for each: a code that one step did not show is not a dead one.
            shown = count.sum()
            self.count.copy_((count + 1) * (shown / (shown + len(count))))
            if self.by_average:
                self.total.copy_(self.embedding.table() * smoothed(self.count, self.eps)[:, None])

    def unless_open(
        self, out: Tensor, losses: dict[str, Tensor], unquantized: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`out` and `losses` or, until the codebook has started, `unquantized` and no loss."""
        if not self.open_steps:
            return out, losses
        is_open = self.is_open()
        none = {name: torch.where(is_open, 0, value) for name, value in losses.items()}
        return torch.where(is_open, unquantized, out), none

    def is_open(self) -> Tensor:
        """A scalar: whether vectors pass unquantized, the codebook having not started yet."""
        return self.steps < self.open_steps

    def losses(self, e: Tensor, q: Tensor) -> dict[str, Tensor]:
        """See `RowQuantizer.losses`."""
        commit = super().losses(e, q)
        return commit if self.by_average else {**commit, "codebook": F.mse_loss(q, e.detach())}

    def sums(self, e: Tensor, ids: Tensor, items: int) -> CodeSums:
        """Rows (N, D) of `items` pictures and their ids (N,) -> their contribution to a step."""
        ones = torch.ones_like(ids, dtype=torch.float32)
        count = torch.zeros_like(self.count, dtype=torch.float32).index_add(0, ids, ones)
        total = torch.zeros(self.codebook_size, self.dim, device=e.device).index_add(0, ids, e)
        return CodeSums(count, total, self.candidates(e.unflatten(0, (items, -1))))

    def candidates(self, e: Tensor) -> Tensor:
        """(B, n, D) -> (B * c, D): the same number of tokens of each picture, spread over it.

        A fixed share of each picture, not of each batch, so that the candidates of several
        micro-batches or ranks are together those of the joint batch. The places vary with the
        step and with nothing else.
        """
        tokens = e.shape[1]
        wanted = min(self.candidates_per_item, tokens)
        slot = torch.arange(wanted, device=e.device)
        noise = ((slot * 2654435761 + self.steps * 40503 + 12345) * 69069) % (1 << 32)
        place = ((slot + noise / (1 << 32)) * (tokens / wanted)).long().clamp(max=tokens - 1)
        return e[:, place].flatten(0, 1)


def tables_of(quantizer: Quantizer) -> list[VectorQuantizer]:
    """The tables that a quantizer is, or is made of; none for those without."""
    return [part for part in quantizer.modules() if isinstance(part, VectorQuantizer)]


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ConfigError(f"there is no {kind} called {name!r}. {did_you_mean(name, known)}")
