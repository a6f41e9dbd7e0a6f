"""The Hugging Face hub in this process: as much of its interface as downloads, checksums and commits need."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from q_align.models import catalog

COMMIT = "c" * 40
FILES = {
    "config.json": b'{"model_type": "mplug_owl2"}',
    "model.safetensors": bytes(range(256)) * 64,
    "modeling_evil.py": b"raise SystemExit",
}


class Hub(BaseHTTPRequestHandler):
    """Serves the files of the class's dictionary, and takes commits into it."""

    files: dict[str, bytes] = FILES
    created: list[dict[str, Any]] = []  # noqa: RUF012
    tokens: list[str | None] = []  # noqa: RUF012
    damaged = False
    cut = 0  # bytes after which the next body breaks off
    ranges: list[str] = []  # noqa: RUF012
    requests = 0
    status = 200

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        hub, path = type(self), self.path.split("?")[0]
        hub.tokens.append(self.headers.get("Authorization"))
        if self.status != 200:
            self.send(b"{}", status=self.status)
            return
        host = f"http://{self.headers['Host']}"
        if path == "/api/repos/create":
            record = json.loads(sent)
            hub.created.append(record)
            reply: dict[str, Any] = {"url": f"{host}/{record['organization']}/{record['name']}"}
        elif path == "/api/validate-yaml":
            text = json.loads(sent)["content"]
            assert isinstance(yaml.safe_load(text.split("---")[1]), dict)
            reply = {"errors": [], "warnings": []}
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(sent)["files"]]
            reply = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in path:
            files = [line["value"] for line in map(json.loads, sent.splitlines()) if line["key"] == "file"]
            hub.files = hub.files | {file["path"]: base64.b64decode(file["content"]) for file in files}
            reply = {"commitUrl": f"{host}/{'/'.join(path.split('/')[3:5])}/commit/{COMMIT}", "commitOid": COMMIT}
        else:
            raise AssertionError(path)
        self.send(json.dumps(reply).encode())

    def answer(self, *, body: bool) -> None:
        type(self).requests += 1
        path = self.path.split("?")[0]
        if self.status != 200:
            return self.send(b"{}", {"X-Error-Code": "RepoNotFound"}, status=self.status, body=body)
        if "/resolve/" in path or path.startswith("/files/"):
            return self.send_file(path.rsplit("/", 1)[-1], body=body)
        if "/tree/" in path:
            return self.send(json.dumps([entry(name, data) for name, data in self.files.items()]).encode(), body=body)
        siblings = [{"rfilename": name} for name in self.files]
        return self.send(json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode(), body=body)

    def send_file(self, name: str, *, body: bool) -> None:
        data = self.files[name]
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        start = int(asked.split("=")[1].split("-")[0]) if asked else 0
        if asked and body:
            type(self).ranges.append(asked)
        if type(self).damaged and name.endswith(".safetensors"):
            data = bytes(len(data))
        self.send(data[start:], headers, status=206 if start else 200, body=body)

    def send(self, data: bytes, headers: dict[str, str] | None = None, *, status: int = 200, body: bool = True) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if self.cut:
            data, type(self).cut = data[: self.cut], 0
            self.close_connection = True
        self.wfile.write(data)


def entry(name: str, data: bytes) -> dict:
    """A line of the hub's file list, with the checksums that it publishes."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    record = {"type": "file", "path": name, "size": len(data), "oid": git}
    if name.endswith(".safetensors"):
        record["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
    return record


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[str]:
    from huggingface_hub import constants

    Hub.damaged, Hub.cut, Hub.ranges, Hub.requests, Hub.status = False, 0, [], 0, 200
    Hub.files, Hub.created, Hub.tokens = FILES, [], []
    catalog.find_checkpoint.cache_clear()
    running = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield address
    running.shutdown()
    running.server_close()
