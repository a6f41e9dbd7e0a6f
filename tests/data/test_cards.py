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
from q_align.data.media_files import check_media, missing_media
from q_align.data.open_dataset import open_dataset, open_for_test, parse_spec
from q_align.errors import ConfigError, LabelError, MediaError
from q_align.levels import LevelScheme
from q_align.tasks import TASKS

SCHEME = LevelScheme()
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
    labels = open_dataset(name, split=split, labels_root=shared / "data/labels/q_align").on(SCHEME)
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
    csiq = open_for_test("csiq", labels_root=shared / "data/labels/q_align").on(SCHEME)
    by_name = dict(zip((Path(m).name for m in csiq.column("media")), csiq.column("mos")))
    assert by_name["1600.AWGN.1.png"] > by_name["1600.AWGN.5.png"]
    live = open_dataset("live", labels_root=shared / "data/labels/q_align").on(SCHEME)
    assert live.column("mos")[live.column("raw_mos") == 0].min() == 5.0


def test_levels_of_the_published_files(shared: Path) -> None:
    """The cards' ranges give the level words that the authors' own conversion gave."""
    for name, agree in (("koniq", 0.9999), ("spaq", 0.998)):
        labels = open_dataset(name, split="train", labels_root=shared / "data/labels/q_align").on(SCHEME)
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
    with pytest.raises(MediaError, match=r"3 of 3 images or videos are missing .*koniq-10k-database"):
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
    turned = open_dataset(f"csiq={labels}", split="all").on(SCHEME)
    assert turned.source == "csiq" and turned.column("mos").tolist() == pytest.approx([4.6, 1.8, 2.2, 3.4])


def own_card(folder: Path, text: str, rows: str = "a,1,train\nb,2,train\nc,4,val\nd,5,test\n") -> Path:
    (folder / "labels.csv").write_text(f"image,mos,split\n{rows}")
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def ids(labels) -> list[str]:
    return labels.column("id").tolist()


def test_an_own_card_needs_a_name_and_labels_only(tmp_path: Path) -> None:
    card = own_card(tmp_path, "name: mine\nlabels: labels.csv\n")
    assert load_card(card).title == "mine"
    assert ids(open_dataset(card)) == ["a", "b", "c", "d"]
    assert ids(open_for_test(card)) == ["d"]  # as of the labels file by itself
    assert open_dataset(card).task == "iqa" and open_dataset(card).source == "mine"
    card.write_text("splits: {test: {labels: labels.csv}}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: the card lacks: name$"):
        load_card(card)
    card.write_text("name: mine\nlabels: lost.csv\n")
    with pytest.raises(LabelError, match=r"mine: labels file lost\.csv not found") as error:
        open_dataset(card)
    assert "published" not in str(error.value)


def test_labels_beside_an_own_card_win_over_others_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    card = own_card(tmp_path / "mine", "name: mine\nlabels: labels.csv\n")
    other = tmp_path / "photos"
    other.mkdir()
    (other / "labels.csv").write_text("image,mos\nother.png,1\nanother.png,2\n")
    assert ids(open_dataset(card, media_root=other)) == ["a", "b", "c", "d"]


def test_the_split_column_of_a_cards_labels_is_honoured(tmp_path: Path) -> None:
    """A card that names one file for its test part must not evaluate the training rows of that file."""
    card = own_card(tmp_path, "name: mine\nsplits: {test: {labels: labels.csv, n: 1}}\n")
    assert ids(open_for_test(card)) == ids(open_dataset(card, split="test")) == ["d"]
    card = own_card(tmp_path, "name: mine\nsplits: {train: {labels: labels.csv}, test: {labels: labels.csv}}\n")
    assert ids(open_for_test(card)) == ["d"]
    both = open_dataset(card)
    assert dict(zip(ids(both), both.column("split"))) == {"a": "train", "b": "train", "c": "val", "d": "test"}


def test_a_split_column_that_contradicts_the_card_is_refused(tmp_path: Path) -> None:
    text = "name: mine\nsplits: {test: {labels: labels.csv}}\n"
    card = own_card(tmp_path, text, "a,1,train\nb,2,train\nc,4,val\n")
    with pytest.raises(LabelError, match=r"split 'test' of the card is .*labels\.csv.*\(it has train 2, val 1\)"):
        open_for_test(card)
    card = own_card(tmp_path, text, "a,1,\nb,2,\n")  # a column without values says nothing
    assert ids(open_for_test(card)) == ["a", "b"]


def test_train_and_test_part_share_one_range(tmp_path: Path) -> None:
    """Ranged apart, the same MOS would be another level in each part."""
    (tmp_path / "train.csv").write_text("image,mos\na,0\nb,50\nc,100\n")
    (tmp_path / "test.csv").write_text("image,mos\nd,20\ne,50\nf,80\n")
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\nsplits: {train: {labels: train.csv}, test: {labels: test.csv}}\n")
    labels = open_dataset(card).on(SCHEME)
    assert labels.mos_range == (0, 100) and labels.report["range_from"] == "training rows"
    assert labels.column("mos").tolist() == pytest.approx([1, 3, 5, 1.8, 3, 4.2])
    # parts on two declared scales come onto the first one
    card.write_text(
        "name: mine\nsplits: {train: {labels: train.csv, mos_range: [0, 100]}, "
        "test: {labels: test.csv, mos_range: [0, 80]}}\n"
    )
    labels = open_dataset(card).on(SCHEME)
    assert labels.column("mos").tolist() == pytest.approx([1, 3, 5, 2, 3.5, 5])
    assert labels.column("raw_mos").tolist() == pytest.approx([0, 50, 100, 25, 62.5, 100])


def test_urls_in_labels_count_as_missing(tmp_path: Path) -> None:
    """Training opens none and evaluation only on request, so both stop before they start."""
    (tmp_path / "a.png").touch()
    (tmp_path / "labels.csv").write_text("image,mos\na.png,1\nhttps://example.org/b.png,2\n")
    labels = open_dataset(tmp_path / "labels.csv")
    assert check_media(labels).tolist() == missing_media(labels).tolist() == [1]
    with pytest.raises(MediaError, match=r"1 of 2 images or videos are missing \(first: https:.*opens no URLs"):
        check_media(labels, every=True)
    with pytest.raises(MediaError, match="opens no URLs"):
        check_media(labels.select([1]))
    assert len(check_media(labels, every=True, urls=True)) == 0


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
    with pytest.raises(ConfigError, match=r"mine\.yaml: the card lacks: splits$"):
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
