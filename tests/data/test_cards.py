"""Dataset cards: complete, strict, and equal to the published label files; errors say how to get what is missing."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from q_align.data.dataset_card import SOURCES, Archive, card_names, load_card
from q_align.data.open_dataset import check_media, missing_media, open_dataset, open_for_test, parse_spec
from q_align.errors import ConfigError, LabelError, MediaError
from q_align.tasks import TASKS

WANTED = {"koniq", "spaq", "kadid", "livec", "live", "csiq", "tid2013", "pipal", "agiqa3k", "agiqa20k", "cgiqa6k"} | {
    *("ava", "lsvq", "lsvq1080p", "konvid", "livevqc", "youtube_ugc", "maxwell")
}

# name, split, n as published
PUBLISHED = [
    ("koniq", "train", 7046), ("koniq", "test", 2010), ("spaq", "train", 8897), ("spaq", "test", 2224),
    ("kadid", "train", 8106), ("kadid", "test", 2000), ("lsvq1080p", "test", 3573), ("livec", "all", 1162),
    ("livec", "test", 1162), ("live", "all", 982), ("csiq", "all", 750), ("ava", "test", 19930),
    ("maxwell", "train", 3634), ("maxwell", "test", 909),
]  # fmt: skip


def test_the_named_data_sets_have_cards() -> None:
    assert set(card_names()) >= WANTED


@pytest.mark.parametrize("name", card_names())
def test_a_card_is_complete(name: str) -> None:
    card = load_card(name)
    assert card.name == name and card.task in TASKS and card.n > 0
    assert card.url.startswith("https://") and card.get and card.licence and card.cite and card.scale
    if card.mos_range is not None:
        assert card.mos_range[0] < card.mos_range[1]
    assert card.default_split in card.splits and card.part("test") in card.splits
    for row in card.published:
        assert row.split in card.splits and row.source in SOURCES and row.trained_on
        assert 0.3 < row.srcc < 1 and 0.3 < row.plcc < 1
    for archive in card.archives:
        assert len(archive.sha256) == 64 and archive.bytes > 0


def test_published_numbers_of_the_papers() -> None:
    rows = {(r.model, r.trained_on): (r.srcc, r.plcc) for r in load_card("koniq").published}
    assert rows["Q-Align", "KonIQ"] == (0.940, 0.941)
    assert rows["OneAlign", "KonIQ, SPAQ, KADID, AVA, LSVQ"] == (0.941, 0.950)
    assert rows["DeQA-Score", "KonIQ"] == (0.941, 0.953)


@pytest.mark.parametrize(("name", "split", "n"), PUBLISHED)
def test_published_label_files(shared: Path, name: str, split: str, n: int) -> None:
    labels = open_dataset(name, split=split, labels_root=shared / "data/labels/q_align")
    assert len(labels) == n
    mos = labels.column("mos")
    assert mos.min() >= 1 and mos.max() <= 5
    direction = 1 if load_card(name).higher_is_better else -1
    order = np.argsort(labels.column("raw_mos"))
    assert (direction * np.diff(mos[order]) >= -1e-9).all()
    assert set(labels.column("source")) == {name}


def test_without_a_split_the_parts_are_told_apart(shared: Path) -> None:
    """Training takes a card's train rows, evaluation its test rows; nothing is in both."""
    labels = open_dataset("koniq", labels_root=shared / "data/labels/q_align")
    train, test = labels.split("train"), labels.split("test")
    assert (len(train), len(test), labels.report["rows"]) == (7046, 2010, 9056)
    assert not set(train.column("media")) & set(test.column("media"))
    assert set(open_for_test("koniq", labels_root=shared / "data/labels/q_align").column("media")) == set(
        test.column("media")
    )


def test_dmos_comes_out_positive(shared: Path) -> None:
    """The worst blur of CSIQ scores below the lightest, a reference of LIVE gets the best score."""
    csiq = open_for_test("csiq", labels_root=shared / "data/labels/q_align")
    by_name = dict(zip((Path(m).name for m in csiq.column("media")), csiq.column("mos")))
    assert by_name["1600.AWGN.1.png"] > by_name["1600.AWGN.5.png"]
    live = open_dataset("live", labels_root=shared / "data/labels/q_align")
    assert live.column("mos")[live.column("raw_mos") == 0].min() == 5.0


def test_levels_of_the_published_files(shared: Path) -> None:
    """The cards' ranges give the level words that the authors' own conversion gave."""
    for name, agree in (("koniq", 0.9999), ("spaq", 0.998)):
        labels = open_dataset(name, split="train", labels_root=shared / "data/labels/q_align")
        words = [labels.scheme.words[k] for k in labels.scheme.hard(labels.column("mos"))]
        assert np.mean([a == b for a, b in zip(words, labels.column("level"))]) >= agree


def test_contents_and_excluded(shared: Path) -> None:
    kadid = open_for_test("kadid", labels_root=shared / "data/labels/q_align")
    assert sorted(set(kadid.column("content"))) == [f"I{i}" for i in range(66, 82)]
    livec = open_dataset("livec", labels_root=shared / "data/labels/q_align")
    assert livec.report["excluded"] == 7 and not any(Path(m).stem.startswith("t") for m in livec.column("media"))


def published(folder: Path, names: list[str]) -> Path:
    path = folder / "test_koniq.json"
    rows = [{"image": f"koniq/{n}", "id": f"{n}->{30 + 5 * i}", "gt_score": 30 + 5 * i} for i, n in enumerate(names)]
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("layout", ["koniq", "", "512x384", "koniq10k/1024x768"])
def test_media_are_found_in_any_known_layout(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "media"
    (root / layout).mkdir(parents=True)
    names = ["a.jpg", "b.jpg", "c.jpg"]
    for name in names:
        Image.new("RGB", (4, 4)).save(root / layout / name)
    monkeypatch.setenv("Q_ALIGN_DATA", str(published(tmp_path, names).parent))
    labels = open_for_test("koniq", media_root=root)
    assert len(missing_media(labels)) == 0 and len(check_media(labels)) == 0
    (root / layout / "b.jpg").unlink()
    assert check_media(labels, load_card("koniq")).tolist() == [1]  # reported, not fatal
    for name in ("a.jpg", "c.jpg"):
        (root / layout / name).unlink()
    with pytest.raises(MediaError, match=r"none of 3 media found .*koniq-10k-database"):
        check_media(labels, load_card("koniq"))


def test_own_files_of_the_data_sets(tmp_path: Path) -> None:
    (tmp_path / "dmos.csv").write_text(
        "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.5\nI02_01_05.png,I02.png,1.2,0.4\n"
    )
    kadid = open_dataset("kadid", split="all", labels_root=tmp_path)
    assert kadid.column("content").tolist() == ["I01", "I02"] and kadid.column("raw_mos").tolist() == [4.57, 1.2]
    (tmp_path / "KoNViD_1k_mos.csv").write_text("flickr_id,mos\n3240926995,2.8\n3247133214,4.0\n")
    konvid = open_dataset("konvid", labels_root=tmp_path)
    assert Path(konvid.column("media")[0]).name == "3240926995.mp4" and konvid.task == "vqa"


def test_labels_file_and_card_with_own_labels(tmp_path: Path) -> None:
    labels = tmp_path / "mine.csv"
    labels.write_text("image,mos,split\na.png,0.1,train\nd.png,0.8,train\nb.png,0.7,test\nc.png,0.4,test\n")
    assert len(open_for_test(labels)) == 2  # the test rows
    assert len(open_for_test(labels, split="all")) == len(open_dataset(labels)) == 4
    with pytest.raises(LabelError, match="split 'val' is empty; splits are train, test"):
        open_dataset(labels, split="val")
    turned = open_dataset(f"csiq={labels}", split="all")
    assert turned.source == "csiq" and turned.column("mos").tolist() == pytest.approx([4.6, 1.8, 2.2, 3.4])


def test_errors_name_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("Q_ALIGN_DATA", raising=False)
    with pytest.raises(ConfigError, match="did you mean 'koniq'"):
        parse_spec("konik")
    with pytest.raises(ConfigError, match=r"no split 'tset' .did you mean 'test'"):
        open_dataset("koniq", split="tset")
    with pytest.raises(LabelError, match=r"train_koniq.json not found .*--labels-root.*mmsp-kn.de"):
        open_dataset("koniq", media_root=tmp_path)
    with pytest.raises(LabelError, match="no readable labels file is published"):
        open_dataset("tid2013")
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\ntitel: Mine\n")
    with pytest.raises(ConfigError, match=r"unknown key 'titel' .did you mean 'title'"):
        load_card(card)
    card.write_text("name: mine\n")
    with pytest.raises(ConfigError, match=r"missing .* required"):
        load_card(card)


def test_archives_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"media")
    archive = Archive("https://example.org/a.zip", 5, hashlib.sha256(b"media").hexdigest())
    archive.verify(path)
    path.write_bytes(b"medio")
    with pytest.raises(MediaError, match="checksum differs"):
        archive.verify(path)
    path.write_bytes(b"med")
    with pytest.raises(MediaError, match="3 bytes, published are 5"):
        archive.verify(path)


@pytest.mark.slow
def test_a_wheel_holds_cards_and_configurations(tmp_path: Path) -> None:
    source = tmp_path / "source"  # a copy: building leaves files behind
    source.mkdir()
    for name in ("q_align", "data", "configs", "setup.py", "pyproject.toml", "README.md"):
        original = Path(__file__).parents[2] / name
        copy = shutil.copytree if original.is_dir() else shutil.copy
        copy(original, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), "."]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    if "No module named 'setuptools'" in done.stderr or "BackendUnavailable" in done.stderr:
        pytest.skip("setuptools is not installed here")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {Path(n).stem for n in wheel.namelist() if n.startswith("q_align/dataset_cards/")}
        assert {"q_align/report/page.html", "q_align/report/style.css"} <= set(wheel.namelist())
        assert {"q_align/configs/nano.yaml", "q_align/configs/qwen3_5/4b.yaml"} <= set(wheel.namelist())
        wheel.extractall(tmp_path / "site")
    assert packed == set(card_names())
    show = "from q_align.data.dataset_card import *; print(cards_folder(), len(card_names()))"
    found = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(tmp_path / 'site')!r}, *{sys.path!r}]; {show}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "dataset_cards" in found.stdout and found.stdout.split()[-1] == str(len(card_names()))
