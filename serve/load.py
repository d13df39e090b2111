"""How a worker comes by its engine: what the process that starts it hands over. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vqtok.errors import MismatchError
from vqtok.hub import of_run
from vqtok.preprocess import parse_size
from vqtok.serve.describe import describe
from vqtok.serve.engine import TokenizerEngine
from vqtok.serve.facts import Facts
from vqtok.types import Fingerprint

if TYPE_CHECKING:
    from vqtok.tokenizer import VisualTokenizer

__all__ = ["Load"]


@dataclass(frozen=True)
class Load:
    """Makes an engine on a device, in whatever process it is called. Picklable.

    name         in paths
    tokenizer    as people name one; with it the fields of `vqtok.obtain.Request`
    size, policy what preprocessing is to be other than the tokenizer's own; a size is a side,
                 (height, width) or "HEIGHTxWIDTH"
    padding, max_batch  see `TokenizerEngine`
    fingerprint  that it must have, where it was described before: see `of`
    """

    name: str
    tokenizer: str
    precision: str = "ieee32"
    size: int | str | tuple[int, int] | None = None
    policy: str | None = None
    revision: str | None = None
    subfolder: str | None = None
    variant: str | None = None
    filename: str | None = None
    family: str | None = None
    config: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    padding: str = "auto"
    max_batch: int = 32
    fingerprint: Fingerprint | None = None

    def describe(self) -> Facts:
        """What it will be, from a copy on the CPU that is compared with its probe and let go."""
        return self._described(self._tokenizer("cpu"))

    def of(self, facts: Facts) -> Load:
        """The same, of which an engine is made only while it is what it was described as."""
        return replace(self, fingerprint=facts.fingerprint)

    def __call__(self, device: str) -> TokenizerEngine:
        """The engine; `MismatchError` where it computes other than where it was saved."""
        tok = self._tokenizer(device)
        if self.fingerprint not in (None, tok.fingerprint):
            raise MismatchError(
                f"{self.tokenizer!r} was {self.fingerprint} when the server started, and is "
                f"{tok.fingerprint} now; start it again"
            )
        return TokenizerEngine(
            tok,
            name=self.name,
            tokenizer=self.tokenizer,
            padding=self.padding,
            max_batch=self.max_batch,
            facts=self._described(tok),
        )

    # --- inside -----------------------------------------------------------------------------

    def _tokenizer(self, device: str) -> VisualTokenizer:
        from vqtok.obtain import obtain
        from vqtok.tokenizer import VisualTokenizer

        names = ("revision", "subfolder", "variant", "filename", "family", "config", "settings")
        options = {name: getattr(self, name) for name in names}
        found = obtain(of_run(self.tokenizer), **options)
        tok = VisualTokenizer.from_pretrained(
            found.path, device=device, precision=self.precision, variant=self.variant
        )
        size = parse_size(self.size, "size") if isinstance(self.size, str) else self.size
        changes = tok.settings.chosen(size, self.policy)
        return tok.with_preprocess(**changes) if changes else tok

    def _described(self, tok: VisualTokenizer) -> Facts:
        from vqtok.probe import check_at_start

        result = check_at_start(tok.model, tok.precision, self.variant)
        ties = f" ({result.near_ties})" if result.near_ties else ""
        return describe(tok, self.name, self.tokenizer, check=f"{result.verdict}{ties}")
