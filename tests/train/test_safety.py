"""What goes wrong in a run: it says so in one line, and what was reached is kept."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from q_align.data import rated_dataset
from q_align.errors import CheckpointError, ConfigError, LabelError, MediaError, QAlignError
from q_align.train.checkpoints import complete, last
from q_align.train.run import run
from q_align.train.terminate import TerminatedError


def says(error: pytest.ExceptionInfo[QAlignError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert [str(part) for part in parts if str(part) not in text] == [], text


def labels(folder: Path, *rows: str, head: str = "image,mos,split") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


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


def test_a_handful_of_held_out_media_is_warned_of(settle, monkeypatch, caplog) -> None:
    monkeypatch.setattr(logging.getLogger("q_align"), "propagate", True)
    run(settle(**{"train.max_steps": 1}))
    assert "6 held-out media are too few to choose a checkpoint by" in caplog.text


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
    says(error, "not finite", "step 1", "000.png" if "000.png" in str(error.value) else ".png", "train.lr")
    (record,) = (tmp_path / "run" / "checkpoints").glob("not_finite_*.json")
    found = json.loads(record.read_text())
    assert found["step"] == 1
    assert len(found["media"]) == 3
    assert complete(tmp_path / "run" / "checkpoints") == []


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


def test_a_broken_medium_teaches_nothing(nano, rated: Path) -> None:
    """Its row changes no loss: what its MOS is does not matter, and a batch of nothing else has loss 0."""
    from types import SimpleNamespace

    from q_align.data.label_files import read_labels
    from q_align.data.rated_dataset import Collator, RatedDataset
    from q_align.losses import get_loss
    from q_align.train.trainer import RatingTrainer

    card = nano.card
    data = RatedDataset([read_labels(rated, mos_range=(1, 5))], card, nano.encoder.opens)
    rows = [data[i] for i in range(3)]
    rows[1].error = "broken"
    batch = Collator(nano.readout)(rows)
    assert batch["usable"].tolist() == [True, False, True]
    trainer = SimpleNamespace(
        note_broken=lambda reasons: None,
        forward=lambda model, inputs: RatingTrainer.forward(trainer, model, inputs),
        backbone=nano,
        loss=get_loss("hard"),
        terms={},
    )
    with torch.no_grad():
        loss = RatingTrainer.compute_loss(trainer, nano.model, batch)
        prediction, _ = RatingTrainer.forward(trainer, nano.model, batch)
        good = batch["usable"]
        assert loss == prediction.nll[good].sum() / prediction.tokens[good].sum()
        batch["usable"][:] = False
        assert RatingTrainer.compute_loss(trainer, nano.model, batch) == 0


def test_sigterm_saves_and_a_resumed_run_ends_the_same(settle, tmp_path: Path, monkeypatch, caplog) -> None:
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
    checkpoint = last(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    assert not (tmp_path / "run" / "q_align.json").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    caplog.set_level("INFO", "q_align")
    monkeypatch.setattr(logging.getLogger("q_align"), "propagate", True)
    output = run(settle(**{"train.resume": True, "train.log_every": 3}))
    changed = list(dict.fromkeys(m for m in caplog.messages if "another setting" in m))
    assert changed == ["resuming with another setting: train.log_every was 1, is 3"]
    ours, theirs = load_file(output / "model.safetensors"), load_file(whole / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


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
        monkeypatch.setattr("q_align.train.run.write", lambda p, t: full(p, t) if p.suffix == ".json" else None)
    try:
        with pytest.raises(QAlignError) as error:
            run(settle())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says(error, "no room", "step 6", "checkpoint-3 is kept", "--train.resume true")
    assert [p.name for p in complete(tmp_path / "run" / "checkpoints")] == ["checkpoint-3"]
    assert list((tmp_path / "run" / "checkpoints" / ".partial").iterdir()) == []
