"""Prints what vqtok and some of its extras depend on, torch left out, for a layer of the image.

    python requirements.py pyproject.toml serve,video

torch has a layer of its own, as the machine decides on its build.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def wanted(project: Mapping[str, Any], extras: Sequence[str]) -> Iterator[str]:
    """Requirements, as pip reads them."""
    for line in project["dependencies"]:
        if not re.match(r"torch\b", line):
            yield line
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            inner = re.fullmatch(r"vqtok\[(.+)\]", line)
            if inner:
                yield from wanted({**project, "dependencies": []}, inner[1].split(","))
            else:
                yield line


if __name__ == "__main__":
    file, extras = sys.argv[1:]
    known = tomllib.loads(Path(file).read_text(encoding="utf-8"))["project"]
    print("\n".join(wanted(known, [name for name in extras.split(",") if name])))
