"""What people write on a command line, and how many items it stands for."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from q_align.errors import MediaError
from q_align.media.count_items import count_items
from q_align.media.expand import expand, tar_members
from q_align.media.packed import place_of, read_packed
from q_align.media.source import Broken


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/2.jpg", "a/1.PNG", "a/deep/3.mp4", "a/notes.md", "b/4.webp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def ids(*words: str, **options: str) -> list[str]:
    found = [item.id for item in expand(words, **options)]
    counted = count_items(words)
    assert counted is None or counted == len(found)
    return found


def test_files_folders_and_globs(folder: Path) -> None:
    assert ids("a/2.jpg", "b") == ["a/2.jpg", "b/4.webp"]
    assert ids("a") == ["a/1.PNG", "a/2.jpg", "a/deep/3.mp4"], "by name, folders below after files, no other files"
    assert ids("*/[0-9].*") == ["a/1.PNG", "a/2.jpg", "b/4.webp"]
    assert ids("**/*.mp4") == ["a/deep/3.mp4"]
    assert ids("nothing*.jpg", "absent.jpg") == ["nothing*.jpg", "absent.jpg"], "they fail in their rows"
    assert ids("https://example.com/*.jpg") == ["https://example.com/*.jpg"]
    (folder / "odd[1].jpg").touch()
    assert ids("odd[1].jpg") == ["odd[1].jpg"], "a name that looks like a glob"


def test_linked_folders_are_entered_once(folder: Path) -> None:
    (folder / "a" / "linked").symlink_to(folder / "b")
    (folder / "a" / "deep" / "round").symlink_to(folder / "a")
    assert ids("a") == ["a/1.PNG", "a/2.jpg", "a/deep/3.mp4", "a/linked/4.webp"]


def test_lists_behind_a_glob(folder: Path) -> None:
    (folder / "l1.txt").write_text("a/2.jpg\nb/4.webp\n")
    assert ids("l*.txt") == ["a/2.jpg", "b/4.webp"]
    with tarfile.open("s1.tar", "w") as shard:
        shard.add("b/4.webp")
    assert ids("s*.tar") == ["s1.tar/b/4.webp"]


def test_a_folder_that_cannot_be_listed_is_an_item_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "deep":  # as root, permissions would not stop us
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", guarded)
    *_, last = expand(["a"])
    assert last.id == "a/deep" and isinstance(last.media, Broken) and "cannot be listed" in last.media


def test_tables_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "latin.csv").write_bytes("path\nsp\xe4ce.png\n".encode("latin-1"))
    with pytest.raises(MediaError, match="not a table in UTF-8"):
        list(expand(["latin.csv"]))
    (folder / "zero.jsonl").write_text('{"path": "a/2.jpg", "id": 0}\n{"path": "b/4.webp", "id": ""}\n')
    assert ids("zero.jsonl") == ["0", "b/4.webp"]


def test_a_list_in_another_encoding_is_named(folder: Path) -> None:
    (folder / "list.jsonl").write_bytes('{"path": "Größe.jpg"}\n'.encode("latin-1"))
    with pytest.raises(MediaError, match=r"list\.jsonl, line 1: not JSON in UTF-8"):
        list(expand(["list.jsonl"]))


def test_lists(folder: Path) -> None:
    (folder / "l.txt").write_text("a/2.jpg\n\nb/4.webp\n")
    (folder / "l.tsv").write_text("id\tfile\nx\ta/2.jpg\ny\tb/4.webp\n")
    (folder / "l.jsonl").write_text('"a/2.jpg"\n{"path": "b/4.webp", "task": "iaa"}\n')
    (folder / "l.csv").write_text("film,other\na/2.jpg,1\n")
    assert ids("l.txt") == ids("l.jsonl") == ["a/2.jpg", "b/4.webp"]
    assert ids("l.tsv") == ["x", "y"]
    assert ids("l.csv", column="film") == ["a/2.jpg"]
    assert [item.task for item in expand(["l.jsonl"])] == [None, "iaa"]
    assert [Path(str(item.media)) for item in expand(["l.txt"])] == [Path("a/2.jpg"), Path("b/4.webp")]
    assert [str(item.media) for item in expand(["l.tsv"], root="/media")] == ["/media/a/2.jpg", "/media/b/4.webp"]
    with pytest.raises(MediaError, match=r"no column .*it has film, other"):
        ids("l.csv")
    (folder / "bad.jsonl").write_text('{"path": "a"}\n{"path"\n')
    with pytest.raises(MediaError, match="line 2"):
        list(expand(["bad.jsonl"]))


def test_bytes_in_tables(folder: Path) -> None:
    rows = [{"bytes": b"1", "path": None}, {"bytes": None, "path": "a/2.jpg"}, {"bytes": b"3", "path": "c.png"}, None]
    pq.write_table(pa.table({"image": rows}), "t.parquet")
    items = list(expand(["t.parquet"]))
    assert [item.id for item in items] == ["t.parquet:0", "a/2.jpg", "c.png", "t.parquet:3"]
    assert [item.media for item in items[::2]] == [b"1", b"3"] and str(items[1].media) == "a/2.jpg"
    assert isinstance(items[3].media, Broken), "an empty row fails with a reason"


def test_tar_shards(folder: Path) -> None:
    long = "a/" + "long \u00e9\n" * 30 + ".jpg"  # beyond one header: its real name stands in a block before it
    with tarfile.open("t.tar", "w") as shard:
        shard.add("a")
        shard.add("a/2.jpg", long)
    found = {item.id: item.media for item in tar_members(Path("t.tar"))}
    assert set(found) == {f"t.tar/{name}" for name in ("a/2.jpg", "a/1.PNG", "a/deep/3.mp4", long)}
    for name, media in found.items():
        place = place_of(media)
        assert place is not None, "places, not bytes: a list of shards holds nothing in memory"
        assert read_packed(place, name) == (b"a/2.jpg" if name.endswith(long) else name.removeprefix("t.tar/").encode())
    assert count_items(["t.tar"]) is None
