"""Runs that meet in one output: the lock comes first, and a refused run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from q_align.errors import ConfigError
from q_align.models.backbone import Backbone
from q_align.score.output_table import drop_failed_rows, read_rows
from q_align.score.score_files import ScoringJob, score_table
from q_align.score.write_lock import lock_output

KINDS = ["s.jsonl", "s.csv", "s.parquet", "folder"]


@pytest.fixture(scope="module")
def model(nano: Backbone, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    nano.save(folder)
    return str(folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def refusal(job: ScoringJob, other: Callable[[], object]) -> str:
    """Why another run is refused that starts while a job is under way; "" where it is not."""
    reasons = [""]

    def meet(before: int) -> None:
        try:
            other()
        except ConfigError as error:
            reasons.append(str(error))

    score_table(job, on_resume=meet)
    return reasons[-1]


def note(path: Path) -> dict:
    place = path / "_run.json" if path.is_dir() else path.with_name(f".{path.name}_run.json")
    return json.loads(place.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_run_leaves_the_note_as_it_is(model: str, images: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / kind
    first = ScoringJob([str(images)], out, model, scale="percent", shards={"shard_rows": 100})
    second = ScoringJob([str(images)], out, model, scale="level", resume=True)
    assert "another process is writing" in refusal(first, lambda: score_table(second))
    assert note(out)["scale"] == "percent"
    with pytest.raises(ConfigError, match="was scored with scale 'percent', not 'level'"):
        score_table(second)


def test_the_note_of_a_run_without_rows_binds_nobody(model: str, images: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(count: int) -> None:
        raise StopError

    out = tmp_path / "s.jsonl"
    with pytest.raises(StopError):
        score_table(ScoringJob([str(images)], out, model, scale="percent"), on_resume=stop)
    score_table(ScoringJob([str(images)], out, model))
    assert note(out)["scale"] == "level"


@pytest.mark.parametrize("kind", KINDS)
def test_failed_rows_are_not_dropped_while_another_run_writes(
    model: str, images: Path, tmp_path: Path, kind: str
) -> None:
    (images / "0.png").write_bytes(b"broken")
    out = tmp_path / kind
    score_table(ScoringJob([str(images / "0.png")], out, model))
    job = ScoringJob([str(images)], out, model, resume=True)
    for other in (
        lambda: score_table(ScoringJob([str(images)], out, model, resume=True, retry=True)),
        lambda: drop_failed_rows(out),
    ):
        assert "another process is writing" in refusal(job, other)
        assert sum(bool(row["error"]) for row in read_rows(out)) == 1
    assert drop_failed_rows(out) == 1, "once nobody writes"


def test_a_plain_run_and_parts_do_not_share_a_folder(model: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder"

    def job(part: int, parts: int) -> ScoringJob:
        return ScoringJob([str(images)], out, model, resume=True, part=(part, parts))

    for ours, theirs in (((0, 1), (0, 2)), ((0, 2), (0, 1)), ((0, 2), (2, 3))):
        assert "another process is writing" in refusal(job(*ours), lambda theirs=theirs: score_table(job(*theirs)))
    score_table(job(1, 2))
    ids = [row["id"] for row in read_rows(out)]
    assert len(ids) == len(set(ids)) == len(list(images.iterdir()))


def test_parts_of_one_run_share_a_folder(tmp_path: Path) -> None:
    starter = lock_output(tmp_path, folder=True, part=None, parts=2)
    parts = [lock_output(tmp_path, folder=True, part=part, parts=2) for part in (0, 1)]
    assert starter.alone and not parts[0].alone
    for part, number in ((0, 1), (0, 2), (1, 3), (None, 2)):
        with pytest.raises(ConfigError, match="another process is writing"):
            lock_output(tmp_path, folder=True, part=part, parts=number)
    for lock in (starter, *parts):
        lock.release()
    lock_output(tmp_path, folder=True).release()
    assert not tmp_path.exists(), "an output without a file leaves nothing"


def test_parts_of_one_run_agree_on_its_settings(model: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "folder"
    first = ScoringJob([str(images)], out, model, part=(0, 2), shards={"shard_rows": 100})
    other = ScoringJob([str(images)], out, model, part=(1, 2), scale="percent")
    assert "was scored with scale 'level', not 'percent'" in refusal(first, lambda: score_table(other))


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from q_align.score.write_lock import lock_output; "
        "lock = lock_output(sys.argv[1], folder=True); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(ConfigError, match="another process"):
            lock_output(tmp_path, folder=True)
        holder.kill()
    lock_output(tmp_path, folder=True).release()


@pytest.mark.parametrize("kind", KINDS)
def test_other_weights_behind_a_path_are_noticed(model: str, images: Path, tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    job = ScoringJob([str(images)], tmp_path / kind, str(mine), resume=True)
    score_table(job)
    shutil.rmtree(mine)
    shutil.copytree(model, mine)  # other times of change, the same weights
    score_table(job)
    weights = load_file(mine / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, mine / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="scored with other weights"):
        score_table(job)


def test_another_root_is_noticed(model: str, images: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("0.png\n")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(images / "1.png", other / "0.png")
    job = ScoringJob([str(tmp_path / "list.txt")], tmp_path / "s.csv", model, root=str(images), resume=True)
    score_table(job)
    score_table(replace(job, root=f"{images}/../images"))
    with pytest.raises(ConfigError, match="was scored with root"):
        score_table(replace(job, root=str(other)))


def test_equal_names_of_two_lists_are_two_items(model: str, images: Path, tmp_path: Path) -> None:
    lists = []
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        shutil.copy(images / f"{number}.png", tmp_path / name / "1.png")
        (tmp_path / name / "list.csv").write_text("path,task\n1.png,iqa\n1.png,iaa\n1.png,iaa\n")
        lists.append(str(tmp_path / name / "list.csv"))
    job = ScoringJob(lists, tmp_path / "s.jsonl", model, resume=True)
    assert score_table(job).duplicates == 2
    assert score_table(job).n == 4, "resumed: nothing is scored again"
    rows = [(row["id"], row["task"]) for row in read_rows(tmp_path / "s.jsonl")]
    second = str(tmp_path / "b" / "1.png")
    assert rows == [("1.png", "iqa"), ("1.png", "iaa"), (second, "iqa"), (second, "iaa")]
    values = [row["value"] for row in read_rows(tmp_path / "s.jsonl")]
    assert values[0] != values[2]


def test_a_terminated_starter_ends_its_processes(model: str, images: Path, tmp_path: Path) -> None:
    """The processes wait for a FIFO that nobody writes to; their starter gets SIGTERM."""
    os.mkfifo(tmp_path / "names.txt")
    words = [str(tmp_path / "names.txt"), "--output", str(tmp_path / "out"), "--model", model]
    code = "import sys; from q_align.score.multi_device import run_parts; run_parts(sys.argv[1:], ['cpu', 'cpu'])"
    with subprocess.Popen([sys.executable, "-c", code, *words]) as starter:
        try:
            children: list[int] = []
            until = time.monotonic() + 60
            while len(children) < 2 and time.monotonic() < until:
                listed = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text()
                children = [int(word) for word in listed.split()]
                time.sleep(0.05)
            assert len(children) == 2
            starter.terminate()
            assert starter.wait(60) == 128 + signal.SIGTERM
            assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        finally:
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            starter.kill()
