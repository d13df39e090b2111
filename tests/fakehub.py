"""A stand-in for the Hugging Face hub on the loopback, with as much of it as a client needs.

Answers what downloads and uploads of model repositories ask for: `/api/models/…`, its `tree`,
`resolve`, creating repositories and branches, and commits. Repositories live in memory.

    with FakeHub() as hub:
        hub.add("org/name", {"config.json": b"{}"})
        subprocess.run(..., env=hub.environment(cache))

or, in a process that has read its variables already, `hub.patch(monkeypatch, cache)`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

__all__ = ["FakeHub"]

Files = Mapping[str, bytes]


class FakeHub:
    """Repositories, and a server of them on a port of its own while the context lasts.

    requests  "GET /path" of each request so far
    broken    while true, every request is answered 503
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.requests: list[str] = []
        self.broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, cache: Path) -> dict[str, str]:
        """For a subprocess: this one's environment, but this hub, and a cache of its own."""
        settings = {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
        return {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1"}

    def patch(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Points this process's client here, whose variables were read when it was imported."""
        from huggingface_hub import constants

        values = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value)

    def add(
        self, repo: str, files: Files | Path, *, branch: str = "main", gated: bool = False
    ) -> str:
        """A commit that holds `files`, or the files below a folder, on `branch`."""
        if isinstance(files, Path):
            found = (path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        text = repr((repo, len(self.commits.get(repo, {})), sorted(files.items())))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits.setdefault(repo, {})[commit] = dict(files)
        self.branches.setdefault(repo, {})[branch] = commit
        if gated:
            self.gated.add(repo)
        return commit

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes] | None:
        """What a branch or commit holds, or None where there is none."""
        commit = self.branches.get(repo, {}).get(revision, revision)
        return self.commits.get(repo, {}).get(commit)


class _Answer(Exception):
    """Ends the handling of a request."""

    def __init__(self, status: int, body: Any = None, **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def _missing(status: int, code: str) -> _Answer:
    return _Answer(status, {"error": code}, X_Error_Code=code)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {unquote(path)}")
            try:
                parts = [unquote(part) for part in path.strip("/").split("/")]
                _route(hub, self.command, parts, body)
            except _Answer as answer:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = answer

    return Handler


def _route(hub: FakeHub, method: str, parts: list[str], body: bytes) -> None:
    if hub.broken:
        raise _Answer(503, {"error": "down for a while"})
    match method, parts:
        case "POST", ["api", "repos", "create"]:
            _create(hub, json.loads(body))
        case "POST", ["api", "validate-yaml"]:
            raise _Answer(200, {"errors": [], "warnings": []})
        case "POST", ["api", "models", org, name, "branch", branch]:
            hub.branches[f"{org}/{name}"][branch] = hub.branches[f"{org}/{name}"]["main"]
            raise _Answer(200, {})
        case "POST", ["api", "models", org, name, "preupload", _]:
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": f, "uploadMode": "regular", "shouldIgnore": False} for f in files]
            raise _Answer(200, {"files": modes})
        case "POST", ["api", "models", org, name, "commit", branch]:
            _commit(hub, f"{org}/{name}", branch, body)
        case _, ["api", "models", org, name]:
            _info(hub, f"{org}/{name}", "main")
        case _, ["api", "models", org, name, "revision", revision]:
            _info(hub, f"{org}/{name}", revision)
        case _, ["api", "models", org, name, "tree", revision, *_]:
            _tree(hub, f"{org}/{name}", revision)
        case _, [org, name, "resolve", revision, *path]:
            _file(hub, f"{org}/{name}", revision, "/".join(path))
    raise _Answer(404, {"error": f"nothing here answers {method} {'/'.join(parts)}"})


def _find(hub: FakeHub, repo: str, revision: str) -> tuple[str, dict[str, bytes]]:
    files = hub.files(repo, revision)
    if repo not in hub.commits:
        raise _missing(401, "RepoNotFound")
    if files is None:
        raise _missing(404, "RevisionNotFound")
    return hub.branches[repo].get(revision, revision), files


def _info(hub: FakeHub, repo: str, revision: str) -> None:
    commit, files = _find(hub, repo, revision)
    siblings = [{"rfilename": name} for name in files]
    raise _Answer(200, {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings})


def _tree(hub: FakeHub, repo: str, revision: str) -> None:
    _, files = _find(hub, repo, revision)
    entries = [
        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        for name, data in files.items()
    ]
    raise _Answer(200, entries)


def _file(hub: FakeHub, repo: str, revision: str, path: str) -> None:
    commit, files = _find(hub, repo, revision)
    if repo in hub.gated:
        raise _missing(403, "GatedRepo")
    if path not in files:
        raise _Answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
    etag = hashlib.sha1(files[path]).hexdigest()
    raise _Answer(200, files[path], ETag=f'"{etag}"', X_Repo_Commit=commit)


def _create(hub: FakeHub, wanted: Mapping[str, Any]) -> None:
    repo = f"{wanted['organization'] or 'me'}/{wanted['name']}"
    if wanted["organization"] == "forbidden":
        raise _Answer(403, {"error": "no write access here"})
    if repo in hub.commits:
        raise _Answer(409, {"error": "you have it already", "url": f"{hub.url}/{repo}"})
    hub.add(repo, {".gitattributes": b""})
    raise _Answer(200, {"url": f"{hub.url}/{repo}"})


def _commit(hub: FakeHub, repo: str, branch: str, body: bytes) -> None:
    files = dict(_find(hub, repo, branch)[1])
    for line in map(json.loads, body.splitlines()):
        match line:
            case {"key": "file", "value": {"path": path, "content": content}}:
                files[path] = base64.b64decode(content)
            case {"key": "deletedFile", "value": {"path": path}}:
                del files[path]
    commit = hub.add(repo, files, branch=branch)
    raise _Answer(200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit})
