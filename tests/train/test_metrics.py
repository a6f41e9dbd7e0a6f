"""SRCC and PLCC in training: every item counts once, and what is undefined is no number."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from trained import run

from q_align.train.early_stopping import evaluations_without_progress
from q_align.train.eval_metrics import rating_metrics

NAN = float("nan")


def test_repeated_items_count_once() -> None:
    """As two processes fill up their last batch: three of six rows are the first item again."""
    mos, scores = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    rows = np.stack([np.arange(4.0), np.zeros(4), mos], axis=1)
    once = rating_metrics(scores, rows, ["set"])
    again = rating_metrics(np.append(scores, [9, 9, 9]), np.concatenate([rows, rows[[0, 0, 0]]]), ["set"])
    assert again == once
    assert once["n"] == 4
    assert once["srcc"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("mos", "scores"),
    [
        ([3.0], [2.0]),
        ([1.0, 2.0], [3.0, 3.0]),
        ([2.0, 2.0], [1.0, 2.0]),
        ([NAN, NAN], [1.0, 2.0]),
        ([NAN, 4.0], [1.0, 2.0]),
    ],
    ids=["one item", "constant scores", "constant MOS", "unreadable", "one readable"],
)
def test_an_undefined_correlation_is_left_out_of_the_mean(mos: list[float], scores: list[float]) -> None:
    good = np.stack([np.arange(4.0), np.zeros(4), np.arange(4.0)], axis=1)
    bad = np.stack([4.0 + np.arange(len(mos)), np.ones(len(mos)), mos], axis=1)
    found = rating_metrics(np.array([*range(4), *scores]), np.concatenate([good, bad]), ["good", "bad"])
    assert (found["srcc"], found["plcc"]) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(found["bad_srcc"]) and math.isnan(found["bad_plcc"])
    alone = rating_metrics(np.array(scores), bad, ["good", "bad"])
    assert math.isnan(alone["srcc"]) and math.isnan(alone["bad_srcc"])


def test_a_run_with_an_undefined_correlation_says_so(settle, make_set, tmp_path, messages) -> None:
    """One of two sets has a single validation item: the best checkpoint is the other's."""
    small = make_set(tmp_path / "small", count=4, seed=3)
    (large,) = settle().sets()
    sets = [{"labels": large.labels}, {"labels": str(small)}]
    output = run(settle(**{"data.train": "null", "data.sets": json.dumps(sets)}))
    history = json.loads((output / "log_history.json").read_text())
    evaluated = [line for line in history if "eval_srcc" in line]
    assert [line["eval_small_srcc"] for line in evaluated] == [None] * len(evaluated)
    assert all(line["eval_srcc"] == line["eval_noise_srcc"] for line in evaluated)
    assert any("small_srcc undefined" in line for line in messages())


def test_patience_counts_evaluations_since_the_best() -> None:
    def waited(*values: float | None) -> int:
        return evaluations_without_progress([{"step": n, "eval_srcc": v} for n, v in enumerate(values)] + [{"loss": 1}])

    assert [waited(), waited(0.5), waited(0.5, 0.6), waited(0.6, 0.5), waited(0.6, 0.6, NAN)] == [0, 0, 0, 1, 2]
    assert waited(NAN, None, 0.1) == 0
