"""The logistic fits recover hand-worked curves, do not depend on units, and report what went wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from q_align.metrics import fit_logistic, plcc
from q_align.metrics.logistic import logistic_curve


def noisy(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.uniform(1, 5, n)
    return logistic_curve(score, (4.8, 1.2, 3.0, 0.5)) + rng.normal(0, 0.2, n), score


def test_four_parameters_hand_worked() -> None:
    # y = 1 + 4 / (1 + exp(-(x - 3) / 0.5)): odds of 1/7, 1/3, 1, 3, 7 give 1 + 4 x (1/8, 1/4, 1/2, 3/4, 7/8)
    score = 3 + 0.5 * np.log([1 / 7, 1 / 3, 1, 3, 7])
    mos = [1.5, 2.0, 3.0, 4.0, 4.5]
    fit = fit_logistic(mos, score, parameters=4)
    assert fit.converged and fit.note == ""
    assert fit.beta == pytest.approx((5, 1, 3, 0.5), abs=1e-6)
    assert fit.rmse == pytest.approx(0, abs=1e-8) and fit.plcc == pytest.approx(1, abs=1e-12)


def test_five_parameters_hand_worked() -> None:
    # y = 4 (1/2 - 1 / (1 + exp(2 (x - 3)))) + x / 2 + 1; odds = exp(2 (x - 3)): the bracket is odds / (1 + odds) - 1/2
    odds = np.array([1 / 7, 1 / 3, 1, 3, 7, 15])
    score = 3 + np.log(odds) / 2
    mos = 4 * (odds / (1 + odds) - 0.5) + score / 2 + 1
    assert mos[2] == 2.5  # centre: bracket 0, 3/2 + 1
    fit = fit_logistic(mos, score, parameters=5)
    assert fit.converged and fit.monotone
    assert fit.beta == pytest.approx((4, 2, 3, 0.5, 1), abs=1e-4)
    assert fit.rmse == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("parameters", [4, 5])
def test_no_worse_than_a_general_optimiser_from_good_starts(parameters: int) -> None:
    mos, score = noisy()
    fit = fit_logistic(mos, score, parameters=parameters)
    starts = {4: (4.8, 1.2, 3.0, 0.5), 5: (3.6, 2.0, 3.0, 0.01, 3.0)}
    found, _ = curve_fit(lambda x, *b: logistic_curve(x, b), score, mos, p0=starts[parameters], maxfev=20000)
    reference = np.sqrt(np.mean((logistic_curve(score, tuple(found)) - mos) ** 2))
    assert fit.rmse == pytest.approx(reference, rel=1e-6)
    assert fit.rmse == pytest.approx(np.sqrt(np.mean((fit(score) - mos) ** 2)), rel=1e-12)
    assert fit.plcc == pytest.approx(plcc(mos, fit(score)), abs=1e-12)


@pytest.mark.parametrize("parameters", [4, 5])
@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-1000, 1000), factor=st.floats(0.01, 1000), flip=st.booleans(), seed=st.integers(0, 20))
def test_units_do_not_matter(parameters: int, shift: float, factor: float, flip: bool, seed: int) -> None:
    mos, score = noisy(60, seed)
    base = fit_logistic(mos, score, parameters=parameters)
    sign = -1 if flip else 1
    moved = fit_logistic(mos, sign * factor * score + shift, parameters=parameters)
    assert moved.plcc == pytest.approx(base.plcc, abs=1e-5)
    scaled = fit_logistic(factor * mos + shift, score, parameters=parameters)
    assert scaled.rmse == pytest.approx(factor * base.rmse, rel=1e-4)


@pytest.mark.parametrize("parameters", [4, 5])
def test_straight_data_and_a_step(parameters: int) -> None:
    score = np.linspace(1, 5, 50)
    line = fit_logistic(2 * score + 1, score, parameters=parameters)
    assert line.plcc > 0.99999
    step = fit_logistic(np.where(score > 3, 4.0, 2.0), score, parameters=parameters)
    assert step.plcc > 0.98 and "almost linear or a step" in step.note
    if parameters == 4:
        assert "almost linear or a step" in line.note


def test_a_turning_five_parameter_curve_is_reported() -> None:
    score = np.linspace(-3, 3, 80)
    mos = logistic_curve(score, (8.0, 3.0, 0.0, -1.0, 0.0))  # falls, rises, falls
    assert not fit_logistic(mos, score, parameters=5).monotone


@pytest.mark.parametrize(
    ("mos", "score", "why"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "too few"),
        ([1, 2, 3, 4, 5, 6], [2] * 6, "scores are constant"),
        ([3] * 6, [1, 2, 3, 4, 5, 6], "MOS values are constant"),
    ],
)
@pytest.mark.parametrize("parameters", [4, 5])
def test_no_fit_says_why(mos: list, score: list, why: str, parameters: int) -> None:
    fit = fit_logistic(mos, score, parameters=parameters)
    assert fit.beta == () and not fit.converged and np.isnan(fit.plcc) and np.isnan(fit.rmse)
    assert why in fit.note


def test_only_four_or_five_parameters() -> None:
    with pytest.raises(ValueError, match="got 3"):
        fit_logistic([1, 2, 3], [1, 2, 3], parameters=3)
