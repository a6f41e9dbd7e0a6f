"""Lists and shards with odd names: each is an item of its own, and none ends the run."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from q_align.media.expand import expand
from q_align.media.source import open_source
from q_align.score.output_table import open_table
from q_align.types import Score


def test_half_a_surrogate_pair_in_a_list(tmp_path: Path) -> None:
    rows = [{"path": "x.png", "id": "\ud83d"}, {"path": "\udc00y.png"}, {"path": "\ud83dz.png"}, {"path": "w.png"}]
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = [item.id for item in expand([str(tmp_path / "l.jsonl")])]
    assert len(set(found)) == 4
    assert all(id.encode("utf-8") for id in found)
    assert found[0] == "\\ud83d"


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_long_cell_in_a_list(tmp_path: Path, suffix: str) -> None:
    mark = {"csv": ",", "tsv": "\t"}[suffix]
    (tmp_path / f"l.{suffix}").write_text(f"path{mark}id\nx.png{mark}{'i' * 200_000}\n")
    assert [len(item.id) for item in expand([str(tmp_path / f"l.{suffix}")])] == [200_000]


@pytest.mark.parametrize("kind", ["s.csv", "s.jsonl", "s.parquet", "folder"])
def test_a_table_with_a_long_cell_is_resumed(tmp_path: Path, kind: str) -> None:
    for resume in (False, True):
        table = open_table(tmp_path / kind, resume=resume)
        before = [len(row["id"]) for row in table.rows()]
        table.write(Score("i" * 200_000, 3.0, "fair", (0.2,) * 5, 1.0, 0.5, task="iqa").row())
        table.close()
    assert before == [200_000]


@pytest.mark.parametrize("folder", ["plain", "f.tar@512+100"])
@pytest.mark.parametrize("name", ["x.tar@512+100/in.png", "a.tar@0+1/b.tar@5+5/in.png", "in.png"])
def test_members_whose_names_look_like_places(tmp_path: Path, folder: str, name: str) -> None:
    shard = tmp_path / folder / "s.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        for member, data in ((name, b"pixels"), ("last.png", b"others")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    sources = [open_source(item.media) for item in expand([str(shard)])]
    assert [source.read() for source in sources if isinstance(source, io.BytesIO)] == [b"pixels", b"others"]
