"""What comes of comparing a tokenizer with its probe, whatever it runs on. No torch."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vqtok.errors import LoadError, MismatchError

__all__ = ["ProbeResult", "Verdict", "accepted"]

_log = logging.getLogger(__name__)

Verdict = Literal["exact", "near ties", "refused", "unchecked"]
SUMMARY = re.compile(r"([a-z ]+?)(?: \((\d+)\))?")


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The outcome: `verdict`, and the figures behind it.

    ids_equal     from pixels, by this precision
    near_ties     ids that differ where nothing but rounding decides
    latent_error  relative rms; None where there are no latents to compare
    pixels_equal  resized here as they were there
    """

    verdict: Verdict
    tokens: int = 0
    ids_equal: int = 0
    near_ties: int = 0
    latent_error: float | None = 0.0
    pixels_equal: bool = True

    def __str__(self) -> str:
        if self.verdict == "unchecked":
            return "unchecked: the folder holds no probe of these weights"
        error = self.latent_error
        latents = "" if error is None else f", latents within {error:.1e}"
        pixels = "" if self.pixels_equal else ", pixels resized otherwise"
        return f"{self.summary}: {self.ids_equal} of {self.tokens} probe ids equal{latents}{pixels}"

    @property
    def summary(self) -> str:
        """ "exact", "near ties (2)" and so on."""
        return self.verdict + (f" ({self.near_ties})" if self.near_ties else "")

    @classmethod
    def from_summary(cls, text: str) -> ProbeResult:
        """A result of which its summary is known, and no other figure."""
        match = SUMMARY.fullmatch(text)
        for verdict in get_args(Verdict):
            if match is not None and match[1] == verdict:
                return cls(verdict, near_ties=int(match[2] or 0))
        raise LoadError(f"{text!r} is no summary of a probe, such as 'exact' or 'near ties (2)'")


def accepted(result: ProbeResult, folder: Path | str) -> ProbeResult:
    """The result of the probe in a folder, logged; `MismatchError` where it is refused."""
    if result.verdict == "refused":
        raise MismatchError(
            f"the tokenizer in '{folder}' does not compute here what it did where it was saved: "
            f"{result}"
        )
    _log.info("probe: %s", result)
    return result
