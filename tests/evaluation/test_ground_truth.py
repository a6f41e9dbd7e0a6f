"""One ground truth per test set: MOS range, direction and task are the same for all models of a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from q_align.cli.main import main
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError
from q_align.evaluation.evaluate_models import evaluate_models
from q_align.evaluation.settings import EvaluationSettings
from q_align.evaluation.test_sets import GroundTruth, on_levels
from q_align.levels import LevelScheme
from q_align.metrics import rmse
from q_align.models.nano import build

FRESH = EvaluationSettings(cache=False, resamples=0, loading={"workers": 0})


def save_model(folder: Path, *trained_on: dict[str, Any], seed: int = 0) -> str:
    """A model folder with random weights and this training record."""
    backbone = build(seed=seed)
    backbone.card.trained_on = list(trained_on)
    backbone.save(folder)
    return str(folder)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """12 images and their MOS, 1.2 to 4.7 on a scale of 1 to 5."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 20 * (i + 1), (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    rows = "".join(f"{i}.png,{m:.4f}\n" for i, m in enumerate(np.linspace(1.2, 4.7, 12)))
    (folder / "labels.csv").write_text(f"image,mos\n{rows}")
    return folder / "labels.csv"


def test_a_model_without_a_range_is_judged_on_that_of_the_other(
    labels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`evaluate --model nano runs/mine`: nano was never trained on the set, mine with 1 to 5."""
    models = {
        "other": save_model(tmp_path / "other", seed=1),
        "mine": save_model(tmp_path / "runs/mine", {"source": "mine", "mos_range": [1, 5], "task": "iqa"}),
    }
    with caplog.at_level("INFO", logger="q_align"):
        other, mine = evaluate_models(models, [labels], tmp_path / "out", settings=FRESH)
    assert tuple(other["mos_range"]) == tuple(mine["mos_range"]) == (1, 5)
    assert other["mos_range_from"] == mine["mos_range_from"] == "the training of mine"
    assert "mine: MOS range 1 to 5, taken from the training of mine (--mos-range declares another)" in caplog.text
    np.testing.assert_array_equal(other.column("mos"), mine.column("mos"))
    np.testing.assert_allclose(mine.column("mos"), mine.column("raw_mos"))
    assert other["rmse_raw"] == pytest.approx(rmse(other.column("raw_mos"), other.column("value")))
    written = json.loads((tmp_path / "out/other/mine/metrics.json").read_text())
    assert written["mos_range"] == [1, 5] and written["mos_range_from"] == "the training of mine"
    alone = evaluate_models([models["other"]], [labels], settings=FRESH)[0]
    assert tuple(alone["mos_range"]) == pytest.approx((1.2, 4.7)) and alone["mos_range_from"] == "the MOS of all rows"


def test_ranges_that_differ_are_said_and_a_declared_one_wins(
    labels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = {
        name: save_model(tmp_path / name, {"source": "mine", "mos_range": ends}, seed=seed)
        for seed, (name, ends) in enumerate({"a": [0, 10], "b": [1, 5]}.items())
    }
    found = evaluate_models(models, [labels], settings=FRESH)
    assert [tuple(r["mos_range"]) for r in found] == [(0, 10), (0, 10)]
    assert "trained with different MOS ranges (a 0 to 10, b 1 to 5); all are evaluated with that of a" in caplog.text
    declared = EvaluationSettings(cache=False, resamples=0, mos_range=(1, 6), loading={"workers": 0})
    found = evaluate_models(models, [labels], settings=declared)
    assert [tuple(r["mos_range"]) for r in found] == [(1, 6), (1, 6)] and found[0]["mos_range_from"] == "declared"


def test_directions_that_differ_are_an_error(labels: Path, tmp_path: Path) -> None:
    models = {
        name: save_model(tmp_path / name, {"source": "mine", "higher_is_better": better})
        for name, better in (("a", True), ("b", False))
    }
    with pytest.raises(ConfigError, match=r"different directions .*a: higher, b: lower.* --lower-is-better"):
        evaluate_models(models, [labels], settings=FRESH)


def test_the_task_of_training_is_the_task_of_evaluation(
    labels: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = save_model(tmp_path / "model", {"source": "mine", "task": "iaa", "mos_range": [1, 5]})
    with caplog.at_level("INFO", logger="q_align"):
        (found,) = evaluate_models([model], [labels], settings=FRESH)
    assert found["task"] == "iaa" and set(found.column("task")) == {"iaa"}
    assert "mine: task iaa, taken from the training of model (--task declares another)" in caplog.text
    declared = EvaluationSettings(cache=False, resamples=0, task="iqa", loading={"workers": 0})
    other = evaluate_models([model], [labels], settings=declared)[0]
    assert other["task"] == "iqa" and list(other.column("value")) != list(found.column("value"))
    fresh = save_model(tmp_path / "fresh", seed=1)
    assert [r["task"] for r in evaluate_models([fresh, model], [labels], settings=FRESH)] == ["iaa", "iaa"]
    assert evaluate_models([fresh], [labels], settings=FRESH)[0]["task"] == "iqa"  # by the kind of file
    named = labels.with_name("named.csv")
    rows = labels.read_text().splitlines()
    named.write_text("\n".join([f"{rows[0]},task", *(f"{row},iqa" for row in rows[1:])]) + "\n")
    two = save_model(tmp_path / "two", {"source": "named", "task": "iaa"})
    assert evaluate_models([two], [named], settings=FRESH)[0]["task"] == "iqa", "the column decides"


def test_models_of_different_tasks_on_one_set_are_an_error(labels: Path, tmp_path: Path) -> None:
    models = {
        name: save_model(tmp_path / name, {"source": "mine", "task": task})
        for name, task in (("a", "iaa"), ("b", "iqa"))
    }
    with pytest.raises(ConfigError, match=r"different tasks \(a: iaa, b: iqa\) .* choose one with --task"):
        evaluate_models(models, [labels], settings=FRESH)


def test_labels_on_another_range_are_those_that_reading_gives(tmp_path: Path) -> None:
    """Moved to another range, direction and scheme, labels equal what `read_labels` makes of the file."""
    scheme = LevelScheme(words=("high", "middle", "low"), values=(10, 5, 0))
    files = {
        "std": "image,mos,std\na.png,20,3\nb.png,70,\nc.png,45,0\n",
        "votes": 'image,votes\na.png,"[1, 2, 3, 4]"\nb.png,"[4, 0, 0, 1]"\nc.png,"[0, 0, 5, 5]"\n',
        "both": 'image,mos,votes\na.png,1.5,"[1, 2, 3]"\nb.png,2.8,"[4, 0, 1]"\nc.png,2,"[0, 5, 5]"\n',
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(text)
        for better in (True, False):
            plain = read_labels(path)
            truth = GroundTruth((0.0, 100.0), "declared", better, None, "column")
            moved = on_levels(plain, truth, scheme)
            wanted = read_labels(path, mos_range=(0, 100), higher_is_better=better).on(scheme)
            for column in ("mos", "raw_mos", "std", "raw_std", *(["votes"] if name != "std" else [])):
                np.testing.assert_allclose(
                    moved.column(column).astype(float), wanted.column(column).astype(float), err_msg=f"{name} {column}"
                )


def test_votes_and_a_mos_beyond_them_on_the_range_of_training(labels: Path, tmp_path: Path) -> None:
    """MOS 0 to 100 beside three marks: the model's training knows the range."""
    file = labels.with_name("marks.csv")
    file.write_text("image,mos,votes\n" + "".join(f'{i}.png,{8 * i + 3},"[{i}, 3, {12 - i}]"\n' for i in range(12)))
    model = save_model(tmp_path / "model", {"source": "marks", "mos_range": [0, 100]})
    (found,) = evaluate_models([model], [file], settings=FRESH)
    np.testing.assert_allclose(found.column("mos"), 1 + 4 * found.column("raw_mos") / 100)
    assert tuple(found["mos_range"]) == (0, 100) and found["n"] == 12


def test_training_rows_of_a_card_are_never_a_silent_test(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A card whose part is a whole file with a column `split`: its train rows are left out; when asked for, flagged."""
    rows = labels.read_text().splitlines()[1:]
    split = [f"{row},{'train' if i < 8 else 'test'}" for i, row in enumerate(rows)]
    (labels.parent / "all.csv").write_text("image,mos,split\n" + "\n".join(split) + "\n")
    card = {
        **{"name": "mine", "title": "Mine", "task": "iqa", "n": 12, "mos_range": [1, 5], "higher_is_better": True},
        **{"scale": "ACR", "splits": {"test": {"labels": "all.csv", "n": 4}}},
        **{"url": "-", "get": "-", "licence": "-", "cite": "-"},
    }
    (tmp_path / "card.yaml").write_text(json.dumps(card))
    model = save_model(tmp_path / "model", {"source": "mine", "mos_range": [1, 5], "rows": 8})
    command = ["evaluate", "--model", model, "--data", str(tmp_path / "card.yaml"), "--media-root", str(labels.parent)]
    assert main([*command, "--output", str(tmp_path / "out"), "--workers", "0", "--no-cache", "--resamples", "0"]) == 0
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (found["n"], found["training_rows"]) == (4, 0)
    data = f"{tmp_path / 'card.yaml'}={labels.parent / 'all.csv'}"
    words = ["evaluate", "--model", model, "--data", data, "--split", "all", "--output", str(tmp_path / "all")]
    assert main([*words, "--workers", "0", "--no-cache", "--resamples", "0"]) == 0
    output = capsys.readouterr()
    every = json.loads((tmp_path / "all/metrics.json").read_text())
    assert (every["n"], every["training_rows"]) == (12, 8) and "8 rows are not a test of this model" in output.out
    assert "8 of 12 rows are not a test of it" in output.err


def test_urls_are_refused_before_anything_is_scored_unless_allowed(
    labels: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = labels.with_name("web.csv")
    file.write_text("image,mos\nhttps://127.0.0.1:1/a.png,1\nhttps://127.0.0.1:1/b.png,2\n0.png,3\n1.png,4\n")
    command = ["evaluate", "--data", str(file), "--output", str(tmp_path / "out"), "--workers", "0", "--no-cache"]
    assert main(command) == 1
    assert "2 items are web addresses; --allow-urls fetches them" in capsys.readouterr().err
    assert main([*command, "--allow-urls", "--resamples", "0"]) == 1  # nobody answers there: two rows with an error
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert (found["n"], found["failed"]) == (2, 2) and "allow" not in found["errors"][0]


def test_another_question_gives_another_score(labels: Path, tmp_path: Path) -> None:
    """A `question` column is asked: two files that differ in it alone give two results."""
    rows = labels.read_text().splitlines()[1:]
    values = {}
    for name, question in (("sharp", "Is this image sharp?"), ("noisy", "Rate the noise."), ("none", "")):
        file = labels.with_name(f"{name}.csv")
        file.write_text("image,mos,question\n" + "".join(f"{row},{question}\n" for row in rows))
        cached = EvaluationSettings(cache=str(tmp_path / "cache"), resamples=0, loading={"workers": 0})
        values[name] = evaluate_models(["nano"], [file], settings=cached)[0].column("value").tolist()
    plain = evaluate_models(["nano"], [labels], settings=FRESH)[0].column("value").tolist()
    assert values["none"] == plain
    assert len({tuple(found) for found in values.values()}) == 3
