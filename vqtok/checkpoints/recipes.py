"""What several families share: how their sources train codes, and a note on what nobody tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vqtok.checkpoints.heed import tells
from vqtok.checkpoints.told import listed

__all__ = ["BY_AVERAGE", "BY_GRADIENT", "CODES", "untold"]

# The table of a VectorQuantizer in a model of ours, and in taming's code and all that came of it.
CODES = "quantize.embedding.weight"
# As taming's code trains codes, and all that came of it.
BY_GRADIENT: dict[str, Any] = {
    "codebook_update": "gradient",
    "dead_codes": "off",
    "start": "uniform",
}
# As vector-quantize-pytorch does by default.
BY_AVERAGE: dict[str, Any] = {"decay": 0.8, "dead_codes": "off", "start": "kaiming"}


def untold(said: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[str, ...]:
    """A note on settings that decide ids and that nobody tells; () where all are told."""
    left = {name: value for name, value in defaults.items() if not tells(said, name)}
    if not left:
        return ()
    return (f"Nothing tells {listed(left)}, as the source has it by default. Ids depend on that.",)
