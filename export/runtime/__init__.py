"""Exported tokenizers on ONNX Runtime. It needs numpy and onnxruntime, and neither torch nor onnx.

tok = VisualTokenizer.from_pretrained("OUT")            # a folder that `vqtok export` wrote
tok = VisualTokenizer.from_pretrained("OUT", backend=OnnxBackend(threads=4))
"""

from __future__ import annotations

from vqtok.export.runtime.backend import OnnxBackend
from vqtok.export.runtime.clips import OnnxClipCodec
from vqtok.export.runtime.codec import OnnxCodec

__all__ = ["OnnxBackend", "OnnxClipCodec", "OnnxCodec"]
