"""The parts of a fingerprint that need no weights. Importing this brings no torch."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from vqtok.preprocess import Preprocess, probe_pixels

__all__ = ["digest", "of_settings"]


def of_settings(settings: Preprocess) -> str:
    """The part of a print that preprocessing has: its settings, and pixels that they make here."""
    pixels = [
        [list(picture.shape), hashlib.sha256(picture.tobytes()).hexdigest()]
        for picture in probe_pixels(settings)
    ]
    return digest(settings.identity(), pixels)


def digest(*parts: Any) -> str:
    """The sha256 of values as JSON, whose keys are sorted."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
