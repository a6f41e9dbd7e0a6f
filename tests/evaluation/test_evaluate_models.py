"""Evaluation: every item has a row, nothing is scored twice, several models and sets, thresholds, the real scorer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from q_align.cli.main import build_parser
from q_align.cli.options import opinions
from q_align.data.label_files import read_labels
from q_align.errors import ConfigError, LabelError, MediaError
from q_align.evaluation.evaluate_models import evaluate_models
from q_align.evaluation.score_cache import ScoreCache, item_key, model_fingerprint
from q_align.evaluation.score_sets import score_sets
from q_align.evaluation.settings import EvaluationSettings
from q_align.evaluation.thresholds import check_thresholds, parse_thresholds
from q_align.score.write_lock import lock_output
from q_align.tasks import TASKS
from q_align.types import Score

FRESH = EvaluationSettings(cache=False, resamples=50)
CONTRACT = ["id", "media", "value", "level", "probs", "std", "mass", "error", "mos", "raw_mos", "source", "task", "split", "content"]  # fmt: skip  # noqa: E501


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "scores.parquet").to_pylist()


def test_contract(rated: Path, fake: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = EvaluationSettings(cache=False, resamples=50, mos_range=(0, 100))
    (result,) = evaluate_models(fake(), [str(rated / "labels.csv")], out, settings=settings)
    written = json.loads((out / "metrics.json").read_text())
    assert {"n", "failed", "srcc", "plcc", "plcc_logistic", "krcc", "rmse", "srcc_ci"} <= set(written)
    assert (written["n"], written["failed"]) == (20, 0)  # the test rows
    assert written["srcc"] == result.metrics["srcc"] and 0.8 < written["srcc"] < 1
    assert written["ci"]["unit"] == "content" and written["ci"]["units"] == 6
    assert written["distribution"]["n"] == 20
    table = pq.read_table(out / "scores.parquet")
    assert table.column_names[: len(CONTRACT)] == CONTRACT
    assert [Path(r["media"]).name for r in rows(out)] == [f"{i}.png" for i in range(4, 24)]
    assert all(1 <= r["mos"] <= 5 and r["raw_mos"] > 5 and r["error"] is None for r in rows(out))


def test_failures_are_rows(rated: Path, fake: Any, tmp_path: Path) -> None:
    (rated / "9.png").unlink()
    out = tmp_path / "out"
    models = fake(broken={"7.png"})
    (result,) = evaluate_models(models, [str(rated / "labels.csv")], out, settings=FRESH)
    assert (result.metrics["n"], result.metrics["failed"]) == (18, 2)
    found = rows(out)
    assert len(found) == 20
    failed = [r for r in found if r["error"]]
    assert [Path(r["media"]).name for r in failed] == ["7.png", "9.png"]
    assert all(r["value"] is None and r["probs"] is None and r["mos"] is not None for r in failed)
    assert len(result.metrics["errors"]) == 2


def test_nothing_scored_is_no_crash(rated: Path, fake: Any, tmp_path: Path) -> None:
    models = fake(broken={f"{i}.png" for i in range(24)})
    (result,) = evaluate_models(models, [str(rated / "labels.csv")], tmp_path / "out", settings=FRESH)
    assert (result.metrics["n"], result.metrics["failed"]) == (0, 20)
    assert math.isnan(result.metrics["srcc"]) and "no metric is defined" in result.line()
    assert json.loads((tmp_path / "out/metrics.json").read_text())["srcc"] is None  # strict JSON


def test_several_models_and_sets(rated: Path, fake: Any, tmp_path: Path) -> None:
    """Media that two sets share are scored once per model."""
    other = rated / "other.csv"
    other.write_text("image,mos\n" + "".join(f"{i}.png,{5 - i % 5}\n" for i in range(10, 24)))
    models = fake(["a", "b"], by_model={"a": 0.1, "b": 1.0})
    out = tmp_path / "out"
    found = evaluate_models(models, [str(rated / "labels.csv"), str(other)], out, settings=FRESH)
    assert [r.name for r in found] == ["a on rated", "a on other", "b on rated", "b on other"]
    assert (out / "b" / "other" / "scores.parquet").is_file()
    assert [len(s.asked) for s in models.values()] == [20, 20] and len(set(models["a"].asked)) == 20
    matrix = json.loads((out / "matrix.json").read_text())
    assert matrix["models"] == ["a", "b"] and matrix["sets"] == ["rated", "other"]
    assert matrix["srcc"][0][0] > matrix["srcc"][1][0]
    assert (out / "matrix.md").read_text().count("|") > 8
    assert "trained on this set or another part of it" in (out / "matrix.md").read_text()
    assert (out / "matrix.csv").read_text().splitlines()[
        0
    ] == "model,trained_on,rated srcc,rated plcc,other srcc,other plcc"


def test_the_range_of_training(rated: Path, fake: Any, tmp_path: Path) -> None:
    trained = [{"source": "rated", "mos_range": [0, 100], "rows": 4}]
    models = fake(trained_on=trained)
    evaluate_models(models, [str(rated / "labels.csv")], tmp_path / "a", settings=FRESH)
    assert rows(tmp_path / "a")[0]["mos"] == pytest.approx(1 + 4 * 0.18)
    declared = EvaluationSettings(cache=False, resamples=0, mos_range=(-100, 100))
    evaluate_models(models, [str(rated / "labels.csv")], tmp_path / "b", settings=declared)
    assert rows(tmp_path / "b")[0]["mos"] == pytest.approx(1 + 4 * 0.59)


def test_the_direction_of_training(rated: Path, fake: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = rated / "labels.csv"
    data.write_text(
        "image,mos,split\n" + "".join(f"{i}.png,{98 - 4 * i},{'test' if i else 'train'}\n" for i in range(24))
    )
    for number, ends in enumerate(([6, 94], [0, 100])):  # the same range as the rows' own, or another one
        trained = [{"source": "rated", "mos_range": ends, "higher_is_better": False}]
        if number == 0:
            data.write_text(data.read_text().replace("train", "test"))
        caplog.clear()
        with caplog.at_level("INFO", logger="q_align"):
            (result,) = evaluate_models(fake(trained_on=trained), [str(data)], tmp_path / f"{number}", settings=FRESH)
        assert result.metrics["srcc"] > 0.8 and result.metrics["higher_is_better"] is False
        assert f"MOS range {ends[0]} to {ends[1]}, taken from the training of m" in caplog.text
        assert "rated: lower is better" in caplog.text
        assert caplog.text.count("evaluating the rows of split 'test'") == 1
    up = replace(FRESH, higher_is_better=True)
    (result,) = evaluate_models(fake(trained_on=trained), [str(data)], tmp_path / "up", settings=up)
    assert result.metrics["srcc"] < -0.8
    (result,) = evaluate_models(fake(), [str(data)], tmp_path / "bare", settings=FRESH)
    assert result.metrics["srcc"] < -0.8
    down = ["evaluate", "--data", "x", "--lower-is-better"]
    assert opinions(build_parser().parse_args(down))["higher_is_better"] is False
    assert opinions(build_parser().parse_args(down[:3]))["higher_is_better"] is None


def test_rows_beyond_the_range_of_training_are_evaluated(rated: Path, fake: Any, tmp_path: Path) -> None:
    trained = [{"source": "rated", "mos_range": [20, 80]}]
    evaluate_models(fake(trained_on=trained), [str(rated / "labels.csv")], tmp_path / "a", settings=FRESH)
    assert rows(tmp_path / "a")[-1]["mos"] == pytest.approx(1 + 4 * 74 / 60)


@pytest.mark.parametrize(
    ("name", "split", "warned"),
    [
        ("labels.csv", None, False),
        ("labels.csv", "train", True),
        ("labels.csv", "all", True),
        ("rated.csv", None, True),
        ("rated_test.csv", None, False),
        ("other.csv", None, False),
    ],
)
def test_training_rows_are_no_test(
    rated: Path, fake: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, split: str | None, warned: bool
) -> None:
    lines = [line.split(",") for line in (rated / "labels.csv").read_text().splitlines()]
    if name != "labels.csv":
        (rated / name).write_text("".join(f"{line[0]},{line[1]}\n" for line in lines))
    models = fake(trained_on=[{"source": "rated", "mos_range": [0, 100]}])
    (result,) = evaluate_models(models, [str(rated / name)], tmp_path / "out", settings=replace(FRESH, split=split))
    assert ("rated: m was trained on this data set" in caplog.text) == warned
    assert (result["training_rows"] > 0) == warned == ("not a test of this model" in result.line())
    assert json.loads((tmp_path / "out/metrics.json").read_text())["training_rows"] == result["training_rows"]


def test_another_result_is_not_overwritten(rated: Path, fake: Any, tmp_path: Path) -> None:
    data = [str(rated / "labels.csv")]
    evaluate_models(fake(), data, tmp_path / "out", settings=FRESH)
    evaluate_models(fake(), data, tmp_path / "out", settings=FRESH)  # the same one again: fine
    with pytest.raises(ConfigError, match="holds the results of model m, not other; choose another --output"):
        evaluate_models(fake(["other"]), data, tmp_path / "out", settings=FRESH)
    with pytest.raises(ConfigError, match="holds the results of one model on one set"):
        evaluate_models(fake(["m", "other"]), data, tmp_path / "out", settings=FRESH)


def test_errors_before_anything_is_scored(rated: Path, fake: Any, tmp_path: Path) -> None:
    models = fake()
    bad = [
        (["konik"], {}, ConfigError, "did you mean 'koniq'"),
        ([str(rated / "none.csv")], {}, LabelError, "no such labels file"),
        (
            [str(rated / "labels.csv")],
            {"media_roots": [str(tmp_path)]},
            MediaError,
            "20 of 20 images or videos are missing",
        ),
        ([str(rated / "labels.csv")], {"media_roots": ["a", "b"]}, ConfigError, "got 2 for 1 sets"),
    ]
    for data, options, kind, words in bad:
        with pytest.raises(kind, match=words):
            evaluate_models(models, data, tmp_path / "out", settings=FRESH, **options)
    assert models["m"].asked == []


def test_cached_scores(rated: Path, tmp_path: Path) -> None:
    key = item_key(str(rated / "5.png"), "iqa")
    assert key and key != item_key(str(rated / "5.png"), "iaa") and item_key(str(rated / "none.png"), "iqa") is None
    assert key != item_key(str(rated / "5.png"), "iqa", "Is it sharp?") != item_key(str(rated / "5.png"), "iqa", "No?")
    cache = ScoreCache(tmp_path / "cache", "c" * 64, {"dtype": "float32"})
    cache.add(key, Score("x", 3.5, "fair", (0.1, 0.2, 0.4, 0.2, 0.1), 1.0, 0.9).row())
    cache.add(item_key(str(rated / "6.png"), "iqa"), Score("y", error="broken").row())
    cache.flush()
    again = ScoreCache(tmp_path / "cache", "c" * 64, {"dtype": "float32"})
    assert len(again) == 1 and again.get(key)["value"] == 3.5 and again.get(key)["probs"] == [0.1, 0.2, 0.4, 0.2, 0.1]
    for checkpoint, settings in (("d" * 64, {"dtype": "float32"}), ("c" * 64, {"dtype": "bfloat16"})):
        assert len(ScoreCache(tmp_path / "cache", checkpoint, settings)) == 0
    (rated / "5.png").write_bytes(b"changed")
    assert again.get(item_key(str(rated / "5.png"), "iqa")) is None
    next((tmp_path / "cache").rglob("part-*")).write_bytes(b"half")
    assert len(ScoreCache(tmp_path / "cache", "c" * 64, {"dtype": "float32"})) == 0  # warned of, and scored again


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "q_align.json").write_text("{}")
    (tmp_path / "a" / "log_history.json").write_text("[]")
    assert model_fingerprint([tmp_path / "a"]) == model_fingerprint([tmp_path / "b"])
    (tmp_path / "b" / "model.safetensors").write_bytes(b"weightz")
    assert model_fingerprint([tmp_path / "a"]) != model_fingerprint([tmp_path / "b"])


def test_an_interrupted_evaluation_resumes(rated: Path, fake: Any, tmp_path: Path) -> None:
    """What was scored before an interruption is cached."""
    labels = read_labels(rated / "labels.csv").split("test")
    scorer = fake()["m"]

    class Interrupted:
        def stream(self, items: Any) -> Any:
            for number, score in enumerate(scorer.stream(items)):
                if number == 8:
                    raise KeyboardInterrupt
                yield score

    with pytest.raises(KeyboardInterrupt):
        score_sets(Interrupted(), [labels], ScoreCache(tmp_path, "c", {}))
    scorer.asked.clear()
    (rows,), timing = score_sets(scorer, [labels], ScoreCache(tmp_path, "c", {}))
    assert timing["cached"] == 8 and timing["scored"] == 12 and len(scorer.asked) == 12
    (fresh,), _ = score_sets(scorer, [labels], ScoreCache(None, "", {}))
    assert [row["value"] for row in rows] == [row["value"] for row in fresh]


def test_the_embedded_model_end_to_end(rated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real scorer: cached scores give the same file as new ones; another setting or version is scored again."""
    settings = EvaluationSettings(cache=str(tmp_path / "cache"), resamples=20, loading={"workers": 0})
    data = [str(rated / "labels.csv")]

    def scored(name: str, settings: EvaluationSettings) -> int:
        return evaluate_models(["nano"], data, tmp_path / name, settings=settings)[0]["timing"]["scored"]

    assert scored("a", settings) == 20 and scored("b", settings) == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert all(sum(r["probs"]) == pytest.approx(1) for r in rows(tmp_path / "a"))
    half = replace(settings, loading={"dtype": "bfloat16", "workers": 0})
    assert scored("c", half) == 20, "scores of another precision"
    assert json.loads((tmp_path / "c/metrics.json").read_text())["settings"]["dtype"] == "bfloat16"
    assert scored("d", replace(settings, loading={"workers": 0, "attn": "eager"})) == 20, "scores of another attention"
    version = metadata.version
    for package in ("torch", "transformers", "pillow"):
        with monkeypatch.context() as patch:
            patch.setattr(metadata, "version", lambda name, new=package: "99" if name == new else version(name))
            assert scored(package, settings) == 20, f"scores of another version of {package}"
            assert scored(f"{package}-again", settings) == 0
    assert scored("e", settings) == 0


def test_a_question_of_its_own_is_asked_and_cached_apart(rated: Path, fake: Any, tmp_path: Path) -> None:
    lines = (rated / "labels.csv").read_text().splitlines()[5:]
    names = [line.split(",")[0] for line in lines]
    for file, questions in (
        ("own", ["Is this sharp?", "Is this noisy?"]),
        ("pool", [TASKS["iqa"].questions[3], TASKS["iqa"].question]),
    ):
        rest = "".join(f'{n},{i},"{questions[i % 2]}"\n' for i, n in enumerate(names))
        (rated / f"{file}.csv").write_text(f"image,mos,question\n{rest}")
    models = fake()
    files = [str(rated / "own.csv"), str(rated / "pool.csv")]
    own, pool = evaluate_models(models, files, settings=FRESH)
    asked = {(Path(media).name, question) for media, _, question in models["m"].asked}
    assert len(asked) == 40 and {question for _, question in asked} == {"Is this sharp?", "Is this noisy?", None}
    assert own["questions"] == 2 and pool["questions"] == 0
    assert [row["question"] for row in own.rows][:2] == ["Is this sharp?", "Is this noisy?"]
    one = rated / "one.csv"
    one.write_text("image,mos,question\n" + "".join(f"{n},{i},Is this sharp?\n" for i, n in enumerate(names)))
    scorer = fake()
    evaluate_models(scorer, [str(one)], settings=FRESH)
    assert {question for _, _, question in scorer["m"].asked} == {"Is this sharp?"}


def test_thresholds() -> None:
    thresholds = parse_thresholds(["srcc=0.9", "rmse=0.5"])
    good, bad = {"srcc": 0.91, "rmse": 0.4}, {"srcc": 0.89, "rmse": 0.6}
    assert check_thresholds(thresholds, {"a": good}) == []
    assert check_thresholds(thresholds, {"b": bad}) == ["b: srcc is 0.8900, below 0.9", "b: rmse is 0.6000, above 0.5"]
    assert check_thresholds(thresholds, {"c": {"srcc": float("nan"), "rmse": 0.1}}) == [
        "c: srcc is undefined, threshold 0.9"
    ]
    for text, words in (
        ("scc=0.9", "did you mean 'srcc'"),
        ("srcc", "METRIC=NUMBER"),
        ("srcc=high", "METRIC=NUMBER"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_thresholds([text])


def test_two_evaluations_do_not_share_a_folder(rated: Path, fake: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lock = lock_output(out, folder=True)
    with pytest.raises(ConfigError, match="another process is writing there"):
        evaluate_models(fake(), [str(rated / "labels.csv")], out, settings=FRESH)
    lock.release()
    assert not out.exists(), "the refused evaluation wrote nothing"
    evaluate_models(fake(), [str(rated / "labels.csv")], out, settings=FRESH)
    assert (out / "metrics.json").is_file()
    lock_output(out, folder=True).release()
