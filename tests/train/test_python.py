"""The run as a function: what it returns, callbacks, early stopping, opened labels, and no side effects."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from transformers import TrainerCallback

import q_align.train
from q_align.config.resolve import resolve_config
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError
from q_align.train.run import run


def test_the_result_is_that_of_the_model_in_the_folder(settle, tmp_path: Path) -> None:
    result = run(settle())
    assert result.folder == tmp_path / "run"
    logged = json.loads((result.folder / "log_history.json").read_text())
    assert [line.get("eval_srcc") for line in result.history] == [line.get("eval_srcc") for line in logged]
    evaluated = {line["step"]: line for line in logged if "eval_srcc" in line}
    assert result.metrics["srcc"] == max(line["eval_srcc"] for line in evaluated.values())
    assert result.metrics["srcc"] == evaluated[result.step]["eval_srcc"]
    assert {"plcc", "loss", "n", "failed", "noise_srcc"} <= result.metrics.keys()


def test_callbacks_are_called(settle) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 2

    result = run(settle(), callbacks=[Stop()])
    assert (result.step, result.metrics["n"]) == (2, 6), "where a callback stops a run, it is evaluated and saved"


def test_a_run_without_progress_stops_and_stays_stopped(settle, messages) -> None:
    """At a learning rate of next to nothing no evaluation is better than the first."""
    changes = {"train.lr": 1e-30, "train.epochs": 5, "train.patience": 2}
    result = run(settle(**changes))
    steps = [line["step"] for line in result.history if "eval_srcc" in line]
    assert steps == [3, 6, 9]
    assert any("no better SRCC in 2 evaluations (train.patience)" in line for line in messages())
    again = run(settle(**changes, **{"train.resume": True}))
    assert [line["step"] for line in again.history if "eval_srcc" in line] == steps
    assert (again.folder / "q_align.json").is_file()
    more = run(settle(**{**changes, "train.patience": 3, "train.resume": True}))
    assert [line["step"] for line in more.history if "eval_srcc" in line] == [*steps, 12]


def test_patience_wants_validation_rows(settle, rated: Path, tmp_path: Path) -> None:
    text = rated.read_text().replace(",val", ",train").replace(".png", ".png").splitlines()
    (tmp_path / "all.csv").write_text("\n".join(text))
    changes = {"data.train": tmp_path / "all.csv", "data.media_root": rated.parent, "data.val_share": 0}
    with pytest.raises(ConfigError, match=r"train.patience needs validation rows"):
        run(settle(**changes, **{"train.patience": 1}))


def test_opened_labels_in_place_of_files(settle, rated: Path, tmp_path: Path) -> None:
    files = run(settle(**{"train.output_dir": tmp_path / "files"}))
    labels = read_labels(rated, mos_range=(1, 5))
    config = settle(**{"data.train": "null", "data.mos_range": "null"})
    opened = run(config, data=[labels])
    assert opened.metrics["srcc"] == files.metrics["srcc"]
    assert [line.get("loss") for line in opened.history] == [line.get("loss") for line in files.history]
    written = resolve_config([opened.folder / "config.yaml"])
    assert [entry.source for entry in written.data.sets] == ["noise"]
    with pytest.raises(ConfigError, match=r"both opened and as data.train"):
        run(settle(**{"train.output_dir": tmp_path / "both"}), data=[labels])


def test_training_leaves_the_allocator_to_the_command_line() -> None:
    for path in Path(q_align.train.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.endswith(("memory", "allocator")) for name in names), path
