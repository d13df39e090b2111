"""The figures of the steps between two lines of the log."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vqtok.evaluation import compared
from vqtok.metrics.quantization import statistics
from vqtok.metrics.usage import perplexity, share_used
from vqtok.quantizers import Quantizer, to_rows
from vqtok.training.reduce import (
    mean_over_ranks,
    means_over_ranks,
    rank,
    summed_over_ranks,
    widest,
)
from vqtok.training.step import Outcome

__all__ = ["Window"]


class Window:
    """Sums of what steps show, on the device, so that no step waits for a figure.

    `state_dict` lets a run that stops between two lines write the second one as if it had not.
    """

    sums: dict[str, Tensor]
    times: dict[str, int]
    count: Tensor | None

    def __init__(self) -> None:
        self._clear()

    def add(self, outcome: Outcome) -> None:
        """Takes in one step."""
        for name, term in outcome.terms.items():
            known = self.sums.get(name)
            self.sums[name] = widest(term) if known is None else known + term
            self.times[name] = self.times.get(name, 0) + 1
        self.count = outcome.count if self.count is None else self.count + outcome.count

    def figures(self, last: Outcome, quantizer: Quantizer) -> dict[str, float]:
        """The figures of the steps added, over all processes; the window is empty afterwards."""
        means = {name: total / self.times[name] for name, total in self.sums.items()}
        found = means_over_ranks(means) | self._usage() | _geometry(last, quantizer)
        self._clear()
        return found

    def state_dict(self) -> dict[str, Any]:
        """For checkpoints; all processes call it, and all get the same."""
        count = None if self.count is None else summed_over_ranks(self.count)
        sums = {name: mean_over_ranks(total) for name, total in self.sums.items()}
        return {"sums": sums, "times": self.times, "count": count}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Goes on from what `state_dict` gave; the first process takes the tokens of all."""
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.times = dict(state["times"])
        self.count = None
        if state["count"] is not None:
            count = state["count"].to(device)
            self.count = count if rank() == 0 else torch.zeros_like(count)

    def _clear(self) -> None:
        self.sums, self.times, self.count = {}, {}, None

    def _usage(self) -> dict[str, float]:
        """Means over codebooks, of the tokens of all processes."""
        if self.count is None:
            return {}
        books = summed_over_ranks(self.count).cpu()
        each = len(books)
        return {
            "usage": sum(share_used(book) for book in books) / each,
            "perplexity": sum(perplexity(book) for book in books) / each,
            "top_share": max(float(book.max() / book.sum()) for book in books),
        }


@torch.no_grad()
def _geometry(last: Outcome, quantizer: Quantizer) -> dict[str, float]:
    """How vectors and codes of the last micro-batch lie to each other; means over processes."""
    rows = to_rows(compared(quantizer, last.latents))
    codes = to_rows(quantizer.decode(last.codes, last.latents.shape[2:]))
    found = statistics(rows, codes)._asdict()
    place = rows.device
    return means_over_ranks(
        {name: torch.tensor(value, device=place) for name, value in found.items()}
    )
