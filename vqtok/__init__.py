"""Rotation-trick VQGAN tokenizers: pixels to discrete tokens and back.

The names in `__all__` are loaded when they are first asked for, so that `import vqtok` brings
neither torch nor diffusers nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqtok.hf.register import install as _install

if TYPE_CHECKING:
    from diffusers import ModelMixin as ModelMixin

    from vqtok.autoencoders import (
        AutoencoderVQ,
        AutoencoderVQBSQViT,
        AutoencoderVQCausal3D,
        AutoencoderVQConvResidual,
        AutoencoderVQEmu3,
        AutoencoderVQMagvit2,
        AutoencoderVQMaskGIT,
        AutoencoderVQTimesformer,
        AutoencoderVQTiTok,
        AutoencoderVQViT,
    )
    from vqtok.estimators import ESTIMATORS
    from vqtok.quantizers import QUANTIZERS
    from vqtok.search import nearest
    from vqtok.tokenizer import VisualTokenizer
    from vqtok.types import Codes
    from vqtok.vocab import VisualVocab

__all__ = [
    "ESTIMATORS",
    "QUANTIZERS",
    "AutoencoderVQ",
    "AutoencoderVQBSQViT",
    "AutoencoderVQCausal3D",
    "AutoencoderVQConvResidual",
    "AutoencoderVQEmu3",
    "AutoencoderVQMagvit2",
    "AutoencoderVQMaskGIT",
    "AutoencoderVQTiTok",
    "AutoencoderVQTimesformer",
    "AutoencoderVQViT",
    "Codes",
    "VisualTokenizer",
    "VisualVocab",
    "__version__",
    "nearest",
]

__version__ = "0.1.0"

_HOMES = {
    "ESTIMATORS": "vqtok.estimators",
    "QUANTIZERS": "vqtok.quantizers",
    "AutoencoderVQ": "vqtok.autoencoders",
    "AutoencoderVQBSQViT": "vqtok.autoencoders",
    "AutoencoderVQCausal3D": "vqtok.autoencoders",
    "AutoencoderVQConvResidual": "vqtok.autoencoders",
    "AutoencoderVQEmu3": "vqtok.autoencoders",
    "AutoencoderVQMagvit2": "vqtok.autoencoders",
    "AutoencoderVQMaskGIT": "vqtok.autoencoders",
    "AutoencoderVQTiTok": "vqtok.autoencoders",
    "AutoencoderVQTimesformer": "vqtok.autoencoders",
    "AutoencoderVQViT": "vqtok.autoencoders",
    "Codes": "vqtok.types",
    "VisualTokenizer": "vqtok.tokenizer",
    "VisualVocab": "vqtok.vocab",
    "nearest": "vqtok.search",
    # Not ours: diffusers looks for it in the package that a saved pipeline names.
    "ModelMixin": "diffusers",
}

# A checkout that lost its links finds vqtok.training, .serve and .export beside this folder.
_here = Path(__file__).resolve().parent
if not (_here / "training" / "__init__.py").is_file():
    __path__.append(str(_here.parent))

if not TYPE_CHECKING:  # or type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


# Saved pipelines and transformers' Auto classes find vqtok's classes from here on.
_install()
