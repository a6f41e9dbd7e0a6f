"""Tests of a difference keep their error rate, agree with each other, and find a real one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from q_align.metrics import compare_scores, holm, steiger, williams


def sample(seed: int, *, n: int = 60, noise: tuple[float, float] = (0.7, 0.7)) -> tuple[np.ndarray, dict]:
    rng = np.random.default_rng(seed)
    mos = rng.normal(size=n)
    shared = rng.normal(size=n)
    a, b = (mos + s * (0.6 * shared + rng.normal(size=n)) for s in noise)
    return mos, {"a": a, "b": b}


def test_hand_worked() -> None:
    # r_a = .5, r_b = .3, r_ab = .6, n = 103: |R| = 1 - .25 - .09 - .36 + .18 = .48, mean r = .4
    t, p = williams(0.5, 0.3, 0.6, 103)
    assert t == pytest.approx(0.2 * math.sqrt(102 * 1.6 / (2 * 102 / 100 * 0.48 + 0.16 * 0.4**3)), rel=1e-12)
    assert 0.01 < p < 0.02
    # psi = .6 (1 - .32) - .08 (1 - .32 - .36) = .3824; s = .3824 / .84^2
    z, p = steiger(0.5, 0.3, 0.6, 103)
    s = 0.3824 / 0.84**2
    assert z == pytest.approx((math.atanh(0.5) - math.atanh(0.3)) * math.sqrt(100 / (2 - 2 * s)), rel=1e-12)
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-9)


def test_antisymmetric() -> None:
    mos, scores = sample(0, noise=(0.5, 0.9))
    one = compare_scores(mos, scores)[0]["plcc"]
    two = compare_scores(mos, {"b": scores["b"], "a": scores["a"]})[0]["plcc"]
    for name in ("difference", "williams_t", "steiger_z"):
        assert one[name] == pytest.approx(-two[name])
    assert one["difference_ci"][0] == pytest.approx(-two["difference_ci"][1])
    assert one["williams_p"] == pytest.approx(two["williams_p"])


def test_false_alarms_are_about_five_percent() -> None:
    alarms = {"williams_p": 0, "steiger_p": 0, "bootstrap_p": 0}
    for seed in range(300):
        got = compare_scores(*sample(seed), resamples=200)[0]["plcc"]
        for name in alarms:
            alarms[name] += got[name] < 0.05
    for name, count in alarms.items():
        assert 4 <= count <= 30, f"{name}: {count} of 300"


def test_a_real_difference_is_found_by_all() -> None:
    got = compare_scores(*sample(1, n=300, noise=(0.5, 1.0)))[0]
    for measure in ("srcc", "plcc"):
        assert got[measure]["difference"] > 0 and got[measure]["difference_ci"][0] > 0
        assert all(got[measure][p] < 0.01 for p in ("williams_p", "steiger_p", "bootstrap_p"))


def test_contents_make_the_bootstrap_more_careful() -> None:
    rng = np.random.default_rng(0)
    content = np.repeat(np.arange(12), 25)
    mos = rng.normal(size=300)
    scores = {"a": mos + rng.normal(size=12)[content], "b": mos + 1.1 * rng.normal(size=12)[content]}
    by_item, by_content = compare_scores(mos, scores)[0], compare_scores(mos, scores, content)[0]
    assert by_item["unit"] == "item" and by_content["unit"] == "content"
    assert np.ptp(by_content["plcc"]["difference_ci"]) > 1.5 * np.ptp(by_item["plcc"]["difference_ci"])


def test_only_common_items_and_undefined_cases() -> None:
    mos, scores = sample(2)
    scores["a"][:5] = np.nan
    scores["b"][-5:] = np.nan
    assert compare_scores(mos, scores)[0]["n"] == 50
    same = compare_scores(mos, {"a": scores["a"], "b": scores["a"]})[0]["srcc"]
    assert same["difference"] == 0 and math.isnan(same["williams_p"]) and same["bootstrap_p"] == 1.0
    tiny = compare_scores([1, 2, 3], {"a": [1, 2, 3], "b": [1, 3, 2]})[0]["srcc"]
    assert math.isnan(tiny["bootstrap_p"]) and math.isnan(tiny["steiger_p"])
    flat = compare_scores(mos, {"a": np.ones(60), "b": scores["b"]})[0]["srcc"]
    assert math.isnan(flat["difference"]) and math.isnan(flat["bootstrap_p"])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.02, float("nan"), 0.9])
    assert corrected[0] == pytest.approx(0.04) and math.isnan(corrected[1]) and corrected[2] == pytest.approx(0.9)


def test_every_pair_of_three() -> None:
    mos, scores = sample(3)
    scores["c"] = -scores["a"]
    found = compare_scores(mos, scores, resamples=200)
    assert [r["models"] for r in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(r["srcc"]["holm_p"] >= r["srcc"]["bootstrap_p"] for r in found)


def test_rmse_and_accuracy_are_compared_on_the_same_resamples() -> None:
    """A model that is shifted by one level has the same SRCC, a worse RMSE and a worse accuracy."""
    rng = np.random.default_rng(3)
    mos = rng.uniform(1, 5, 120)
    good = mos + rng.normal(0, 0.3, 120)
    scores = {"good": good, "shifted": good + 1}
    correct = {name: np.abs(score - mos) < 0.5 for name, score in scores.items()}
    (pair,) = compare_scores(mos, scores, correct=correct, resamples=400)
    assert pair["srcc"]["difference"] == 0 and pair["srcc"]["bootstrap_p"] == 1
    rmse, accuracy = pair["rmse_raw"], pair["level_accuracy"]
    assert rmse["a"] == pytest.approx(np.sqrt(np.mean((good - mos) ** 2)))
    assert rmse["difference"] == pytest.approx(rmse["a"] - rmse["b"]) and rmse["difference_ci"][1] < 0
    assert rmse["holm_p"] < 0.01 and rmse["higher_is_better"] is False
    assert accuracy["a"] == pytest.approx(correct["good"].mean()) and accuracy["difference_ci"][0] > 0
    assert accuracy["holm_p"] < 0.01 and accuracy["higher_is_better"] is True
    few = compare_scores(mos, scores, np.repeat(np.arange(4), 30), correct=correct, resamples=400)[0]
    width = np.ptp(few["rmse_raw"]["difference_ci"])
    assert few["unit"] == "content" and np.isfinite(width) and width != np.ptp(rmse["difference_ci"])


def test_rmse_of_constant_scores_is_compared_although_correlations_are_undefined() -> None:
    mos = np.linspace(1, 5, 20)
    (pair,) = compare_scores(mos, {"a": mos, "b": np.full(20, 3.0)}, resamples=100)
    assert math.isnan(pair["srcc"]["b"]) and math.isnan(pair["srcc"]["bootstrap_p"])
    assert pair["rmse_raw"]["a"] == 0 and pair["rmse_raw"]["bootstrap_p"] < 0.05


@pytest.mark.parametrize(("r_a", "r_b", "r_ab"), [(1.0, 0.5, 0.5), (-1.0, 0.5, -0.5), (0.5, 0.5, 1.0)])
def test_a_perfect_correlation_has_no_test(r_a: float, r_b: float, r_ab: float) -> None:
    assert all(math.isnan(value) for value in steiger(r_a, r_b, r_ab, 100))


def test_the_p_of_the_bootstrap_agrees_with_the_analytic_one() -> None:
    ratios = []
    for seed in range(6):
        mos, scores = sample(seed, n=300)
        (found,) = compare_scores(mos, scores, resamples=1000)
        ratios.append(found["plcc"]["bootstrap_p"] / found["plcc"]["williams_p"])
    assert np.median(ratios) == pytest.approx(1, abs=0.15)
