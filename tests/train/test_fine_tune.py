"""fine_tune: every kind of data, names of keys, callbacks, early stopping, resume, several sets, no side effects."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image
from transformers import EarlyStoppingCallback, TrainerCallback

from q_align import Scorer, compare, evaluate, fine_tune
from q_align.cli.main import main
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError, LabelError, QAlignError
from q_align.models.backbone import read_card
from q_align.train.run_result import RunResult

QUICK: dict[str, Any] = {"batch_size": 3, "lr": 1e-3, "workers": 0, "report_to": "none", "log_every": 1}

Tune = Callable[..., RunResult]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tune(tiny: Path, rated: Path, tmp_path: Path) -> Tune:
    """fine_tune of a tiny nano on 18 training rows, one epoch of 6 steps."""

    def call(data: Any = rated, **options: Any) -> RunResult:
        options = {"output_dir": tmp_path / "run", "mos_range": (1, 5), "epochs": 1, **QUICK, **options}
        return fine_tune(options.pop("model", tiny), data, **options)

    return call


@pytest.fixture(scope="module")
def frame(rated: Path) -> pd.DataFrame:
    return pd.read_csv(rated)


def losses(run: RunResult) -> list[float]:
    return [line["loss"] for line in run.history if "loss" in line]


@pytest.mark.slow
def test_every_kind_of_data_trains_alike(tune: Tune, rated: Path, frame: pd.DataFrame, tmp_path: Path) -> None:
    import datasets

    root = rated.parent
    rows = frame.to_dict("records")
    images = [{**row, "image": Image.open(root / row["image"])} for row in rows]
    paths = frame.assign(image=[str(root / name) for name in frame["image"]])
    dataset = datasets.Dataset.from_pandas(paths).cast_column("image", datasets.Image())
    train, val = paths[paths.split == "train"], paths[paths.split == "val"]
    parts = {"train": train.drop(columns="split"), "validation": val.drop(columns="split")}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "file": (rated, {}),
        "text": (str(rated), {}),
        "Labels": (read_labels(rated, mos_range=(1, 5)), {"mos_range": None}),
        "DataFrame": (frame, {"media_root": root}),
        "dicts": (rows, {"media_root": root}),
        "PIL images": (images, {}),
        "arrow": (pa.Table.from_pandas(frame), {"media_root": root}),
        "columns": (frame.to_dict("list"), {"media_root": root}),
        "Dataset": (dataset, {}),
        "DatasetDict": (
            datasets.DatasetDict({k: datasets.Dataset.from_pandas(v, preserve_index=False) for k, v in parts.items()}),
            {},
        ),
        "eval_data": (train.drop(columns="split"), {"eval_data": val}),
        "eval file": (frame[frame.split == "train"], {"media_root": root, "eval_data": rated}),
    }
    found = {}
    for name, (data, options) in kinds.items():
        run = tune(data, output_dir=tmp_path / name.replace(" ", "_"), max_steps=1, **options)
        assert run.metrics["n"] == 6, name
        found[name] = (losses(run), run.metrics["srcc"])
    assert all(values == found["file"] for values in found.values()), found


def test_the_result(tune: Tune, frame: pd.DataFrame, rated: Path) -> None:
    run = tune(frame, media_root=rated.parent, eval_every=0.5)
    history = pd.DataFrame(run.history)
    assert run.best_metric == run.metrics["srcc"] == history["eval_srcc"].max()
    assert os.fspath(run) == str(run.folder) and not any("second" in name or "runtime" in name for name in run.metrics)
    image = Image.open(rated.parent / "000.png")
    assert run.scorer().score(image) == Scorer.from_pretrained(run.folder).score(image)
    second = tune(frame, model=run, media_root=rated.parent, output_dir=run.folder.with_name("second"), max_steps=1)
    assert [entry["source"] for entry in read_card(second.folder).trained_on] == ["data", "data"]


def test_evaluation_and_comparison_of_a_run(tune: Tune, tiny: Path, frame: pd.DataFrame, rated: Path) -> None:
    frame = frame.assign(split=["test" if i % 4 == 3 else s for i, s in enumerate(frame["split"])])
    run = tune(frame, media_root=rated.parent)
    quick: dict[str, Any] = {"media_root": rated.parent, "cache": False, "resamples": 50, "workers": 0}
    result = evaluate(run, frame[frame.split == "test"], **quick)
    assert (result["n"], result["mos_range"], result["training_rows"]) == (6, (1.0, 5.0), 0)
    assert result["srcc"] == evaluate(run.scorer(workers=0), frame, **quick)["srcc"]
    base = evaluate(tiny, frame[frame.split == "test"], mos_range=(1, 5), **quick)
    assert compare(result, base, resamples=50)["srcc"]["difference"] == pytest.approx(result["srcc"] - base["srcc"])


def test_another_table_is_not_taken_for_the_training_data(tune: Tune, frame: pd.DataFrame, rated: Path) -> None:
    """Two tables in memory have the same name, "data": neither its range nor a warning follows from that."""
    run = tune(frame, media_root=rated.parent, max_steps=1)
    quick: dict[str, Any] = {"media_root": rated.parent, "cache": False, "resamples": 50, "workers": 0}
    other = frame.drop(columns="split").assign(mos=frame["mos"] * 20)
    result = evaluate(run, other, **quick)
    assert (result["mos_range"], result["training_rows"]) == ((20.0, 100.0), 0)
    assert evaluate(run, frame.drop(columns="split"), **quick)["mos_range"] == (1.0, 5.0)
    assert evaluate(run, frame, split="all", **quick)["training_rows"] == 24


def test_names_of_transformers_mean_our_keys(tune: Tune, tmp_path: Path) -> None:
    ours = tune(output_dir=tmp_path / "ours", epochs=1, accumulate=2, warmup=0.5, schedule="linear", seed=3)
    theirs = fine_tune(
        read_config(ours)["model"]["path"],
        read_config(ours)["data"]["train"],
        output_dir=tmp_path / "theirs",
        mos_range=[1, 5],
        num_train_epochs=1,
        per_device_train_batch_size=np.int64(3),
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        warmup_ratio=0.5,
        lr_scheduler_type="linear",
        logging_steps=1,
        dataloader_num_workers=0,
        data_seed=3,
        eval_strategy="epoch",
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
    )
    assert losses(theirs) == losses(ours)
    assert _without_folder(theirs) == _without_folder(ours)


def read_config(run: RunResult) -> dict[str, Any]:
    return yaml.safe_load((run.folder / "config.yaml").read_text())


def _without_folder(run: RunResult) -> dict[str, Any]:
    config = read_config(run)
    del config["train"]["output_dir"]
    return config


def test_the_command_line_does_the_same(tune: Tune, tiny: Path, rated: Path, tmp_path: Path, capsys: Any) -> None:
    run = tune()
    keys = {"train.epochs": 1, "train.batch_size": 3, "train.lr": 1e-3, "train.workers": 0, "train.log_every": 1}
    words = [f"--{key}={value}" for key, value in keys.items()]
    words += [f"--model.path={tiny}", f"--data.train={rated}", "--data.mos_range=[1, 5]", "--train.report_to=[]"]
    capsys.readouterr()
    assert main(["train", *words, f"--train.output_dir={tmp_path / 'shell'}"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'shell'}\n"
    assert f"validation SRCC {run.metrics['srcc']:.4f} on 6 items" in printed.err
    shell = yaml.safe_load((tmp_path / "shell/config.yaml").read_text())
    shell["train"]["output_dir"] = str(run.folder)
    assert read_config(run) == shell


def test_configurations_and_sections(tune: Tune, tmp_path: Path) -> None:
    run = tune(
        config=["nano_finetune", {"train": {"lr_parts": {"vision": 1e-4}}, "data": {"flip": False}}],
        max_steps=1,
        loss="soft",
        media={"max_pixels": 4096},
        lora={"r": 2, "alpha": 4},
        precision="fp32",
    )
    config = read_config(run)
    assert config["train"]["weight_decay"] == 0.05  # of nano_finetune
    assert (config["train"]["lr"], config["train"]["lr_parts"]) == (1e-3, {"vision": 1e-4})
    assert config["loss"]["name"] == "soft" and config["data"]["flip"] is False
    assert (config["model"]["lora"]["enabled"], config["model"]["lora"]["r"]) == (True, 2)
    assert read_card(run.folder).media.max_pixels == 4096


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epoch": 3}, "unknown keyword 'epoch' .did you mean 'epochs'"),
        ({"learn_rate": 1}, "unknown keyword 'learn_rate' .did you mean 'learning_rate'"),
        ({"learning_rate": 1e-3}, "lr and learning_rate are both train.lr"),
        ({"eval_steps": 10}, "'eval_steps': here it is train.eval_every .in epochs"),
        ({"eval_strategy": "steps"}, "give eval_every, in epochs"),
        ({"warmup_steps": 100}, "give warmup, a share of the steps"),
        ({"train": {"epoch": 3}}, "unknown key train.epoch .did you mean 'train.epochs'"),
        ({"patience": -1}, "train.patience must be 0 or more"),
        ({"seed": "one"}, "train.seed"),
        ({"loss": "sotf"}, "sotf.*did you mean 'soft'"),
        ({"config": "nano_fintune"}, "did you mean 'nano_finetune'"),
        ({"config": 3}, "config is a name, a YAML file or a mapping"),
        ({"model": 3}, "model is a folder, a hub id or a name"),
        ({"model": "nnao"}, "no such model folder.*did you mean 'nano'"),
        ({"task": "iqaa"}, "iqaa.*iqa"),
        ({"data": {}}, "empty dict"),
        ({"data": {"a": {"data": "a.csv", "wieght": 2}}}, "a: unknown option 'wieght' .did you mean 'weight'"),
        ({"data": {"a": "a.csv"}, "eval_data": "b.csv"}, "eval_data is a dict of the same names"),
        ({"data": {"spaq": "a.csv"}, "eval_data": {"sapq": "b.csv"}}, "no data set 'sapq' .did you mean 'spaq'"),
    ],
)
def test_wrong_names_get_one_clear_line(tune: Tune, options: dict[str, Any], words: str, tmp_path: Path) -> None:
    data = {"data": options.pop("data")} if "data" in options else {}
    with pytest.raises(QAlignError, match=words) as caught:
        tune(**data, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_rows_that_are_no_labels(tune: Tune) -> None:
    for data, words in ((3, "got int"), ([], "an empty list"), ([{"image": "a.png"}], "missing column mos")):
        with pytest.raises(LabelError, match=words):
            tune(data)


def test_callbacks_of_transformers(tune: Tune) -> None:
    class Record(TrainerCallback):
        best: list[float | None] = []  # noqa: RUF012

        def on_save(self, args, state, control, **_):
            self.best.append(state.best_metric)

    run = tune(
        lr=1e-30, epochs=5, eval_every=0.5, callbacks=[EarlyStoppingCallback(early_stopping_patience=2), Record()]
    )
    assert [line["step"] for line in run.history if "eval_srcc" in line] == [3, 6, 9]
    assert Record.best == [run.best_metric] * 3


def test_early_stopping_and_resume(tune: Tune) -> None:
    options: dict[str, Any] = {"lr": 1e-30, "epochs": 5, "eval_every": 0.5}
    run = tune(**options, patience=2)
    assert [line["step"] for line in run.history if "eval_srcc" in line] == [3, 6, 9]
    with pytest.raises(ConfigError, match="resume=True"):
        tune(**options, patience=3)
    more = tune(**options, patience=3, resume=True)
    assert [line["step"] for line in more.history if "eval_srcc" in line] == [3, 6, 9, 12]


def test_a_run_from_a_table_resumes_exactly(tune: Tune, frame: pd.DataFrame, rated: Path, tmp_path: Path) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 2

    whole = tune(frame, media_root=rated.parent, output_dir=tmp_path / "whole")
    first = tune(frame, media_root=rated.parent, callbacks=[Stop()])
    assert first.step == 2
    again = tune(frame, media_root=rated.parent, resume=True)
    assert losses(again) == losses(whole) and again.step == 6


def test_several_sets(tune: Tune, make_set: Callable[..., Path], tmp_path: Path) -> None:
    one, two = make_set(tmp_path / "one", count=12), make_set(tmp_path / "two", count=12, seed=1)
    table = pd.read_csv(two)
    run = tune(
        {
            "first": one,
            "second": {
                "data": table[table.split == "train"].assign(mos=lambda t: t.mos * 20),
                "eval_data": table[table.split == "val"].assign(mos=lambda t: t.mos * 20),
                "media_root": two.parent,
                "mos_range": (20, 100),
                "task": "iaa",
                "weight": 2,
            },
        }
    )
    records = read_card(run.folder).trained_on
    assert [(r["source"], r["task"], r["rows"], r["mos_range"]) for r in records] == [
        ("first", "iqa", 9, [1.0, 5.0]),
        ("second", "iaa", 9, [20.0, 100.0]),
    ]
    assert {"first_srcc", "second_srcc"} <= run.metrics.keys()
    assert run.history[-1]["step"] == 9  # 9 + 2 * 9 items in batches of 3
    files = tune({"first": one, "second": two}, output_dir=tmp_path / "files", max_steps=1)
    assert [entry["labels"] for entry in read_config(files)["data"]["sets"]] == [str(one), str(two)]


def test_validation_rows_on_another_scale_are_refused(tune: Tune, frame: pd.DataFrame, rated: Path) -> None:
    with pytest.raises(LabelError, match=r"outside 1\.\.5"):
        tune(frame, media_root=rated.parent, eval_data=frame.assign(mos=frame["mos"] * 20))
    with pytest.raises(LabelError, match="opposite directions"):
        tune(frame, media_root=rated.parent, eval_data=frame.rename(columns={"mos": "dmos"}))


def test_runs_from_tables_are_averaged(
    tune: Tune, frame: pd.DataFrame, rated: Path, tmp_path: Path, capsys: Any
) -> None:
    """Their validation rows are in split.csv: the configuration names no file."""
    folders = [
        str(tune(frame, media_root=rated.parent, seed=seed, output_dir=tmp_path / f"s{seed}").folder) for seed in (0, 1)
    ]
    capsys.readouterr()
    assert main(["average", *folders, "--output", str(tmp_path / "mean"), "--workers", "0"]) == 0
    assert "mean of 2: SRCC" in capsys.readouterr().out
    card = read_card(tmp_path / "mean")
    quick: dict[str, Any] = {"media_root": rated.parent, "cache": False, "resamples": 50, "workers": 0}
    assert card.validation["n"] == 6
    assert card.validation["srcc"] == pytest.approx(evaluate(tmp_path / "mean", frame, split="val", **quick)["srcc"])


def test_the_caller_is_as_before(tune: Tune, frame: pd.DataFrame, rated: Path, tmp_path: Path, capfd: Any) -> None:
    capfd.readouterr()
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    environment, threads = dict(os.environ), torch.get_num_threads()
    half = tune(frame, media_root=rated.parent, output_dir=tmp_path / "half", precision="bf16", max_steps=2)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert after == before
    assert dict(os.environ) == environment and torch.get_num_threads() == threads
    assert capfd.readouterr().out == ""
    # the precision of one run does not reach the next, and the random state of the caller reaches neither
    whole = tune(frame, media_root=rated.parent, output_dir=tmp_path / "whole", max_steps=2)
    torch.manual_seed(99)
    again = tune(frame, media_root=rated.parent, output_dir=tmp_path / "again", max_steps=2)
    assert losses(whole) == losses(again) != losses(half)


def test_test_rows_are_never_used(tune: Tune, frame: pd.DataFrame, rated: Path) -> None:
    marked = frame.assign(split=["test" if i % 2 else "train" for i in range(len(frame))])
    run = tune(marked, media_root=rated.parent, val_share=0.25)
    with (run.folder / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and {row["split"] for row in rows} == {"train", "val"}
    assert {Path(row["media"]).name for row in rows} == set(marked[marked.split == "train"]["image"])
