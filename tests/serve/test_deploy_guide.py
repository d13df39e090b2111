"""What docs/serving.md says is so, and what it shows runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from vqtok.serve.layers import file_layer, flags, resolve
from vqtok.serve.settings import PREFIX, ServeSettings
from vqtok.zoo import samples

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs/serving.md"
PATIENCE = 90.0


def table(heading: str) -> dict[str, list[str]]:
    """First cell -> the others, of the first table under a heading of the guide."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = (line for line in section.splitlines() if line.startswith("| "))
    rows = [re.split(r" *\| *", line)[1:-1] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_the_guide_has_every_setting_and_its_default() -> None:
    rows = table("Settings").items()
    told = {name.strip("`"): cells for name, cells in rows if name.startswith("`")}
    assert {*told} == {*ServeSettings.model_fields}
    for name, field in ServeSettings.model_fields.items():
        cell = told[name][0].strip("`")
        value = yaml.safe_load(cell) if cell else None
        assert value == (list(field.default) if field.default == () else field.default), name


def test_the_guide_has_every_status() -> None:
    pytest.importorskip("orjson")
    from vqtok.serve.http.faults import STATUS

    told = {int(word) for cell in table("What it answers") for word in re.findall(r"\d{3}", cell)}
    # 499 goes to clients that have left; 431 comes from below the application.
    assert told == {*STATUS.values()} - {499} | {431}


def test_the_guide_has_every_metric() -> None:
    from vqtok.serve.meters import FAMILIES

    told = set(re.findall(r"`(vqtok_\w+)`", GUIDE.read_text(encoding="utf-8")))
    assert {family.name for family in FAMILIES} <= told


MARK = re.compile(
    r"<!-- no-test: [^\n]*test_deploy_guide\.py runs it -->\n```(\w+)\n(.*?)\n```", re.DOTALL
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """`vqtok serve photo-tiny`, ready."""
    command = [sys.executable, "-m", "vqtok", "serve", "photo-tiny", "--port", str(port)]
    log = folder / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environ(), stdout=file, stderr=file)
    try:
        end = time.monotonic() + PATIENCE
        while "serving photo-tiny at " not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_guide_runs_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("litserve")
    pytest.importorskip("httpx")
    for path in samples():
        shutil.copy(path, tmp_path)
    port = free_port()
    blocks = MARK.findall(GUIDE.read_text(encoding="utf-8").replace(":8000", f":{port}"))
    assert [language for language, _ in blocks] == ["bash", "python"]
    with server(tmp_path, port):
        for language, text in blocks:
            shell = text.replace("curl -f ", "curl -sS --fail-with-body ")
            command = ["bash", "-ec", shell] if language == "bash" else [sys.executable, "-c", text]
            done = subprocess.run(
                command, cwd=tmp_path, env=environ(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        assert health(port) == 0
    assert health(port) != 0
    from PIL import Image

    shown = {"back.png": 256, "both.png": 256, "16x16.png": 16, "back.webp": 256}
    for name, side in shown.items():
        with Image.open(tmp_path / name) as picture:
            assert picture.size == (side, side)
    assert (tmp_path / "codes.raw").stat().st_size == 2 * 2 * 32 * 32


def health(port: int) -> int:
    """The status of the image's own health check."""
    variables = {**environ(), f"{PREFIX}PORT": str(port)}
    check = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("HEALTHCHECK")[1]
    shown = check.split(" CMD ")[1].splitlines()[0]
    command = [sys.executable, *json.loads(shown)[1:]]
    return subprocess.run(command, env=variables, capture_output=True).returncode


def test_the_guide_shows_a_file_that_can_be() -> None:
    text = GUIDE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    given = resolve([file_layer(yaml.safe_load(text), "serve.yaml"), flags({})])
    assert (given.port, given.devices, [*given.models]) == (9000, "0,1", ["small", "large"])


def test_nginx_lets_pass_what_the_server_takes() -> None:
    text = (ROOT / "docs/deploy/nginx.conf").read_text(encoding="utf-8")
    size = re.search(r"^\s*client_max_body_size (\d+)m;", text, re.MULTILINE)
    wait = re.search(r"^\s*proxy_read_timeout (\d+)s;", text, re.MULTILINE)
    assert size and int(size[1]) << 20 >= ServeSettings().max_body
    assert wait and int(wait[1]) > ServeSettings().timeout
    again = re.search(r"^\s*proxy_next_upstream (.+);", text, re.MULTILINE)
    assert again and {"error", "timeout", "http_429", "http_503", "non_idempotent"} <= {
        *again[1].split()
    }
