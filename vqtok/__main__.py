"""`python -m vqtok`, for launchers that start modules, such as `torchrun -m vqtok tokenize`."""

from __future__ import annotations

from vqtok.cli import main

if __name__ == "__main__":
    main()
