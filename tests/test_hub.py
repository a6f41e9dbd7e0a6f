"""Published checkpoints by name, and downloads from a hub that runs in this process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from fake_hub import COMMIT, FILES, Hub, server

from q_align.cli.main import main
from q_align.data.archives import download, unpack
from q_align.data.dataset_card import Archive
from q_align.errors import CheckpointError, DownloadError, MediaError
from q_align.hub import download_repo
from q_align.models import catalog
from q_align.models.backbone import locate, read_card

__all__ = ["server"]  # a fixture


def test_every_built_in_card_says_what_it_is():
    cards = catalog.builtin_cards()
    assert {"q-future/one-align", "zhiyuanyou/DeQA-Score-LoRA-Mix3", "MAGAer13/mplug-owl2-llama2-7b"} <= cards.keys()
    owl = {repo: card for repo, card in cards.items() if card.family == "mplug_owl2"}
    assert len(owl) == 10
    for repo, card in owl.items():
        assert card.about["licence"]
        assert card.prompt == "USER: {question}\n{image}\nASSISTANT: {stem}"
        assert bool(card.tasks) == bool(card.trained_on) == (repo != "MAGAer13/mplug-owl2-llama2-7b")


def test_names(tmp_path):
    assert catalog.hub_id("one-align") == catalog.hub_id("q-future/one-align") == "q-future/one-align"
    assert catalog.hub_id("somewhere/else/there") is None
    assert catalog.builtin_card("one-align").tasks == ("iqa", "iaa", "vqa")
    snapshot = tmp_path / "models--q-future--q-align-vqa" / "snapshots" / COMMIT
    assert catalog.builtin_card(snapshot).tasks == ("vqa",)
    first = catalog.builtin_card("one-align")
    first.trained_on.clear()
    assert catalog.builtin_card("one-align").trained_on  # nobody else's copy


def test_a_model_that_is_no_folder_and_no_checkpoint():
    with pytest.raises(CheckpointError, match="no such model folder"):
        locate("no_such_folder")
    with pytest.raises(CheckpointError, match=r"one-aling: no such model folder .did you mean 'one-align'"):
        locate("one-aling")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_is_one_line_that_says_what_to_do(server, tmp_path, capsys, monkeypatch, how):
    picture(tmp_path / "a.png")
    words = ["score", str(tmp_path / "a.png"), "--model", "org/model"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")
    assert main([*words, *(["--offline"] if how == "option" else [])]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "q-align: error: org/model: no such folder, not in the local cache, and downloads are off (HF_HUB_OFFLINE, "
        "--offline). On a machine with a network: `q-align data fetch org/model --folder model`; copy the folder; "
        "`--model path/to/model`"
    )
    assert Hub.requests == 0


def test_a_hub_that_cannot_be_reached_is_one_line_that_says_what_to_do(server, tmp_path, capsys, monkeypatch):
    from huggingface_hub import constants

    picture(tmp_path / "a.png")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert main(["score", str(tmp_path / "a.png"), "--model", "org/model"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "q-align: error: org/model: no such folder, not in the local cache, and 127.0.0.1:9 cannot be reached from "
        "here. On a machine with a network: `q-align data fetch org/model --folder model`; copy the folder; "
        "`--model path/to/model`"
    )


def test_a_repository_that_does_not_exist(server):
    Hub.status = 404
    with pytest.raises(DownloadError, match=r"org/model: no such folder, and no such model on 127.0.0.1"):
        locate("org/model")
    with pytest.raises(DownloadError, match="no such dataset on"):
        download_repo("org/model", dataset=True)


def picture(path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 40), "gray").save(path)


@pytest.mark.slow
def test_a_hub_id_downloads_once_and_scores(nano, tmp_path, monkeypatch):
    """The whole way, in processes of their own: a hub id on the command line, its cache, and --offline."""
    nano.save(tmp_path / "nano")
    files = {path.name: path.read_bytes() for path in (tmp_path / "nano").iterdir()}
    Hub.damaged, Hub.cut, Hub.requests, Hub.status = False, 0, 0, 200
    monkeypatch.setattr(Hub, "files", {**files, "modeling_evil.py": b"raise SystemExit"})
    picture(tmp_path / "a.png")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    env = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{running.server_port}", "HF_HOME": str(tmp_path / "hub")}
    env.pop("HF_HUB_OFFLINE", None)

    def score(model: str, *words: str) -> str:
        command = [sys.executable, "-m", "q_align", "score", str(tmp_path / "a.png"), "--model", model, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        return done.stdout or done.stderr

    try:
        assert "downloads are off" in score("org/model", "--offline")
        wanted = score(str(tmp_path / "nano"))
        assert wanted.endswith("a.png\n") and score("org/model") == wanted
        asked = Hub.requests
        assert score("org/model") == wanted and Hub.requests == asked, "the copy in the cache is used"
    finally:
        running.shutdown()
        running.server_close()
    assert score("org/model") == score("org/model", "--offline") == wanted
    assert not list((tmp_path / "hub").rglob("*.py"))


def test_a_folder_called_like_a_checkpoint_gets_its_card(tmp_path):
    folder = tmp_path / "q-align-aesthetic"
    folder.mkdir()
    (folder / "config.json").write_bytes(FILES["config.json"])
    assert read_card(folder).tasks == ("iaa",)
    other = folder.rename(tmp_path / "mine")
    assert read_card(other).tasks == ("iqa", "iaa", "vqa")


def test_programs_are_not_downloaded_and_files_are_verified(server, tmp_path):
    root = catalog.fetch_checkpoint("org/model", folder=tmp_path / "model")
    assert (root / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not list(root.rglob("*.py"))
    cached = catalog.fetch_checkpoint("org/model")
    assert cached.name == COMMIT
    assert locate("org/model") == cached


def test_a_file_that_differs_from_its_checksum_is_an_error(server, tmp_path):
    Hub.damaged = True
    with pytest.raises(DownloadError, match=r"model\.safetensors"):
        catalog.fetch_checkpoint("org/model", folder=tmp_path / "model")


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
