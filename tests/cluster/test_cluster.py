"""A cluster run gives the table that one machine gives, and loses nothing with a killed actor or a killed run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from q_align.cluster.manifest import open_tables, read_unit, work_units
from q_align.cluster.ray_job import ClusterJob, run_job
from q_align.cluster.stages import ScoreStage, decode_unit, spec_of, write_shard
from q_align.errors import CheckpointError, ConfigError, MediaError
from q_align.media import Limits
from q_align.models.backbone import Backbone
from q_align.models.card import ModelCard
from q_align.score.output_table import COLUMNS
from q_align.score.resume import ResumeState, ScoringSummary, count_rows
from q_align.score.scorer import Scorer
from q_align.score.shards import read_shards
from q_align.score.write_lock import lock_output
from q_align.types import MediaSpec

COUNT = 24


def picture(number: int) -> bytes:
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (24 + number, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model(nano: Backbone, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    nano.save(folder)
    return str(folder)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two tables of paths; one broken picture, and two duplicates over the border between them."""
    names = [f"{i}.png" for i in range(COUNT)]
    (tmp_path / "media").mkdir()
    for i, name in enumerate(names):
        (tmp_path / "media" / name).write_bytes(picture(i) if i != 5 else b"not a picture")
    folder = tmp_path / "manifest"
    folder.mkdir()
    for part, rows in enumerate((names[:14], [names[3], *names[14:], names[3]])):
        pq.write_table(pa.table({"path": rows}), folder / f"{part}.parquet", row_group_size=4)
    return folder


def left(manifest: Path, done: Sequence[str] = (), root: str | None = None) -> tuple[list[str], ScoringSummary]:
    found, summary = ResumeState(), ScoringSummary()
    for name in done:
        found.add_row({"id": name, "task": "iqa"})
    work = list(work_units(open_tables([str(manifest)], None), found, root, summary))
    return [item.id for unit in work for item in read_unit(unit, root)], summary


def test_units_hold_what_is_left_once(manifest: Path) -> None:
    ids, summary = left(manifest)
    assert ids == [f"{i}.png" for i in range(COUNT)]
    assert summary.duplicates == 2 and summary.examples == ["3.png", "3.png"]
    ids, _ = left(manifest, done=[f"{i}.png" for i in range(COUNT) if i % 3])
    assert ids == [f"{i}.png" for i in range(0, COUNT, 3)]
    assert left(manifest, done=[f"{i}.png" for i in range(COUNT)])[0] == []


def test_ids_of_pictures_inside_the_table(tmp_path: Path) -> None:
    rows = [{"bytes": picture(i), "path": f"p/{i}.png"} for i in range(5)]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"image": [picture(i) for i in range(5)], "id": list("abcde")}), tmp_path / "b.parquet")
    ids, _ = left(tmp_path)
    assert ids == [*(f"p/{i}.png" for i in range(5)), *"abcde"]
    (table, _) = open_tables([str(tmp_path)], None)
    (unit,) = work_units([table], ResumeState(), None, ScoringSummary())
    assert [item.media for item in read_unit(unit, None)] == [row["bytes"] for row in rows]


@pytest.mark.parametrize("media", ["path", "bytes", "both"])
def test_rows_without_an_id_of_their_own_are_done_once(tmp_path: Path, media: str) -> None:
    value = {"path": "a.png", "bytes": picture(1), "both": {"bytes": picture(1), "path": "a.png"}}[media]
    rows = [{"image": value, "id": None, "task": task} for task in ("iqa", "iaa")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    tables = open_tables([str(tmp_path / "t.parquet")], None)
    first = [
        item for unit in work_units(tables, ResumeState(), None, ScoringSummary()) for item in read_unit(unit, None)
    ]
    assert [item.task for item in first] == ["iqa", "iaa"], "one medium, two questions: no duplicate"
    done = ResumeState()
    for item in first:
        done.add_row({"id": item.id, "task": item.task})
    assert not list(work_units(tables, done, None, ScoringSummary()))


def test_pictures_without_any_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [picture(1), picture(2)]}), tmp_path / "t.parquet")
    tables = open_tables([str(tmp_path / "t.parquet")], None)
    assert (
        sum(len(list(read_unit(unit, None))) for unit in work_units(tables, ResumeState(), None, ScoringSummary())) == 2
    )


def test_media_are_opened_as_the_scorer_opens_them(tmp_path: Path) -> None:
    for family, opened in (("qwen3_5", None), ("nano", 1000)):  # the former's encoder scales by itself, and once
        ModelCard(family, media=MediaSpec(max_pixels=1000, max_frames=3)).save(tmp_path)
        assert spec_of(str(tmp_path)) == MediaSpec(max_pixels=opened, max_frames=3)
    (tmp_path / "q_align.json").write_text('{"family": "nano", "media": {"max_frames": 0}}')
    with pytest.raises(CheckpointError, match="invalid readout or media"):
        spec_of(str(tmp_path))


def test_mistakes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"film": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(MediaError, match="no column"):
        open_tables([str(tmp_path)], None)
    with pytest.raises(ConfigError, match=r"b\.csv: not a Parquet file or a folder of them$"):
        open_tables([str(tmp_path / "b.csv")], None)


def test_the_advice_for_a_list_works(tmp_path: Path) -> None:
    """It named a command that refuses lists without a MOS."""
    (tmp_path / "list.csv").write_text("path,id\na.png,1\nb.png,2\n")
    with pytest.raises(ConfigError, match="make one with: ") as error:
        open_tables([str(tmp_path / "list.csv")], None)
    program, _, code = str(error.value).split("make one with: ")[1].partition(" -c ")
    assert program == "python"
    subprocess.run([sys.executable, "-c", code.strip('"')], check=True)
    assert left(tmp_path / "list.parquet")[0] == ["1", "2"]


def test_the_output_is_not_among_the_tables(tmp_path: Path, model: str) -> None:
    pq.write_table(pa.table({"path": ["a.png"]}), tmp_path / "a.parquet")
    for output in (tmp_path, tmp_path / "scores"):
        with pytest.raises(ConfigError, match="is in the manifest's folder"):
            run_job(ClusterJob((str(tmp_path),), str(output), model))


def test_questions_travel_and_are_part_of_what_is_done(tmp_path: Path, model: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    rows = [{"path": name, "question": question} for name in ("a.png", "no.png") for question in ("Sharp?", "Dark?")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    tables = open_tables([str(tmp_path / "t.parquet")], None)
    state, summary = ResumeState(), ScoringSummary()
    (unit,) = work_units(tables, state, None, summary)
    assert summary.duplicates == 0, "one file under two questions"
    assert [(i.id, i.question) for i in read_unit(unit, None)] == [(row["path"], row["question"]) for row in rows]
    stage = ScoreStage(model, "auto", {"device": "cpu", "workers": 0}, (*COLUMNS, "question"))
    for table in decode_unit(unit, root=None, spec=MediaSpec(), limits=Limits()):
        write_shard(stage(table), str(tmp_path / "out"), "s")
    made = pq.read_table(tmp_path / "out").to_pylist()
    assert [(row["id"], row["question"]) for row in made] == [(row["path"], row["question"]) for row in rows]
    assert [row["error"] is None for row in made] == [True, True, False, False]
    count_rows(read_shards(tmp_path / "out"), done := ResumeState())
    assert not list(work_units(tables, done, None, ScoringSummary()))


def test_stations_without_a_cluster(manifest: Path, model: str, tmp_path: Path) -> None:
    """Decoded, carried as pixels, scored and written: the same scores as straight from the files."""
    stage = ScoreStage(model, "auto", {"device": "cpu", "workers": 0})
    root = str(tmp_path / "media")
    work = work_units(open_tables([str(manifest)], None), ResumeState(), root, ScoringSummary())
    for number, unit in enumerate(work):
        for table in decode_unit(unit, root=root, spec=MediaSpec(), limits=Limits()):
            write_shard(stage(table), str(tmp_path / "out"), f"s-{number:06d}")
    plain = Scorer.from_pretrained(model, device="cpu", workers=0)
    compare(tmp_path / "out", plain, tmp_path / "media")


def compare(out: Path, plain: Scorer, media: Path) -> None:
    got = {row["id"]: row for row in pq.read_table(sorted(out.glob("*.parquet"))).to_pylist()}
    assert sorted(got) == sorted(f"{i}.png" for i in range(COUNT))
    assert sum(1 for _ in read_shards(out)) == COUNT, "no row twice"
    for name, score in zip(got, plain.stream([media / name for name in got])):
        assert (got[name]["error"] is None) == (score.error is None) == (name != "5.png")
        if score.value is not None:
            assert got[name]["value"] == pytest.approx(score.value, abs=1e-5)
            assert got[name]["task"] == "iqa" and got[name]["level"] == score.level


def command(manifest: Path, out: Path, model: str, root: Path) -> list[str]:
    words = ["cluster", "score", str(manifest), "--output", str(out), "--model", model, "--root", str(root)]
    return [sys.executable, "-m", "q_align", *words, "--actors", "2"]


@pytest.mark.slow
def test_two_actors_give_the_same_table(manifest: Path, model: str, tmp_path: Path) -> None:
    """And a second run has nothing left to do."""
    pytest.importorskip("ray")
    words = command(manifest, tmp_path / "out", model, tmp_path / "media")
    first = subprocess.run(words, capture_output=True, text=True, check=False)
    assert first.returncode == 1 and "Traceback" not in first.stderr, first.stderr[-2000:]
    compare(tmp_path / "out", Scorer.from_pretrained(model, device="cpu", workers=0), tmp_path / "media")
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")}
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 1 and "0 units of work left" in again.stderr
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")} == shards
    words = ["score", str(manifest), "--output", str(tmp_path / "out"), "--model", model, "--resume", "--device", "cpu"]
    words += ["--root", str(tmp_path / "media")]
    alone = subprocess.run([sys.executable, "-m", "q_align", *words], capture_output=True, text=True, check=False)
    assert f"{COUNT} of these by an earlier run" in alone.stderr


@pytest.mark.slow
def test_a_killed_actor_loses_nothing(manifest: Path, model: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    words = command(manifest, tmp_path / "out", model, tmp_path / "media")
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    killed = 0
    while run.poll() is None and not killed:
        for process in psutil.Process(run.pid).children(recursive=True) if run.poll() is None else []:
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith("ray::") and "ScoreStage" in title:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
                break
        time.sleep(0.1)
    _, err = run.communicate(timeout=400)
    assert killed == 1, err[-2000:]
    assert run.returncode == 1 and "Traceback" not in err, err[-2000:]
    compare(tmp_path / "out", Scorer.from_pretrained(model, device="cpu", workers=0), tmp_path / "media")


def test_a_cluster_run_does_not_share_a_folder(manifest: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lock = lock_output(out, folder=True)
    with pytest.raises(ConfigError, match="another process is writing there"):
        run_job(ClusterJob((str(manifest),), str(out), model))
    lock.release()
    assert not out.exists(), "the refused run wrote nothing"
