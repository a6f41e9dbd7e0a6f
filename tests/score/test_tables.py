"""A table holds whole rows only, and an earlier run's rows can be gone on with."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q_align.errors import ConfigError
from q_align.score.digest_set import DigestSet
from q_align.score.output_table import COLUMNS, drop_failed_rows, open_table
from q_align.score.shards import Shards, list_shards, parts_folder, rename_stages
from q_align.types import Score

NAMES = ["plain.jpg", "späce, comma.png", 'quo"te.jpg', "new\nline.jpg", "𝔘nicode 片.png", "\\udcff.jpg"]
KINDS = ["scores.jsonl", "scores.csv", "scores.parquet", "folder"]


def score(name: str) -> Score:
    return Score(name, 3.25, "fair", (0.1, 0.2, 0.4, 0.2, 0.1), 1.5, 0.75, task="iqa")


def fill(path: Path, names: list[str], **options: object) -> None:
    table = open_table(path, **options)  # type: ignore[arg-type]
    for name in names:
        table.write(score(name).row())
    table.close()


def ids(path: Path) -> list[str]:
    table = open_table(path, resume=True, columns=None)
    found = [row["id"] for row in table.rows()]
    table.close()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_and_are_gone_on_with(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    fill(path, NAMES[:4])
    assert ids(path) == NAMES[:4]
    with pytest.raises(ConfigError, match="--resume"):
        open_table(path)
    fill(path, NAMES[4:], resume=True)
    assert ids(path) == NAMES
    assert not parts_folder(path).exists()


def test_what_the_files_hold(tmp_path: Path) -> None:
    for kind in KINDS:
        fill(tmp_path / kind, NAMES)
    whole = [score(name).row() | {"probs": [0.1, 0.2, 0.4, 0.2, 0.1]} for name in NAMES]
    wanted = [{name: row[name] for name in COLUMNS} for row in whole]
    assert [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text("utf-8").splitlines()] == wanted
    assert pq.read_table(tmp_path / "scores.parquet").to_pylist() == wanted
    assert pq.read_table(tmp_path / "folder").to_pylist() == wanted
    assert tuple(wanted[0]) == COLUMNS
    with (tmp_path / "scores.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == NAMES and {line["value"] for line in lines} == {"3.25"}


LEVELS = ("excellent", "good", "fair", "poor", "bad")


def test_a_csv_has_a_column_for_each_level(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    for names in (NAMES[:3], NAMES[3:]):
        fill(path, names, levels=LEVELS, resume=True)
    failed = open_table(path, levels=LEVELS, resume=True)
    failed.write(Score("failed", error="no such file").row())
    failed.close()
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0])[:9] == ["id", "value", "level", *(f"p_{word}" for word in LEVELS), "std"]
    for line in lines[:-1]:
        assert [float(line[f"p_{word}"]) for word in LEVELS] == [0.1, 0.2, 0.4, 0.2, 0.1]
    assert [line["id"] for line in lines] == [*NAMES, "failed"] and {lines[-1][f"p_{word}"] for word in LEVELS} == {""}
    before = path.read_bytes()
    assert drop_failed_rows(path) == 1
    assert path.read_bytes() == before[: before.rindex(b"failed")], "all other rows as they were"


def test_a_csv_is_resumed_with_its_own_columns_only(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    fill(path, NAMES[:2], columns=("id", "value"))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="has the columns id,value, not id,value,error"):
        open_table(path, columns=("id", "value", "error"), resume=True)
    assert path.read_bytes() == before
    fill(path, NAMES[2:], columns=("id", "value"), resume=True)
    assert ids(path) == NAMES


def test_columns(tmp_path: Path) -> None:
    for kind in KINDS:
        fill(tmp_path / kind, NAMES, columns=("id", "value"))
    assert json.loads((tmp_path / "scores.jsonl").read_text("utf-8").splitlines()[0]) == {"id": NAMES[0], "value": 3.25}
    assert pq.read_table(tmp_path / "scores.parquet").column_names == ["id", "value"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["jsonl", "csv"]), st.floats(0, 1))
def test_a_half_written_row_is_cut_off(tmp_path_factory: pytest.TempPathFactory, kind: str, share: float) -> None:
    """A process that dies in the middle of a write leaves a prefix of the file."""
    path = tmp_path_factory.mktemp("t") / f"scores.{kind}"
    fill(path, NAMES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    whole = ids(path)
    assert whole == NAMES[: len(whole)]
    fill(path, NAMES[len(whole) :], resume=True)
    assert path.read_bytes() == data


def test_shards_are_cut_by_rows_and_numbered_on(tmp_path: Path) -> None:
    for start in (0, 5):
        table = Shards(tmp_path, shard_rows=2)
        for i in range(start, start + 5):
            table.write(score(str(i)).row())
        table.close()
    assert [p.name for p in list_shards(tmp_path)] == [f"part-{i:06d}.parquet" for i in range(6)]
    assert ids(tmp_path) == [str(i) for i in range(10)]


def test_what_a_dead_process_was_writing_does_not_count(tmp_path: Path) -> None:
    table = Shards(tmp_path, shard_rows=2)
    table.write(score("a").row())
    table.write(score("b").row())
    table.write(score("lost").row())
    table.lock.release()  # the process dies here
    (tmp_path / ".part-000001.tmp").write_bytes(b"half a shard")
    assert ids(tmp_path) == ["a", "b"]
    assert not (tmp_path / ".part-000001.tmp").exists()


@pytest.mark.parametrize("moment", ["before the renames", "between the renames", "after the renames"])
def test_a_single_file_survives_death_while_it_is_put_together(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "scores.parquet"
    fill(path, ["a"])
    table = open_table(path, resume=True)
    table.write(score("b").row())
    table.flush()  # type: ignore[attr-defined]
    table.lock.release()  # type: ignore[attr-defined]
    whole, spent = rename_stages(path)
    merged = tmp_path / "merged.parquet"
    fill(merged, ["a", "b"])
    whole.write_bytes(merged.read_bytes())
    if moment != "before the renames":
        parts_folder(path).rename(spent)
    if moment == "after the renames":
        whole.replace(path)
    assert drop_failed_rows(path) == 0
    assert ids(path) == ["a", "b"]


def test_an_unfinished_single_file_is_not_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = open_table(path)
    table.write(score("a").row())
    table.flush()  # type: ignore[attr-defined]
    table.lock.release()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="--resume"):
        open_table(path)
    assert ids(path) == ["a"]


@pytest.mark.parametrize("name", ["folder", "scores.parquet", "scores.csv", "scores.jsonl"])
def test_two_writers_are_kept_apart(tmp_path: Path, name: str) -> None:
    table = open_table(tmp_path / name)
    table.write(score("a").row())
    with pytest.raises(ConfigError, match="another process"):
        open_table(tmp_path / name, resume=True)
    table.close()
    assert ids(tmp_path / name) == ["a"]


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.xlsx"):
        open_table(tmp_path / "scores.xlsx")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=6)), st.integers(1, 5))
def test_seen_is_a_set(keys: list[str], fresh: int) -> None:
    from unittest.mock import patch

    plain: set[str] = set()
    with patch("q_align.score.digest_set.FRESH", fresh):
        seen = DigestSet()
        for key in keys:
            assert seen.add(key) == (key not in plain)
            plain.add(key)
        assert len(seen) == len(plain)
        assert all(key in seen for key in plain) and "never added, since it is long" not in seen
