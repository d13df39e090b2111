"""Tokenizers behind HTTP: engine, wire format, client. Nothing of it is written yet.

The folder stands at the top of the repository and installs as `vqtok.serve`.
"""

if __name__ == "serve":
    raise ImportError("import vqtok.serve, not serve (docs/adr/0001-layout.md says why)")
