"""What goes wrong in a run: it says so in one line, and what was reached is kept."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trained import run
from transformers import TrainerCallback

from q_align.data import rated_dataset
from q_align.errors import CheckpointError, ConfigError, LabelError, MediaError, QAlignError, TrainingError
from q_align.score.write_lock import lock_output
from q_align.train.broken_items import BrokenItems
from q_align.train.checkpoints import is_disk_full, last_checkpoint, list_checkpoints
from q_align.train.nonfinite import LAG, LossCheck
from q_align.train.run import run as train
from q_align.train.run_result import TerminatedError
from q_align.train.terminate import StopOnTerminate
from q_align.types import Sample


def says(error: pytest.ExceptionInfo[QAlignError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert [str(part) for part in parts if str(part) not in text] == [], text


def labels(folder: Path, *rows: str, head: str = "image,mos,split") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def sample(index: int) -> Sample:
    return Sample(media="", task="iqa", source="set", mos=3, id=f"item {index}")


def test_missing_media_are_named(settle, tmp_path: Path) -> None:
    bad = labels(tmp_path, "gone.png,3,train", "lost.png,2,train", "away.png,4,val")
    with pytest.raises(MediaError) as error:
        run(settle(**{"data.train": bad}))
    says(error, tmp_path / "gone.png", "2 of 2", "data.media_root")
    assert not (tmp_path / "run").exists()


def test_an_empty_split_is_refused(settle, rated: Path, tmp_path: Path) -> None:
    bad = labels(tmp_path, "a.png,3,val", "b.png,2,test")
    with pytest.raises(LabelError) as error:
        run(settle(**{"data.train": bad}))
    says(error, "train", "empty", "test")


def test_one_content_cannot_be_held_out(settle, rated: Path, tmp_path: Path) -> None:
    for name in ("000.png", "001.png"):
        shutil.copy(rated.parent / name, tmp_path)
    bad = labels(tmp_path, "000.png,3,a", "001.png,2,a", head="image,mos,content")
    with pytest.raises(LabelError) as error:
        run(settle(**{"data.train": bad}))
    says(error, "one content", "data.val_share")


def test_few_validation_items_are_warned_of(settle, messages) -> None:
    run(settle(**{"train.max_steps": 1}))
    assert any("only 6 validation items: too few to select a checkpoint by SRCC" in line for line in messages())


def test_two_sets_of_one_name_are_refused(settle, rated: Path) -> None:
    both = json.dumps([{"labels": str(rated)}, {"labels": str(rated)}])
    with pytest.raises(ConfigError) as error:
        run(settle(**{"data.train": "null", "data.mos_range": "null", "data.sets": both}))
    says(error, "noise", "data.sets[].source")


def test_a_folder_with_another_run_is_refused(settle, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("train: {}\n")
    with pytest.raises(ConfigError) as error:
        run(settle())
    says(error, tmp_path / "run", "holds another run", "--train.resume true")


def test_an_output_that_is_a_file_is_refused(settle, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ConfigError) as error:
        run(settle())
    says(error, tmp_path / "run", "is a file")


def test_a_run_needs_a_folder(settle) -> None:
    with pytest.raises(ConfigError) as error:
        run(settle(**{"train.output_dir": ""}))
    says(error, "train.output_dir")


def test_a_model_folder_without_a_card_is_refused(settle, tiny: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(tiny, tmp_path / "bare")
    (bare / "q_align.json").unlink()
    with pytest.raises(CheckpointError) as error:
        run(settle(**{"model.path": bare}))
    says(error, bare, "q_align.json")


def test_freezing_everything_is_refused(settle) -> None:
    with pytest.raises(ConfigError) as error:
        run(settle(**{"model.freeze": ["vision", "connector", "language"]}))
    says(error, "leaves nothing to train")


def test_nan_stops_the_run_and_names_the_media(settle, tmp_path: Path) -> None:
    with pytest.raises(QAlignError) as error:
        run(settle(**{"train.lr": 1e30, "train.warmup": 0}))
    (record,) = (tmp_path / "run" / "checkpoints").glob("not_finite_*.json")
    found = json.loads(record.read_text())
    assert found["step"] == 1
    ids = [name for _, name in found["media"]]
    assert len(set(ids)) == 3 and set(ids) <= {f"{i:03d}.png" for i in range(24)}
    says(error, "not finite", "step 1", *ids, record, "train.lr")
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


@pytest.fixture
def damaged(rated: Path, tmp_path: Path) -> Path:
    """The rated set with two unreadable media: one of each split."""
    folder = shutil.copytree(rated.parent, tmp_path / "noise")
    (folder / "002.png").write_bytes(b"not a picture")
    (folder / "005.png").write_bytes((folder / "005.png").read_bytes()[:60])
    return folder / "labels.csv"


def test_broken_media_stop_the_run(settle, damaged: Path) -> None:
    with pytest.raises(MediaError) as error:
        run(settle(**{"data.train": damaged}))
    says(error, "unreadable", "train.max_bad_media")


@pytest.mark.parametrize("batch", [1, 3])
def test_broken_media_up_to_a_limit_are_skipped_and_listed(settle, damaged: Path, batch: int) -> None:
    changes = {"data.train": damaged, "train.epochs": 1, "train.max_bad_media": 2, "train.batch_size": batch}
    output = run(settle(**changes))
    listed = json.loads((output / "broken_media.json").read_text())
    assert [Path(line.split(":")[0]).name for line in listed] == ["002.png", "005.png"]
    evaluated = [line for line in json.loads((output / "log_history.json").read_text()) if "eval_n" in line]
    assert {(line["eval_n"], line["eval_failed"]) for line in evaluated} == {(5, 1)}


@pytest.mark.parametrize("limit", [0, 1])
def test_one_more_than_the_limit_stops_the_run(settle, damaged: Path, limit: int) -> None:
    """Two items are broken: a limit of two lets them pass (below), a lower one does not."""
    with pytest.raises(MediaError) as error:
        run(settle(**{"data.train": damaged, "train.max_bad_media": limit}))
    says(error, f"{limit + 1} unreadable items ({limit} allowed by train.max_bad_media)")


def test_broken_items_survive_a_resume(settle, damaged: Path, tmp_path: Path) -> None:
    """002.png broke before the stop and was repaired since, 004.png after it: both are listed, both count."""
    changes = {"data.train": damaged, "train.max_bad_media": 3}
    whole = run(settle(**changes, **{"train.output_dir": tmp_path / "whole"}))
    shutil.copytree(whole / "checkpoints" / "checkpoint-6", tmp_path / "run" / "checkpoints" / "checkpoint-6")
    shutil.copy(damaged.parent / "000.png", damaged.parent / "002.png")
    (damaged.parent / "004.png").write_bytes(b"not an image")
    resumed = run(settle(**changes, **{"train.resume": True}))
    listed = json.loads((resumed / "broken_media.json").read_text())
    assert [Path(line.split(":")[0]).name for line in listed] == ["002.png", "004.png", "005.png"]
    assert not list(resumed.glob("trainer_state*")), "what serves resuming only is not published"
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(whole / "checkpoints" / "checkpoint-6", tmp_path / "run" / "checkpoints" / "checkpoint-6")
    with pytest.raises(MediaError, match=r"3 unreadable items \(2 allowed"):
        run(settle(**{**changes, "train.max_bad_media": 2, "train.resume": True}))


def test_the_limit_on_broken_items_counts_over_all_processes() -> None:
    one, two = BrokenItems(2), BrokenItems(2)
    one.add(["a", "b"])
    two.add(["b", "c"])
    for items in (one, two):
        with pytest.raises(MediaError, match=r"3 unreadable items \(2 allowed by train.max_bad_media\): .*c"):
            items.share(lambda mine: ["a", "b", "b", "c"])


def test_a_broken_item_changes_no_loss(nano, rated: Path, tmp_path: Path) -> None:
    """What its MOS is does not matter, and a batch of nothing else has loss 0."""
    from transformers import TrainingArguments

    from q_align.data.epoch_sampler import EpochSampler
    from q_align.data.label_files import read_labels
    from q_align.data.rated_dataset import Collator, RatedDataset
    from q_align.losses import get_loss
    from q_align.train.trainer import Options, RatingTrainer

    card = nano.card
    data = RatedDataset([read_labels(rated, mos_range=(1, 5))], card, nano.encoder.opens)
    rows = [data[i] for i in range(3)]
    rows[1].error = "broken"
    batch = Collator(nano.readout)(rows)
    assert batch["usable"].tolist() == [True, False, True]
    trainer = RatingTrainer(
        nano,
        TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
        train_set=data,
        eval_set=data,
        loss=get_loss("hard"),
        sampler=EpochSampler(len(data), seed=0),
        options=Options(max_bad_media=1),
    )
    with torch.no_grad():
        loss = trainer.compute_loss(nano.model, batch)
        prediction, _ = trainer.forward(nano.model, batch)
        good = batch["usable"]
        assert loss == prediction.nll[good].sum() / prediction.tokens[good].sum()
        batch["usable"][:] = False
        assert trainer.compute_loss(nano.model, batch) == 0


def test_an_accelerator_is_checked_behind_and_in_any_case_before_a_checkpoint(tmp_path: Path) -> None:
    """The `meta` device stands for one: a loss there may not be read when it is added."""
    check = LossCheck(tmp_path / "not_finite.json")
    for step in range(LAG):
        check.add(step, {"hard": torch.empty((), device="meta")}, torch.tensor([step]), sample)
    assert len(check.waiting) == LAG
    check.waiting.clear()
    for step, loss in enumerate([1.0, float("nan"), 1.0]):
        check.waiting.append((step, {"hard": torch.tensor(loss)}, torch.tensor([step]), sample))
    check.check(lag=2)
    with pytest.raises(TrainingError, match=r"step 1: the loss is not finite \(hard nan\) on item 1 "):
        check.check()


def test_sigterm_saves_and_a_resumed_run_ends_the_same(settle, tmp_path: Path, monkeypatch, messages) -> None:
    whole = run(settle(**{"train.output_dir": tmp_path / "whole"}))
    real, opened = rated_dataset.open_frames, iter(range(10**6))

    def open_frames(*args: object, **kwargs: object) -> object:
        if next(opened) == 30:  # in the second epoch, in the middle of a step's batch
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(rated_dataset, "open_frames", open_frames)
    with pytest.raises(TerminatedError) as error:
        run(settle())
    says(error, "SIGTERM", "--train.resume true")
    checkpoint = last_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert not (tmp_path / "run" / "q_align.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    output = run(settle(**{"train.resume": True, "train.log_every": 3}))
    changed = [line for line in messages() if "another setting" in line]
    assert changed == ["resuming with another setting: train.log_every was 1, is 3"]
    ours, theirs = load_file(output / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_sigterm_to_all_processes_of_a_run_saves(settle, tmp_path: Path) -> None:
    """As schedulers send it: the loader's workers stay until the checkpoint is written, then end with the run."""
    config = settle(**{"train.workers": 2, "train.epochs": 500, "train.eval_every": 500})
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    command = [sys.executable, "-m", "q_align", "train", "--config", str(tmp_path / "config.yaml")]
    with (tmp_path / "errors").open("w") as errors:
        child = subprocess.Popen(command, stderr=errors, stdout=errors, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(workers_of(child.pid)) < 2:
        assert time.monotonic() < deadline and child.poll() is None, (tmp_path / "errors").read_text()
        time.sleep(0.2)
    time.sleep(1)  # the workers start
    os.killpg(child.pid, signal.SIGTERM)
    assert child.wait(timeout=60) == 128 + signal.SIGTERM, (tmp_path / "errors").read_text()
    assert "checkpoint saved" in (tmp_path / "errors").read_text()
    assert last_checkpoint(tmp_path / "run" / "checkpoints") is not None
    assert workers_of(child.pid) == []


def workers_of(pid: int) -> list[int]:
    """Processes of the session that a process leads, without itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and int(path.parent.name) != pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


class Hangs(torch.utils.data.Dataset):
    """Its second item hangs in a C library, as a decoder may."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index == 1:
            ctypes.CDLL(None).sleep(60)
        return index


def test_a_worker_that_hangs_can_be_ended_by_its_trainer_alone(tmp_path: Path) -> None:
    stop = StopOnTerminate()
    stop.on_train_begin(None, None, None)
    try:
        loader = iter(torch.utils.data.DataLoader(Hangs(), num_workers=1))
        assert next(loader) == 0
        (worker,) = loader._workers
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        worker.join(0.5)
        assert worker.is_alive()
        worker.terminate()
        worker.join(10)
        assert not worker.is_alive()
    finally:
        stop.close()


@pytest.mark.parametrize("kept", [False, True])
def test_a_full_disk_keeps_the_last_checkpoint(settle, tmp_path: Path, monkeypatch, kept: bool) -> None:
    from q_align.train.trainer import RatingTrainer

    # a limit on the size of files stands for a disk that is full: the same error on the same write
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = RatingTrainer._save

    def tight(self: RatingTrainer, *args: object, **kwargs: object) -> None:
        if self.state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        real(self, *args, **kwargs)

    monkeypatch.setattr(RatingTrainer, "_save", tight)

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    if kept:  # the log does not fit either: the error is still the one about the checkpoint
        monkeypatch.setattr("q_align.train.run_result.write_atomically", full)
    try:
        with pytest.raises(QAlignError) as error:
            run(settle())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says(error, "disk full", "step 6", "last complete checkpoint: checkpoint-3", "--train.resume true")
    assert [p.name for p in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["checkpoint-3"]
    assert list((tmp_path / "run" / "checkpoints" / ".partial").iterdir()) == []


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_do_not_share_a_folder(settle, tmp_path: Path, monkeypatch, resume: bool) -> None:
    monkeypatch.setattr("q_align.train.run_dir.LOCK_SECONDS", 0.0)
    config = settle(**{"train.resume": resume})
    lock = lock_output(tmp_path / "run", folder=True)
    try:
        with pytest.raises(ConfigError) as error:
            run(config)
        says(error, tmp_path / "run", "another process is writing there")
    finally:
        lock.release()
    assert not (tmp_path / "run").exists(), "the refused run wrote nothing"


def test_a_run_locks_its_folder_to_its_end(settle, tmp_path: Path) -> None:
    class Other(TrainerCallback):
        refused = 0

        def on_step_end(self, *_: object, **__: object) -> None:
            with pytest.raises(ConfigError, match="another process is writing there"):
                lock_output(tmp_path / "run", folder=True)
            self.refused += 1

    other = Other()
    train(settle(**{"train.epochs": 1}), callbacks=[other])
    assert other.refused == 6
    lock_output(tmp_path / "run", folder=True).release()


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_an_optimizer_state_that_does_not_fit_is_a_full_disk(tmp_path: Path, size: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(Exception) as error:
            torch.save({"state": torch.zeros(1_000_000)}, tmp_path / "optimizer.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_disk_full(error.value), str(error.value)
    assert is_disk_full(RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3582464 vs 3582356"))
    assert not is_disk_full(RuntimeError("shapes differ"))
