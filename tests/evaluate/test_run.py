"""Evaluation: every item has a row, nothing is scored twice, several models and sets, the gate, the real scorer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from q_align.cli.main import build_parser
from q_align.cli.options import opinions
from q_align.errors import ConfigError, LabelError, MediaError
from q_align.evaluate.evaluation import evaluate
from q_align.evaluate.model_scores import Settings
from q_align.evaluate.score_cache import ScoreCache, fingerprint, medium_key
from q_align.evaluate.thresholds import check_gates, parse_gates
from q_align.types import Score

FRESH = Settings(cache=False, resamples=50)
CONTRACT = ["id", "media", "value", "level", "probs", "std", "mass", "error", "mos", "raw_mos", "source", "task", "split", "content"]  # fmt: skip  # noqa: E501


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "scores.parquet").to_pylist()


def test_contract(rated: Path, fake: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = Settings(cache=False, resamples=50, mos_range=(0, 100))
    (result,) = evaluate(["m"], [str(rated / "labels.csv")], out, settings=settings, load=fake())
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
    load = fake(broken={"7.png"})
    (result,) = evaluate(["m"], [str(rated / "labels.csv")], out, settings=FRESH, load=load)
    assert (result.metrics["n"], result.metrics["failed"]) == (18, 2)
    found = rows(out)
    assert len(found) == 20
    failed = [r for r in found if r["error"]]
    assert [Path(r["media"]).name for r in failed] == ["7.png", "9.png"]
    assert all(r["value"] is None and r["probs"] is None and r["mos"] is not None for r in failed)
    assert len(result.metrics["errors"]) == 2


def test_nothing_scored_is_no_crash(rated: Path, fake: Any, tmp_path: Path) -> None:
    load = fake(broken={f"{i}.png" for i in range(24)})
    (result,) = evaluate(["m"], [str(rated / "labels.csv")], tmp_path / "out", settings=FRESH, load=load)
    assert (result.metrics["n"], result.metrics["failed"]) == (0, 20)
    assert math.isnan(result.metrics["srcc"]) and "no measure" in result.line()
    assert json.loads((tmp_path / "out/metrics.json").read_text())["srcc"] is None  # strict JSON


def test_several_models_and_sets(rated: Path, fake: Any, tmp_path: Path) -> None:
    """Media that two sets share are scored once per model."""
    other = rated / "other.csv"
    other.write_text("image,mos\n" + "".join(f"{i}.png,{5 - i % 5}\n" for i in range(10, 24)))
    load = fake(by_model={"a": 0.1, "b": 1.0})
    out = tmp_path / "out"
    found = evaluate(["runs/a", "runs/b"], [str(rated / "labels.csv"), str(other)], out, settings=FRESH, load=load)
    assert [r.name for r in found] == ["a on rated", "a on other", "b on rated", "b on other"]
    assert (out / "b" / "other" / "scores.parquet").is_file()
    assert [len(s.asked) for s in load.made] == [20, 20] and len(set(load.made[0].asked)) == 20
    matrix = json.loads((out / "matrix.json").read_text())
    assert matrix["models"] == ["a", "b"] and matrix["sets"] == ["rated", "other"]
    assert matrix["srcc"][0][0] > matrix["srcc"][1][0]
    assert (out / "matrix.md").read_text().count("|") > 8
    assert "trained on this set or another part of it" in (out / "matrix.md").read_text()
    assert (out / "matrix.csv").read_text().splitlines()[
        0
    ] == "model,trained_on,rated srcc,rated plcc,other srcc,other plcc"


def test_the_range_that_the_model_was_taught(rated: Path, fake: Any, tmp_path: Path) -> None:
    taught = [{"source": "rated", "mos_range": [0, 100], "rows": 4}]
    load = fake(trained_on=taught)
    evaluate(["m"], [str(rated / "labels.csv")], tmp_path / "a", settings=FRESH, load=load)
    assert rows(tmp_path / "a")[0]["mos"] == pytest.approx(1 + 4 * 0.18)
    declared = Settings(cache=False, resamples=0, mos_range=(-100, 100))
    evaluate(["m"], [str(rated / "labels.csv")], tmp_path / "b", settings=declared, load=load)
    assert rows(tmp_path / "b")[0]["mos"] == pytest.approx(1 + 4 * 0.59)


def test_the_direction_that_the_model_was_taught(
    rated: Path, fake: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = rated / "labels.csv"
    data.write_text(
        "image,mos,split\n" + "".join(f"{i}.png,{98 - 4 * i},{'test' if i else 'train'}\n" for i in range(24))
    )
    for number, ends in enumerate(([6, 94], [0, 100])):  # the same range as the rows' own, or another one
        taught = [{"source": "rated", "mos_range": ends, "higher_is_better": False}]
        if number == 0:
            data.write_text(data.read_text().replace("train", "test"))
        caplog.clear()
        with caplog.at_level("INFO", logger="q_align"):
            (result,) = evaluate(
                ["m"], [str(data)], tmp_path / f"{number}", settings=FRESH, load=fake(trained_on=taught)
            )
        assert result.metrics["srcc"] > 0.8 and result.metrics["higher_is_better"] is False
        assert caplog.text.count("MOS range") == 1 and f"{ends[0]}..{ends[1]} taken from the model's" in caplog.text
        assert "rated: lower is better, taken from the model's training" in caplog.text
        assert caplog.text.count("taking the rows of split 'test'") == 1
    up = replace(FRESH, higher_is_better=True)
    (result,) = evaluate(["m"], [str(data)], tmp_path / "up", settings=up, load=fake(trained_on=taught))
    assert result.metrics["srcc"] < -0.8
    (result,) = evaluate(["m"], [str(data)], tmp_path / "bare", settings=FRESH, load=fake())
    assert result.metrics["srcc"] < -0.8
    down = ["evaluate", "--data", "x", "--lower-is-better"]
    assert opinions(build_parser().parse_args(down))["higher_is_better"] is False
    assert opinions(build_parser().parse_args(down[:3]))["higher_is_better"] is None


def test_rows_beyond_the_range_that_was_taught_are_kept(rated: Path, fake: Any, tmp_path: Path) -> None:
    taught = [{"source": "rated", "mos_range": [20, 80]}]
    evaluate(["m"], [str(rated / "labels.csv")], tmp_path / "a", settings=FRESH, load=fake(trained_on=taught))
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
    load = fake(trained_on=[{"source": "rated", "mos_range": [0, 100]}])
    evaluate(["m"], [str(rated / name)], tmp_path / "out", settings=replace(FRESH, split=split), load=load)
    said = "rated: the model was trained on rows of this set; this is not a test" in caplog.text
    assert said == warned


def test_what_one_model_was_taught_is_nothing_to_the_next(rated: Path, fake: Any, tmp_path: Path) -> None:
    def load(model: str, **options: Any) -> Any:
        taught = [{"source": "rated", "mos_range": [0, 100 if model == "a" else 200], "rows": 4}]
        return fake(trained_on=taught)(model)

    evaluate(["a", "b"], [str(rated / "labels.csv")], tmp_path, settings=FRESH, load=load)
    first, second = (rows(tmp_path / model / "rated")[0]["mos"] for model in ("a", "b"))
    assert (first, second) == (pytest.approx(1 + 4 * 0.18), pytest.approx(1 + 4 * 0.09))


def test_another_result_is_not_overwritten(rated: Path, fake: Any, tmp_path: Path) -> None:
    data = [str(rated / "labels.csv")]
    evaluate(["m"], data, tmp_path / "out", settings=FRESH, load=fake())
    evaluate(["m"], data, tmp_path / "out", settings=FRESH, load=fake())  # the same one again: fine
    with pytest.raises(ConfigError, match="holds the results of model m, not other; choose another --output"):
        evaluate(["other"], data, tmp_path / "out", settings=FRESH, load=fake())
    with pytest.raises(ConfigError, match="holds the results of one model on one set"):
        evaluate(["m", "other"], data, tmp_path / "out", settings=FRESH, load=fake())


def test_errors_before_anything_is_scored(rated: Path, fake: Any, tmp_path: Path) -> None:
    load = fake()
    bad = [
        (["konik"], {}, ConfigError, "did you mean 'koniq'"),
        ([str(rated / "none.csv")], {}, LabelError, "no such labels file"),
        ([str(rated / "labels.csv")], {"media_roots": [str(tmp_path)]}, MediaError, "none of 20 media found"),
        ([str(rated / "labels.csv")], {"media_roots": ["a", "b"]}, ConfigError, "got 2 for 1 sets"),
    ]
    for data, options, kind, words in bad:
        with pytest.raises(kind, match=words):
            evaluate(["m"], data, tmp_path / "out", settings=FRESH, load=load, **options)
    assert load.made == []


def test_kept_scores(rated: Path, tmp_path: Path) -> None:
    key = medium_key(str(rated / "5.png"), "iqa")
    assert key and key != medium_key(str(rated / "5.png"), "iaa") and medium_key(str(rated / "none.png"), "iqa") is None
    kept = ScoreCache(tmp_path / "kept", "c" * 64, {"dtype": "float32"})
    kept.add(key, Score("x", 3.5, "fair", (0.1, 0.2, 0.4, 0.2, 0.1), 1.0, 0.9).row())
    kept.add(medium_key(str(rated / "6.png"), "iqa"), Score("y", error="broken").row())
    kept.flush()
    again = ScoreCache(tmp_path / "kept", "c" * 64, {"dtype": "float32"})
    assert len(again) == 1 and again.get(key)["value"] == 3.5 and again.get(key)["probs"] == [0.1, 0.2, 0.4, 0.2, 0.1]
    for checkpoint, settings in (("d" * 64, {"dtype": "float32"}), ("c" * 64, {"dtype": "bfloat16"})):
        assert len(ScoreCache(tmp_path / "kept", checkpoint, settings)) == 0
    (rated / "5.png").write_bytes(b"changed")
    assert again.get(medium_key(str(rated / "5.png"), "iqa")) is None
    next((tmp_path / "kept").rglob("part-*")).write_bytes(b"half")
    assert len(ScoreCache(tmp_path / "kept", "c" * 64, {"dtype": "float32"})) == 0  # said, and scored again


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "q_align.json").write_text("{}")
    (tmp_path / "a" / "log_history.json").write_text("[]")
    assert fingerprint([tmp_path / "a"]) == fingerprint([tmp_path / "b"])
    (tmp_path / "b" / "model.safetensors").write_bytes(b"weightz")
    assert fingerprint([tmp_path / "a"]) != fingerprint([tmp_path / "b"])


def test_an_interrupted_evaluation_goes_on(rated: Path, fake: Any, tmp_path: Path) -> None:
    """What was scored before an interruption is kept."""
    settings = Settings(cache=str(tmp_path / "kept"), resamples=0)
    load = fake()

    def stops(model: str, **options: Any) -> Any:
        scorer = load(model, **options)
        whole = scorer.stream

        def some(items: Any) -> Any:
            for number, score in enumerate(whole(items)):
                if number == 8:
                    raise KeyboardInterrupt
                yield score

        scorer.stream = some
        return scorer

    data = [str(rated / "labels.csv")]
    with pytest.raises(KeyboardInterrupt):
        evaluate(["nano"], data, tmp_path / "out", settings=settings, load=stops)
    (result,) = evaluate(["nano"], data, tmp_path / "out", settings=settings, load=load)
    assert result.metrics["timing"]["kept"] == 8 and len(load.made[-1].asked) == 12
    fresh = evaluate(["nano"], data, tmp_path / "fresh", settings=FRESH, load=load)[0]
    assert fresh.metrics["srcc"] == result.metrics["srcc"]


def test_the_embedded_model_end_to_end(rated: Path, tmp_path: Path) -> None:
    """The real scorer; kept scores give the same file as new ones."""
    settings = Settings(cache=str(tmp_path / "kept"), resamples=20, loading={"workers": 0})
    data = [str(rated / "labels.csv")]
    first = evaluate(["nano"], data, tmp_path / "a", settings=settings)[0]
    again = evaluate(["nano"], data, tmp_path / "b", settings=settings)[0]
    assert first.metrics["timing"]["scored"] == 20 and again.metrics["timing"]["scored"] == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert all(sum(r["probs"]) == pytest.approx(1) for r in rows(tmp_path / "a"))
    half = replace(settings, loading={"dtype": "bfloat16", "workers": 0})
    other = evaluate(["nano"], data, tmp_path / "c", settings=half)[0].metrics
    assert other["timing"]["scored"] == 20, "kept scores of another precision are none"
    assert other["settings"]["dtype"] == "bfloat16"


def test_gates() -> None:
    gates = parse_gates(["srcc=0.9", "rmse=0.5"])
    good, bad = {"srcc": 0.91, "rmse": 0.4}, {"srcc": 0.89, "rmse": 0.6}
    assert check_gates(gates, {"a": good}) == []
    assert check_gates(gates, {"b": bad}) == ["b: srcc is 0.8900, below 0.9", "b: rmse is 0.6000, above 0.5"]
    assert check_gates(gates, {"c": {"srcc": float("nan"), "rmse": 0.1}}) == ["c: srcc is undefined, wanted 0.9"]
    for text, words in (
        ("scc=0.9", "did you mean 'srcc'"),
        ("srcc", "MEASURE=NUMBER"),
        ("srcc=high", "MEASURE=NUMBER"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_gates([text])
