"""Inspection and its command: counts that can be checked by hand, and the range that levels imply."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q_align.cli import data as command
from q_align.data.implied_range import implied_range
from q_align.data.inspect_labels import inspect
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError
from q_align.levels import LevelScheme

SCHEME = LevelScheme()


@given(low=st.floats(-50, 50), width=st.floats(1, 200), seed=st.integers(0, 999), levels=st.integers(3, 7))
@settings(max_examples=40, deadline=None)
def test_implied_range_is_found(low: float, width: float, seed: int, levels: int) -> None:
    scheme = LevelScheme(words=tuple("abcdefg"[:levels]), values=tuple(range(levels, 0, -1)))
    mos = low + width * np.random.default_rng(seed).random(4000)
    level = scheme.hard(scheme.to_scale(mos, (low, low + width)))
    found = implied_range(mos, level, levels)
    assert found is not None
    assert found.strays == 0
    assert found.low_between[0] - 1e-4 * width <= low <= found.low_between[1] + 1e-4 * width
    assert found.high_between[0] - 1e-4 * width <= low + width <= found.high_between[1] + 1e-4 * width
    assert abs(found.low - low) < 0.01 * width
    again = scheme.hard(scheme.to_scale(mos, (found.low, found.high)))
    assert (again == level).mean() > 0.998


def test_implied_range_survives_strays_and_gives_up_where_it_must() -> None:
    mos = np.linspace(0, 10, 1001)
    level = SCHEME.hard(SCHEME.to_scale(mos, (0, 10)))
    level[[3, 400]] = [0, 4]
    found = implied_range(mos, level, 5)
    assert found is not None
    # the first is on the wrong side of all four borders, the second of one
    assert found.strays == 5
    assert found.high == pytest.approx(10, abs=0.05)
    assert implied_range(mos, np.where(mos > 5, 0, 1), 5) is None
    assert implied_range(mos, np.full(1001, -1), 5) is None


def labels_file(folder: Path) -> Path:
    rows = ["image,mos,std,split,level"]
    rows += [f"{i % 99}.jpg,{i},{5 if i % 2 else ''},{'train' if i < 80 else 'test'}," for i in range(101)]
    path = folder / "set.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_numbers(tmp_path: Path) -> None:
    found = inspect(read_labels(labels_file(tmp_path), mos_range=(0, 100)).on(SCHEME))
    assert (found["rows"], found["usable"], found["duplicates"]) == (101, 101, 2)
    assert found["splits"] == {"train": 80, "test": 21}
    assert found["levels"] == {"excellent": 20, "good": 20, "fair": 20, "poor": 20, "bad": 21}
    assert found["mos"] == {"rows": 101, "min": 0.0, "max": 100.0, "mean": 50.0, "std": pytest.approx(29.15, abs=0.01)}
    assert found["std"]["rows"] == 50
    assert found["std"]["mean"] == pytest.approx(5.0)
    # five equal steps of a uniform MOS: the correlation of a staircase with its ramp, sqrt(1 - 1/25)
    assert found["conversion"]["hard"]["plcc"] == pytest.approx(np.sqrt(1 - 1 / 25), abs=2e-3)
    assert found["conversion"]["soft"]["plcc"] > found["conversion"]["hard"]["plcc"]
    assert found["own_levels"] is None


def test_level_words_that_nobody_taught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.csv"
    path.write_text("image,mos,level\n" + "".join(f"{i},{i},{w}\n" for i, w in enumerate(["bad", "awful", "", "good"])))
    assert run("inspect", str(path)) == 0
    out = capsys.readouterr().out
    assert "off-vocabulary 1," in out
    assert "off-vocabulary: 1: awful" in out
    assert "agreement 50.00% of 2 rows" in out  # 3 of 0..3 is excellent
    path.write_text("image,mos,level\na,1,7\nb,2,8\n")  # a column of ours by name only
    assert inspect(read_labels(path).on(SCHEME))["own_levels"] is None


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *words])
    return int(args.run(args))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, picture = labels_file(tmp_path), tmp_path / "picture.png"
    assert run("inspect", str(path), "--mos-range", "0", "100", "--json", "--plot", str(picture)) == 0
    assert json.loads(capsys.readouterr().out)["levels"]["bad"] == 21
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert run("inspect", str(path), "--lower-is-better") == 0
    assert "101 rows, 101 usable, 2 duplicate paths" in capsys.readouterr().out
    assert run("convert", str(path), "--output", str(tmp_path / "out.parquet")) == 0
    assert len(read_labels(tmp_path / "out.parquet")) == 101


def test_too_few_rows_for_a_correlation_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,mos,std\na,1.2,0.1\nb,4.5,0.2\n")
    assert run("inspect", str(path)) == 0
    out = capsys.readouterr().out
    assert "nan" not in out and "too few rows" in out
    assert "it looks like a 1-5 scale: set mos_range [1, 5] (--mos-range 1 5)" in out


def test_convert_takes_a_list_without_mos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table that `q-align cluster` wants, from what `q-align score` takes."""
    from q_align.cluster.manifest import open_tables

    (tmp_path / "list.txt").write_text("a.png\nsub/b.mp4\n\n")
    (tmp_path / "table.csv").write_text("image,camera\na.png,x\nsub/b.mp4,y\n")
    for name in ("list.txt", "table.csv"):
        out = tmp_path / f"{name}.parquet"
        assert run("convert", str(tmp_path / name), "--output", str(out)) == 0
        assert "2 rows without MOS" in capsys.readouterr().out
        table = pq.read_table(out)
        assert table.column("path").to_pylist() == [f"{tmp_path}/a.png", f"{tmp_path}/sub/b.mp4"]
        assert table.column_names[:2] == ["id", "path"]
        assert open_tables([str(out)], None)[0].column == "path"


def test_inspect_finds_missing_media(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, photos = tmp_path / "s.csv", tmp_path / "photos"
    path.write_text("image,mos\na.png,1\nb/c.png,2\n")
    assert run("inspect", str(path)) == 0  # nothing is looked for unless asked
    (photos / "b").mkdir(parents=True)
    (photos / "a.png").touch()
    capsys.readouterr()
    assert run("inspect", str(path), "--media-root", str(photos)) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "images and videos missing: 1 of 2",
        f"  missing: {photos}/b/c.png",
    ]
    (photos / "b/c.png").touch()
    assert run("inspect", str(path), "--media-root", str(photos), "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing_media"] == 0


def test_convert_says_what_to_train_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "d.csv"
    path.write_text("file,dmos\na,1.23456789\nb,100\n")
    with caplog.at_level(logging.INFO, logger="q_align"):
        assert run("convert", str(path), "--output", str(tmp_path / "out.csv")) == 0
        assert "train on it with data.mos_range [1.23456789,100] and data.higher_is_better false" in caplog.text
        caplog.clear()
        assert run("convert", str(path), "--output", str(tmp_path / "out.csv"), "--no-lower-is-better") == 0
    assert caplog.messages[-1].endswith("[1.23456789,100]")


def test_convert_keeps_its_input_and_says_where_media_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a" / "d.csv"
    path.parent.mkdir()
    path.write_text("file,mos\nx.png,1\ny.png,3\n")
    with pytest.raises(ConfigError, match="is the file to convert"):
        run("convert", str(path), "--output", str(tmp_path / "a" / ".." / "a" / "d.csv"))
    assert path.read_text().startswith("file,mos\n")
    with caplog.at_level(logging.INFO, logger="q_align"):
        assert run("convert", str(path), "--output", str(tmp_path / "a" / "b.csv")) == 0
        assert "paths are written" not in caplog.text
        assert run("convert", str(path), "--output", str(tmp_path / "b.csv")) == 0
    assert f"read them with --media-root (data.media_root) {path.parent}" in caplog.text


def test_inspect_warns_where_training_would_find_no_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for rows, warned in (("a,1,training\nb,2,testing\n", True), ("a,1,Train\nb,2,Train\n", False)):
        caplog.clear()
        (tmp_path / "s.csv").write_text(f"image,mos,split\n{rows}")
        assert run("inspect", str(tmp_path / "s.csv")) == 0
        assert ("s: no row is called 'train' in column split" in caplog.text) == warned


def test_command_lists_what_was_found_in_published_files(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", str(shared / "data/labels/q_align/train_kadid.json")) == 0
    out = capsys.readouterr().out
    assert "repaired 2, off-vocabulary 18, without score 0" in out
    assert "off-vocabulary: kadid10k/I65_22_01.png: pristine" in out
    assert "they imply a range 1.05333..4.88667, with agreement 99.95%" in out
