"""Levels, calibration and distances between distributions against scipy and by hand; the summary's bookkeeping."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from q_align.levels import LevelScheme
from q_align.metrics import agreement, compute_metrics, rmse

SCHEME = LevelScheme()


def test_distances_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), 50), rng.dirichlet(np.ones(5), 50)
    p[0] = [0, 0.5, 0.5, 0, 0]
    got = agreement.distribution_distance(p, q, SCHEME.values)
    assert got["kl"] == pytest.approx(np.mean([stats.entropy(a, b) for a, b in zip(p, q)]), abs=1e-12)
    assert got["js"] == pytest.approx(np.mean([jensenshannon(a, b) ** 2 for a, b in zip(p, q)]), abs=1e-12)
    moved = [stats.wasserstein_distance(SCHEME.values, SCHEME.values, a, b) for a, b in zip(p, q)]
    assert got["wasserstein"] == pytest.approx(np.mean(moved), abs=1e-12)


def test_distance_of_equals_is_zero_and_of_opposites_is_the_range() -> None:
    best, worst = np.eye(5)[[0]], np.eye(5)[[4]]
    assert agreement.distribution_distance(best, best, SCHEME.values) == {"kl": 0, "js": 0, "wasserstein": 0}
    far = agreement.distribution_distance(best, worst, SCHEME.values)
    assert far["wasserstein"] == pytest.approx(4) and far["js"] == pytest.approx(math.log(2))
    assert math.isfinite(far["kl"])


def test_level_accuracy_by_hand() -> None:
    mos = np.array([5.0, 4.9, 3.0, 1.0])  # excellent, excellent, fair, bad
    got = agreement.level_accuracy(mos, np.array([0, 1, 2, 0]), SCHEME)
    assert got["accuracy"] == 0.5 and got["within_one"] == 0.75
    assert got["per_level"]["excellent"] == {"n": 2, "accuracy": 0.5}
    assert got["per_level"]["good"]["n"] == 0 and math.isnan(got["per_level"]["good"]["accuracy"])
    assert got["confusion"][0] == [1, 1, 0, 0, 0] and np.sum(got["confusion"]) == 4


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    got = agreement.level_reliability(confidence, np.array([True, True, True, False]))
    assert got["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)
    assert sum(got["n"]) == 4 and got["accuracy"][0] is None and got["accuracy"][9] == 1.0
    flat = agreement.score_calibration(np.array([1.0, 2, 3, 4]), np.array([2.0, 3, 4, 5]))
    assert flat["calibration_error"] == pytest.approx(1.0) and flat["bias"] == pytest.approx(1.0)


def test_equal_to_scikit_learn() -> None:
    reference = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(1)
    mos, predicted = rng.uniform(1, 5, 300), rng.integers(0, 5, 300)
    truth = SCHEME.hard(mos)
    got = agreement.level_accuracy(mos, predicted, SCHEME)
    assert got["confusion"] == reference.confusion_matrix(truth, predicted, labels=range(5)).tolist()
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted), abs=1e-12)
    recalls = reference.recall_score(truth, predicted, average=None, labels=range(5))
    assert [entry["accuracy"] for entry in got["per_level"].values()] == pytest.approx(recalls.tolist(), abs=1e-12)
    confidence, right = rng.uniform(0.001, 0.999, 300), rng.uniform(size=300) < 0.5
    curve = agreement.level_reliability(confidence, right)
    accuracy, stated = calibration.calibration_curve(right, confidence, n_bins=10)
    assert curve["accuracy"] == pytest.approx(accuracy.tolist(), abs=1e-12)
    assert curve["confidence"] == pytest.approx(stated.tolist(), abs=1e-12)
    score = rng.uniform(1, 5, 300)
    assert rmse(mos, score) == pytest.approx(np.sqrt(reference.mean_squared_error(mos, score)), abs=1e-12)


def test_calibrated_forecasts_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.2, 1, 20000)
    assert agreement.level_reliability(confidence, rng.uniform(size=20000) < confidence)["ece"] < 0.02
    assert agreement.level_reliability(confidence, rng.uniform(size=20000) < confidence**3)["ece"] > 0.1


def test_summary_counts_every_item() -> None:
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 30)
    probs = np.array([SCHEME.hard(mos) == k for k in range(5)]).T * 0.8 + 0.04
    score = SCHEME.expect(probs)
    score[:4], probs[:4] = np.nan, np.nan
    target = probs.copy()
    target[10:] = np.nan
    got = compute_metrics(mos, score, probs=probs, target=target, resamples=50)
    assert (got["n"], got["failed"]) == (26, 4)
    assert got["level_accuracy"] == 1.0 and got["ece"] == pytest.approx(0.16)
    assert got["distribution"]["n"] == 6 and got["distribution"]["kl"] == pytest.approx(0)
    assert got["notes"] == [] or all(isinstance(n, str) for n in got["notes"])
    assert {"srcc", "plcc", "plcc_logistic", "krcc", "rmse", "srcc_ci"} <= set(got)


@pytest.mark.parametrize(("mos", "score"), [([], []), ([1, 2], [1, 2]), ([1, 2, 3, 4], [2, 2, 2, 2])])
def test_summary_of_too_little_explains_itself(mos: list, score: list) -> None:
    got = compute_metrics(mos, score, probs=np.full((len(mos), 5), 0.2), target=np.full((len(mos), 5), 0.2))
    assert math.isnan(got["srcc"]) and math.isnan(got["srcc_ci"][0]) and got["notes"]


def test_a_model_without_level_probabilities_has_no_level_accuracy() -> None:
    """A model that predicts numbers has a score and no probabilities: nothing is counted as "excellent"."""
    mos = np.linspace(1, 5, 12)
    found = compute_metrics(mos, mos, probs=np.full((12, 5), np.nan), resamples=0)
    assert np.isnan(found["level_accuracy"]) and np.isnan(found["ece"]) and found["srcc"] == pytest.approx(1)
