"""Calibration from end to end: rated pictures, a model folder, and scores in the data set's own units."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from q_align.cli.main import main
from q_align.models.nano import build


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, 12 pictures, and MOS (0..100) that follow its own scores: something to find."""
    from q_align.score.scorer import Scorer

    folder = tmp_path_factory.mktemp("rated")
    backbone = build(seed=0)
    backbone.card.trained_on = [
        {"source": "other", "mos_range": [0, 10], "higher_is_better": False},
        {"source": "known", "mos_range": [10, 80], "higher_is_better": False},
    ]
    backbone.save(folder / "model")
    rng = np.random.default_rng(0)
    names = [f"{i:02d}.png" for i in range(12)]
    for i, name in enumerate(names):
        Image.fromarray(rng.integers(0, 20 * (i + 1), (40, 40, 3), dtype=np.uint8)).save(folder / name)
    scorer = Scorer.from_pretrained(folder / "model", workers=0)
    value = np.array([s.value for s in scorer.stream([str(folder / name) for name in names])])
    mos = 10 + 80 * (value - value.min()) / np.ptp(value)
    rows = "\n".join(f"{name},{m},{'val' if i else 'test'}" for i, (name, m) in enumerate(zip(names, mos)))
    (folder / "lab.csv").write_text(f"image,mos,split\n{rows}\n")
    down = "image,mos\n" + "\n".join(f"{name},{100 - m}" for name, m in zip(names, mos))
    for name in ("down.csv", "known.csv", "labels.csv"):
        (folder / name).write_text(down)
    return folder


def scores(capsys: pytest.CaptureFixture[str], rated: Path, scale: str) -> list[dict]:
    assert main(["score", str(rated / "00.png"), "--model", str(rated / "model"), "--json", "--scale", scale]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_scores_in_the_data_sets_own_units(rated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", "--model", str(rated / "model"), "--data", str(rated / "lab.csv"), "--kind", "affine"]
    assert main(command) == 0
    assert "affine fit on 11 items (0 failed)" in capsys.readouterr().out
    stored = json.loads((rated / "model/q_align.json").read_text())["calibration"]["lab"]
    assert (stored["n"], stored["split"], stored["kind"]) == (11, "val", "affine")
    first = (rated / "lab.csv").read_text().splitlines()[1].split(",")
    (row,) = scores(capsys, rated, "mos:lab")
    assert row["value"] == pytest.approx(float(first[1]), abs=0.1)  # the picture that was not fitted on
    (plain,) = scores(capsys, rated, "level")
    assert row["std"] == pytest.approx(plain["std"] * stored["slope"], rel=1e-6)
    assert row["probs"] == plain["probs"]
    (unit,) = scores(capsys, rated, "unit")
    assert unit["value"] == pytest.approx((plain["value"] - 1) / 4)
    (turned,) = scores(capsys, rated, "mos:other")
    assert turned["value"] == pytest.approx(10 - 10 * unit["value"])


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("known.csv", "known", []),  # DMOS, as the model was taught
        ("down.csv", "down", ["--lower-is-better", "--mos-range", "0", "100"]),
        ("labels.csv", None, ["--lower-is-better"]),  # named after its folder
    ],
)
def test_lower_is_better_and_every_row(
    rated: Path, capsys: pytest.CaptureFixture[str], name: str, source: str | None, words: list[str]
) -> None:
    source = source or rated.name
    command = ["calibrate", "--model", str(rated / "model"), "--data", str(rated / name), "--kind", "affine"]
    assert main([*command, "--split", "all", *words]) == 0
    out = capsys.readouterr().out
    assert f"{source}: affine fit on 12 items (0 failed)" in out and f"--scale mos:{source}" in out
    (row,) = scores(capsys, rated, f"mos:{source}")
    first = (rated / name).read_text().splitlines()[1].split(",")
    assert row["value"] == pytest.approx(float(first[1]), abs=0.1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["score", "{}/00.png", "--model", "{}/model", "--scale", "mos:labb"], "unknown scale 'mos:labb'"),
        (
            ["calibrate", "--model", "nano", "--data", "{}/lab.csv"],
            "run `q-align export nano --output my_nano` and calibrate that",
        ),
        (
            ["calibrate", "--model", "{}/model", "--data", "{}/lab.csv", "--split", "test"],
            "split test: calibration needs",
        ),
        (
            ["calibrate", "--model", "{}/model", "--data", "{}/lab.csv", "--split", "dev"],
            "split 'dev' is empty; splits are test, val; name another with --split (all: every row), "
            "not the rows that you report on",
        ),
        (["calibrate", "--model", "{}/model", "--data", "{}/down.csv"], "the file has no split column; name another"),
        (
            ["calibrate", "--model", "{}/model", "--data", "{}/down.csv", "--split", "all"],
            "do not rise with the MOS",
        ),
    ],
)
def test_one_clear_line(rated: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str) -> None:
    assert main([word.format(rated) for word in words]) == 1
    error = capsys.readouterr().err
    assert problem in error
