"""One run, on the real (tiny) nano: what it leaves behind, and what going on after a stop changes: nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from trained import run

from q_align.models.backbone import Backbone
from q_align.types import Turn


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_run_leaves_a_model(settle, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = run(settle(**{"train.report_to": ["tensorboard"]}))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "shards" not in shown.err and "Loading weights" not in shown.err and "Warning" not in shown.err
    assert {p.name for p in output.iterdir()} == {
        *("checkpoints", "tensorboard", "config.yaml", "split.csv", "log_history.json"),
        *("README.md", "config.json", "model.safetensors", "q_align.json", "tokenizer.json"),
        ".lock",
    }
    assert list((output / "tensorboard").iterdir())
    assert yaml.safe_load((output / "config.yaml").read_text())["train"]["epochs"] == 2
    history = json.loads((output / "log_history.json").read_text())
    training = [line for line in history if "loss" in line]
    assert len(training) == 12
    assert all(line["items_per_s"] > 0 and line["tokens_per_s"] > 0 for line in training)
    assert all(0 <= line["data_wait"] <= 1 and line["memory_gb"] > 0 for line in training)
    evaluated = [line for line in history if "eval_srcc" in line]
    assert [line["step"] for line in evaluated] == [3, 6, 9, 12]
    assert all(line["eval_n"] == 6 and line["eval_failed"] == 0 for line in evaluated)
    assert evaluated[0]["eval_noise_srcc"] == evaluated[0]["eval_srcc"]
    card = json.loads((output / "q_align.json").read_text())
    assert card["base"] == str(tiny)
    assert card["trained_on"][-1] == {
        "source": "noise",
        "task": "iqa",
        "rows": 18,
        "mos_range": [1.0, 5.0],
        "higher_is_better": True,
    }
    backbone = Backbone.from_pretrained(output)
    turn = Turn([Image.new("RGB", (24, 24))], backbone.card.question("iqa"), backbone.card.stem("iqa"))
    with torch.inference_mode():
        found = backbone.readout.read(backbone.model, backbone.encoder([turn]))
    assert found.level_logp.isfinite().all()


def test_every_trainable_parameter_moves(settle, make_set, tiny: Path, tmp_path: Path) -> None:
    # larger than one tile: where a tile lies matters only when there are several
    large = make_set(tmp_path / "large", count=12, side=100)
    output = run(settle(**{"data.train": large, "train.max_steps": 2, "train.eval_every": 9}))
    before, after = weights(tiny), weights(output)
    # rows of the embedding that no prompt uses stay; every tensor as a whole moves
    assert [name for name in before if "num_batches" not in name and torch.equal(before[name], after[name])] == []


def test_the_best_checkpoint_is_published(settle) -> None:
    output = run(settle())
    history = json.loads((output / "log_history.json").read_text())
    scores = {line["step"]: line["eval_srcc"] for line in history if "eval_srcc" in line}
    best = max(scores, key=lambda step: (scores[step], step))
    assert_equal(output, output / "checkpoints" / f"checkpoint-{best}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path, rated: Path) -> Path:
    """An uninterrupted run, with all its checkpoints."""
    from q_align.config.resolve import resolve_config

    settings = {
        "model.path": tiny,
        "data.train": rated,
        "data.mos_range": [1, 5],
        "train.output_dir": tmp_path_factory.mktemp("whole"),
        "train.epochs": 2,
        "train.batch_size": 3,
        "train.lr": 1e-3,
        "train.eval_every": 0.34,
        "train.keep": 9,
        "train.workers": 0,
        "train.report_to": [],
    }
    shutil.rmtree(settings["train.output_dir"])
    return run(resolve_config([], [word for key, value in settings.items() for word in (f"--{key}", str(value))]))


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (6, 0), (10, 0), (8, 2)])
def test_resuming_changes_nothing(settle, whole: Path, tmp_path: Path, step: int, workers: int) -> None:
    folder = tmp_path / "run"
    for number in range(2, step + 1, 2):
        name = f"checkpoints/checkpoint-{number}"
        shutil.copytree(whole / name, folder / name)
    # what a kill in the middle of a save leaves: resume must not take it
    half = folder / "checkpoints" / ".partial" / "checkpoint-12"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    output = run(settle(**{"train.resume": True, "train.eval_every": 0.34, "train.workers": workers}))
    for name in ("checkpoint-10", "checkpoint-12"):
        assert_equal(output / "checkpoints" / name, whole / "checkpoints" / name)
    assert_equal(output, whole)


def test_a_finished_run_resumes_to_itself(settle, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    output = run(settle(**{"train.resume": True, "train.eval_every": 0.34}))
    assert_equal(output, whole)


def test_frozen_parts_stay_and_others_move(settle, tiny: Path) -> None:
    output = run(settle(**{"model.freeze": ["vision"], "train.max_steps": 3, "train.eval_every": 9}))
    before, after = weights(tiny), weights(output)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith("vision.") for name in moved)


@pytest.mark.parametrize("parts", [True, ["language"]])
def test_recomputing_gives_the_same_weights(settle, tmp_path: Path, parts: object) -> None:
    changes = {"train.max_steps": 3, "train.eval_every": 9}
    plain = run(settle(**changes, **{"train.output_dir": tmp_path / "plain"}))
    saving = run(settle(**changes, **{"train.output_dir": tmp_path / "saving", "train.checkpointing": parts}))
    ours, theirs = weights(plain), weights(saving)
    assert max((ours[n].double() - theirs[n].double()).abs().max().item() for n in ours) < 1e-6


def test_accumulated_steps_equal_one_large_step(settle, tmp_path: Path) -> None:
    changes = {"train.epochs": 1, "train.eval_every": 1, "model.freeze": ["vision"]}
    large = run(settle(**changes, **{"train.batch_size": 6, "train.output_dir": tmp_path / "large"}))
    small = run(settle(**changes, **{"train.accumulate": 2, "train.output_dir": tmp_path / "small"}))
    ours, theirs = weights(large), weights(small)
    assert max((ours[n].double() - theirs[n].double()).abs().max().item() for n in ours) < 1e-5
