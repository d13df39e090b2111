"""What README.md and the guides show is run, file by file, from top to bottom.

Python blocks and the lines of shell blocks that call `vqtok` become one script, each at the line
where it stands in the file, so that a traceback points there. A block under an HTML comment
`<!-- no-test: reason -->` is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from vqtok import ESTIMATORS, QUANTIZERS
from vqtok.autoencoders import AUTOENCODERS
from vqtok.checkpoints import FAMILIES, Foreign
from vqtok.checkpoints.wrappers import hoisted
from vqtok.zoo import samples

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w*)")
NO_TEST = re.compile(r"^<!-- no-test: .+ -->$")
PARTS = ("vector_quantize_pytorch",)  # quantizers alone, of which no model is made
SHELL = ("bash", "console", "sh")
CALL = "__import__('subprocess').run(['bash', '-euo', 'pipefail', '-c', {!r}], check=True)"


def script(markdown: str) -> str:
    """The program in a file, line under line."""
    lines, language, above, held = [], None, "", ""
    for line in markdown.splitlines():
        fence = FENCE.match(line)
        code = ""
        if fence and language is None:
            language = "skipped" if NO_TEST.match(above) else fence[1]
        elif fence:
            language = None
        elif language == "python":
            code = line
        elif language in SHELL:
            held += line.removeprefix("$ ")
            if held.endswith("\\"):
                held = held[:-1]
            else:
                code = CALL.format(held) if held.startswith("vqtok ") else ""
                held = ""
        lines.append(code)
        above = line.strip() or above
    return "\n".join(lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the sample photographs, for the files that name them."""
    for path in samples():
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which `vqtok` is the command of this very Python, with a cache of its own."""
    scripts = tmp_path_factory.mktemp("bin")
    command = scripts / "vqtok"
    command.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from vqtok.cli import main; main()' \"$@\"\n"
    )
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "VQTOK_CACHE": str(tmp_path_factory.mktemp("cache")),
    }


def run(markdown: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """(exit status, what was printed) of the program in a file."""
    program = folder / "as_shown.py"
    program.write_text(script(markdown), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.skipif(os.name == "nt", reason="the shell blocks are for bash")
@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_it_runs_as_shown(path: Path, folder: Path, environment: dict[str, str]) -> None:
    code, printed = run(path.read_text(encoding="utf-8"), folder, environment)
    assert code == 0, printed


def first_cells(path: Path) -> list[str]:
    """The names in `code` that rows of tables begin with."""
    rows = re.findall(r"^\| `(\w+)`", path.read_text(encoding="utf-8"), re.MULTILINE)
    return [*map(str, rows)]


def test_the_guide_to_checkpoints_has_every_family_twice() -> None:
    found = [name for name in first_cells(ROOT / "docs/checkpoints.md") if name in FAMILIES]
    assert sorted(found) == sorted([*FAMILIES] * 2)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in PARTS])
def test_the_guide_to_checkpoints_says_what_a_family_makes(name: str) -> None:
    tensors, settings = import_module(f"checkpoints.samples.{name}").sample()
    made = FAMILIES[name].plan(Foreign(tensors, hoisted(settings), name))
    told = {made.preprocess.policy}
    if not made.preprocess.keeps_size:
        told.add(made.preprocess.resize)
    guide = (ROOT / "docs/checkpoints.md").read_text(encoding="utf-8")
    pixels = guide.split(f"\n| `{name}` | `{made.architecture}` | ")[1].split(" | ")[0]
    assert told <= set(re.findall(r"`([\w-]+)`", pixels))


def test_the_readme_has_every_architecture_family_and_quantizer() -> None:
    readme = ROOT / "README.md"
    named = set(re.findall(r"`(\w+)`", readme.read_text(encoding="utf-8")))
    assert set(first_cells(readme)) == {*AUTOENCODERS}
    assert {AUTOENCODERS[name].__name__ for name in AUTOENCODERS} <= named
    assert {*FAMILIES, *QUANTIZERS, *ESTIMATORS} <= named


PAGE = """\
Text.

```python
x = 1
```
<!-- no-test: needs a hub -->

```python
x = nowhere
```

```console
$ vqtok info \\
    a.jpg
output
```

```
x = nothing
```

```python
assert x == {x}
```
"""


def test_the_script_keeps_lines_and_order() -> None:
    wanted = {4: "x = 1", 14: CALL.format("vqtok info     a.jpg"), 23: "assert x == 1"}
    lines = script(PAGE.format(x=1)).split("\n")
    assert {n: line for n, line in enumerate(lines, 1) if line} == wanted


@pytest.mark.skipif(os.name == "nt", reason="the shell blocks are for bash")
def test_the_check_itself(folder: Path) -> None:
    scripts = folder / "bin"
    scripts.mkdir()
    (scripts / "vqtok").write_text("#!/bin/sh\necho called with $1 $2\n")
    (scripts / "vqtok").chmod(0o755)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    assert run(PAGE.format(x=1), folder, environment) == (0, "called with info a.jpg\n")
    code, printed = run(PAGE.format(x=2), folder, environment)
    assert code == 1
    assert "line 23" in printed
    (scripts / "vqtok").write_text("#!/bin/sh\nexit 3\n")
    code, printed = run(PAGE.format(x=1), folder, environment)
    assert code == 1
    assert "line 14" in printed
