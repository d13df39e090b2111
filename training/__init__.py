"""Training of tokenizers: the step, the loop, losses, discriminators, data, reports.

The folder stands at the top of the repository and installs as `vqtok.training`.
"""

if __name__ == "training":
    raise ImportError("import vqtok.training, not training (docs/adr/0001-layout.md says why)")
