"""Published checkpoints by name, and downloads from a hub that runs in this process."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from q_align.cli.main import main
from q_align.data.archives import download, unpack
from q_align.data.dataset_card import Archive
from q_align.errors import CheckpointError, MediaError
from q_align.models import hub
from q_align.models.backbone import locate, read_card

COMMIT = "c" * 40
FILES = {
    "config.json": b'{"model_type": "mplug_owl2"}',
    "model.safetensors": bytes(range(256)) * 64,
    "modeling_evil.py": b"raise SystemExit",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as a download and its verification need; files of the class's dictionary."""

    files = FILES
    damaged = False
    cut = 0  # bytes after which the next body breaks off
    ranges: list[str] = []  # noqa: RUF012

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
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

    Hub.damaged, Hub.cut, Hub.ranges = False, 0, []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield address
    running.shutdown()
    running.server_close()


def test_every_built_in_card_says_what_it_is():
    cards = hub.builtin_cards()
    assert {"q-future/one-align", "zhiyuanyou/DeQA-Score-LoRA-Mix3", "MAGAer13/mplug-owl2-llama2-7b"} <= cards.keys()
    owl = {repo: card for repo, card in cards.items() if card.family == "mplug_owl2"}
    assert len(owl) == 10
    for repo, card in owl.items():
        assert card.about["licence"]
        assert card.prompt == "USER: {question}\n{image}\nASSISTANT: {stem}"
        assert bool(card.tasks) == bool(card.trained_on) == (repo != "MAGAer13/mplug-owl2-llama2-7b")


def test_names(tmp_path):
    assert hub.hub_id("one-align") == hub.hub_id("q-future/one-align") == "q-future/one-align"
    assert hub.hub_id("somewhere/else/there") is None
    assert hub.builtin_card("one-align").tasks == ("iqa", "iaa", "vqa")
    snapshot = tmp_path / "models--q-future--q-align-vqa" / "snapshots" / COMMIT
    assert hub.builtin_card(snapshot).tasks == ("vqa",)
    first = hub.builtin_card("one-align")
    first.trained_on.clear()
    assert hub.builtin_card("one-align").trained_on  # nobody else's copy


def test_nothing_is_downloaded_unasked(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="q-align data fetch one-align"):
        locate("one-align")
    with pytest.raises(CheckpointError, match="no such model folder"):
        locate("no_such_folder")


def test_a_folder_called_like_a_checkpoint_gets_its_card(tmp_path):
    folder = tmp_path / "q-align-aesthetic"
    folder.mkdir()
    (folder / "config.json").write_bytes(FILES["config.json"])
    assert read_card(folder).tasks == ("iaa",)
    other = folder.rename(tmp_path / "mine")
    assert read_card(other).tasks == ("iqa", "iaa", "vqa")


def test_fetch_leaves_programs_behind_and_verifies(server, tmp_path):
    root = hub.fetch("org/model", folder=tmp_path / "model")
    assert (root / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not list(root.rglob("*.py"))
    cached = hub.fetch("org/model")
    assert cached.name == COMMIT
    assert hub.cached("org/model") == cached


def test_a_file_that_differs_from_its_checksum_is_an_error(server, tmp_path):
    Hub.damaged = True
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        hub.fetch("org/model", folder=tmp_path / "model")


def test_the_command_prints_the_folder(server, tmp_path, capsys):
    assert main(["data", "fetch", "org/model", "--folder", str(tmp_path / "m")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "m")
    assert main(["data", "fetch", "one-aling"]) == 1
    assert "did you mean 'one-align'" in capsys.readouterr().err
    assert main(["data", "fetch", "maxwell"]) == 1
    assert "no archive with a checksum" in capsys.readouterr().err


def published(server: str, data: bytes) -> Archive:
    return Archive(f"{server}/files/model.safetensors", len(data), hashlib.sha256(data).hexdigest())


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    data = FILES["model.safetensors"]
    Hub.cut = 1000
    with pytest.raises(MediaError, match="1000 bytes"):
        download(published(server, data), tmp_path)
    assert (tmp_path / "model.safetensors.part").stat().st_size == 1000
    assert download(published(server, data), tmp_path).read_bytes() == data
    assert Hub.ranges[-1] == "bytes=1000-"
    asked = len(Hub.ranges)
    download(published(server, data), tmp_path)  # it is there
    assert len(Hub.ranges) == asked


def test_an_archive_that_differs_is_not_kept(server, tmp_path):
    Hub.damaged = True
    with pytest.raises(MediaError, match="checksum differs"):
        download(published(server, FILES["model.safetensors"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_unpacking_stays_in_its_folder(tmp_path):
    import tarfile
    import zipfile

    (tmp_path / "photo.txt").write_text("x")
    for name, member in (("good.zip", "a/photo.txt"), ("bad.zip", "../out.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.write(tmp_path / "photo.txt", member)
    for name, member in (("good.tar", "b/photo.txt"), ("bad.tar", "../out.txt")):
        with tarfile.open(tmp_path / name, "w") as packed_tar:
            packed_tar.add(tmp_path / "photo.txt", member)
    target = tmp_path / "data"
    for name in ("good.zip", "good.tar"):
        unpack(tmp_path / name, target)
    assert (target / "a" / "photo.txt").is_file()
    assert (target / "b" / "photo.txt").is_file()
    for name in ("bad.zip", "bad.tar"):
        with pytest.raises(MediaError, match="not unpacked"):
            unpack(tmp_path / name, target)
    assert not (tmp_path / "out.txt").exists()
    with pytest.raises(MediaError, match="neither"):
        unpack(Path(tmp_path / "photo.txt"), target)
