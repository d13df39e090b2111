"""Tokenizers as ONNX files, and their parity with torch. Nothing of it is written yet.

The folder stands at the top of the repository and installs as `vqtok.export`.
"""

if __name__ == "export":
    raise ImportError("import vqtok.export, not export (docs/adr/0001-layout.md says why)")
