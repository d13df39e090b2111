"""`python -m vqtok.training`, for launchers that start modules: the same as `vqtok train`."""

from __future__ import annotations

import sys

from vqtok.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
