"""`python -m vqtok.serve`, for those who start modules: the same as `vqtok serve`."""

from __future__ import annotations

import sys

from vqtok.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
