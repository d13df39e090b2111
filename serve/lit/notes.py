"""What workers and the main process tell each other in a word or a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqtok.serve.shared import Shared

__all__ = ["Notes"]

LINE = 1024  # bytes of a reason


class Notes(Shared):
    """Whether workers are to go, and for each why it could not start.

    workers  name of a model -> how many workers it has
    """

    def __init__(self, workers: Mapping[str, int]) -> None:
        self.workers = dict(workers)
        super().__init__(LINE * (1 + sum(self.workers.values())))

    @property
    def ended(self) -> bool:
        """Whether nobody asks any more, so that workers go as soon as they are idle."""
        return self.memory[0] != 0

    def end(self) -> None:
        """Nobody asks any more."""
        self.memory[0] = 1

    def write(self, model: str, worker: int, reason: str) -> None:
        """Why this worker could not start."""
        start = self._place(model, worker)
        self.memory[start : start + LINE] = reason.encode()[:LINE].ljust(LINE, b"\0")

    def take(self, model: str, worker: int) -> str:
        """What was written, once; "" where nothing was."""
        start = self._place(model, worker)
        found = self.memory[start : start + LINE].rstrip(b"\0").decode(errors="ignore")
        self.write(model, worker, "")
        return found

    def _place(self, model: str, worker: int) -> int:
        names = list(self.workers)
        before = sum(self.workers[name] for name in names[: names.index(model)])
        return LINE * (1 + before + worker)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "workers": self.workers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.workers = state["workers"]
