"""`python -m vqtok.export`, for those who start modules: the same as `vqtok export`."""

from __future__ import annotations

import sys

from vqtok.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
