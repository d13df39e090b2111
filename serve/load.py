"""How a worker comes by its engine: what the process that starts it hands over. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vqtok.errors import MismatchError
from vqtok.hub import of_run
from vqtok.preprocess import parse_size
from vqtok.serve.describe import describe
from vqtok.serve.engine import TokenizerEngine
from vqtok.serve.facts import Facts
from vqtok.wanted import Wanted, on_cpu

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Load"]


@dataclass(frozen=True)
class Load:
    """Makes an engine on a device, in whatever process it is called. Picklable.

    name         in paths
    wanted       the tokenizer; of a training run's folder it is the run's
    precision    None for that of the tokenizer's folder
    size, policy what preprocessing is to be other than the tokenizer's own; a size is a side,
                 (height, width) or "HEIGHTxWIDTH"
    padding, max_batch  see `TokenizerEngine`
    described    what it was before, and must be: see `of`
    """

    name: str
    wanted: Wanted
    precision: str | None = None
    size: int | str | tuple[int, int] | None = None
    policy: str | None = None
    padding: str = "auto"
    max_batch: int = 32
    described: Facts | None = None

    def describe(self) -> Facts:
        """What it will be, from a copy on the CPU that is compared with its probe and let go."""
        facts = self._described(self._tokenizer("cpu", on_cpu(self.precision)))
        return replace(facts, precision="tf32") if self.precision == "tf32" else facts

    def of(self, facts: Facts) -> Load:
        """The same, of which an engine is made only while it has what others were told it has.

        That is its fingerprint, its precision and its traits. What a probe says may differ between
        devices.
        """
        return replace(self, described=facts)

    def __call__(self, device: str) -> TokenizerEngine:
        """The engine; `MismatchError` where it computes other than where it was saved."""
        tok = self._tokenizer(device, self.precision)
        self._check(tok)
        return TokenizerEngine(
            tok,
            name=self.name,
            tokenizer=self.wanted.name,
            padding=self.padding,
            max_batch=self.max_batch,
            facts=self._described(tok),
        )

    # --- inside -----------------------------------------------------------------------------

    def _check(self, tok: VisualTokenizer) -> None:
        """Raises where it is not what it was described as."""
        if self.described is None:
            return
        now = describe(tok, self.name, self.wanted.name)
        for part in ("fingerprint", "precision", "traits"):
            then, found = getattr(self.described, part), getattr(now, part)
            if then != found:
                said = "" if part == "fingerprint" else f"of {part} "
                raise MismatchError(
                    f"{self.wanted.name!r} was {said}{then} when the server started, and is "
                    f"{said}{found} now; start it again"
                )

    def _tokenizer(self, device: str, precision: str | None) -> VisualTokenizer:
        wanted = self.wanted.model_copy(update={"name": of_run(self.wanted.name)})
        tok = wanted.load(device, precision)
        size = parse_size(self.size, "size") if isinstance(self.size, str) else self.size
        changes = tok.settings.chosen(size, self.policy)
        return tok.with_preprocess(**changes) if changes else tok

    def _described(self, tok: VisualTokenizer) -> Facts:
        check = tok.codec.verify().summary
        return describe(tok, self.name, self.wanted.name, check=check)
