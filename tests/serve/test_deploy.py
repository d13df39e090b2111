"""The image, as far as it can be checked without an engine that builds it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from vqtok.serve.layers import environment, resolve
from vqtok.serve.settings import PREFIX

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of the Dockerfile, lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (name, rest) for name, _, rest in (one.partition(" ") for one in joined.split("\n")) if name
    ]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def only(name: str) -> str:
    """The arguments of an instruction that stands once in the last stage."""
    (found,) = (rest for one, rest in last_stage() if one == name)
    return found


def env() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", only("ENV")))


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    user = re.fullmatch(r"(\d+):(\d+)", only("USER"))
    assert user and int(user[1]) >= 10000 and int(user[2]) >= 10000
    names = [name for name, _ in last_stage()]
    assert "RUN" not in names[names.index("USER") :]


def test_its_processes_are_started_without_a_shell() -> None:
    assert json.loads(only("ENTRYPOINT")) == ["/usr/bin/tini", "--", "vqtok", "serve"]
    assert json.loads(only("CMD")) == ["photo-tiny"]
    assert only("STOPSIGNAL") == "SIGTERM"
    assert only("EXPOSE") == env()[f"{PREFIX}PORT"] == "8000"


def test_what_it_writes_goes_to_tmp() -> None:
    written = ("HOME", "HF_HOME", "VQTOK_CACHE")
    assert {env()[name].split("/")[1] for name in written} == {"tmp"}
    assert only("WORKDIR") == "/tmp"
    assert env()["HF_HUB_OFFLINE"] == "1"


def test_its_variables_are_settings() -> None:
    given = {name: value for name, value in env().items() if name.startswith(PREFIX)}
    settings = resolve([environment(given)])
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)


def copied() -> list[str]:
    """What is copied of the checkout."""
    found = []
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            found += rest.split()[:-1]
    return found


def test_what_is_copied_is_there_and_let_in() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    assert sorted(let_in) == sorted(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_what_is_copied_makes_the_whole_wheel(tmp_path: Path) -> None:
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("needs setuptools 77")
    for name in copied():
        target = tmp_path / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.py[cod]")
            shutil.copytree(ROOT / name, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(tmp_path / "src")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = subprocess.check_output([sys.executable, "-m", "zipfile", "-l", str(wheel)], text=True)
    for wanted in ("vqtok/serve/main.py", "vqtok/serve/page/index.html", "vqtok/zoo/photo-tiny"):
        assert wanted in names


def test_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = ROOT / "docs/deploy/requirements.py"
    command = [sys.executable, str(script), str(ROOT / "pyproject.toml"), "serve,all"]
    printed = subprocess.check_output(command, text=True).splitlines()
    extras = project["optional-dependencies"]
    assert [line for line in printed if re.match(r"torch\b", line)] == []
    assert set(project["dependencies"]) - set(printed) == {"torch>=2.6"}
    assert {*extras["serve"], *extras["train"], *extras["video"]} <= set(printed)
    assert [line for line in printed if line.startswith("vqtok")] == []


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_has_no_complaints() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


# --- the same without an engine -------------------------------------------------------------------

# What `docker run --read-only --tmpfs /tmp --cap-drop ALL --network none` does: namespaces of its
# own, the variables and the user of the image, no capabilities, tini as PID 1. A Python in the home
# of the user who runs this, which no other may enter, is laid bare.
BOX = """
set -e
mount --make-rprivate /
case $BASE in "$PRIVATE"/*)
  mount --bind "$BASE" "$STASH"
  mount -t tmpfs -o mode=755 tmpfs "$PRIVATE"
  mkdir -p "$BASE"
  mount --bind "$STASH" "$BASE";;
esac
ip link set lo up
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /
cd /tmp
exec setpriv --reuid "$ID" --regid "$ID" --clear-groups --no-new-privs \\
  --bounding-set=-all --inh-caps=-all env -i PATH=/usr/bin:/bin PYTHONPATH="$CODE" "$@"
"""
NEEDED = ("unshare", "nsenter", "setpriv", "tini", "ip", "curl")


@contextmanager
def box(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """(what waits for the server, its log)"""
    stash, log, script = folder / "stash", folder / "log", folder / "box.sh"
    stash.mkdir()
    script.write_text(BOX)
    variables = {
        **os.environ,
        "BASE": sys.base_prefix,
        "PRIVATE": str(Path.home()),
        "STASH": str(stash),
        "ID": only("USER").partition(":")[0],
        "CODE": str(ROOT),
    }
    entry = [part.removeprefix("/usr/bin/") for part in json.loads(only("ENTRYPOINT"))]
    assert entry == ["tini", "--", "vqtok", "serve"]
    entry[2:3] = [sys.executable, "-m", "vqtok"]
    given = [f"{name}={value}" for name, value in env().items() if name != "PATH"]
    spaces = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--mount-proc"]
    command = [*spaces, "bash", str(script), *given, *entry, *json.loads(only("CMD"))]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=variables, stdout=file, stderr=file)
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(10)


def first_process(parent: int) -> int:
    """PID 1 of the box, by the number that it has outside."""
    (child,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(child)


@pytest.mark.slow
def test_it_runs_where_it_may_write_nothing(tmp_path: Path) -> None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing) or 'nothing else'}")
    with box(tmp_path) as (process, log):
        end = time.monotonic() + PATIENCE
        while "serving photo-tiny at " not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        first = first_process(process.pid)
        status = Path(f"/proc/{first}/status").read_text()
        assert "NSpid:" in status and status.split("NSpid:")[1].split()[1] == "1"
        assert status.split("Uid:")[1].split()[0] == only("USER").partition(":")[0]
        assert int(status.split("CapBnd:")[1].split()[0], 16) == 0
        inside = ["nsenter", "-t", str(first), "-n", "-m"]
        ready = subprocess.run(
            [*inside, "curl", "-sS", "localhost:8000/ready"], capture_output=True, text=True
        )
        assert json.loads(ready.stdout)["ready"] is True
        written = subprocess.run(
            [*inside, "touch", str(ROOT / "x")], capture_output=True, text=True
        )
        assert "Read-only file system" in written.stderr
        subprocess.run(["kill", "-TERM", str(first)], check=True)
        assert process.wait(PATIENCE) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
