"""Correlations equal scipy's, keep their invariances, and say NaN where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from q_align import metrics
from q_align.metrics.correlation import is_constant

REFERENCES = {
    "srcc": lambda a, b: stats.spearmanr(a, b).statistic,
    "plcc": lambda a, b: stats.pearsonr(a, b).statistic,
    "krcc": lambda a, b: stats.kendalltau(a, b).statistic,
}
# Halves between 1 and 5: exact in floating point, with many ties.
GRID = st.integers(2, 10).map(lambda v: v / 2)
PAIRS = st.integers(3, 40).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=GRID), arrays(np.float64, n, elements=GRID))
)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_scipy(name: str, ties: bool) -> None:
    rng = np.random.default_rng(3)
    for n in (3, 10, 500):
        a = rng.normal(size=n)
        b = 0.5 * a + rng.normal(size=n)
        if ties:
            a, b = np.round(2 * a), np.round(2 * b)
        if np.ptp(a) and np.ptp(b):
            assert getattr(metrics, name)(a, b) == pytest.approx(REFERENCES[name](a, b), abs=1e-12)


def test_hand_worked() -> None:
    mos, score = [1, 2, 3, 4, 5], [2, 1, 4, 3, 5]
    assert metrics.srcc(mos, score) == pytest.approx(1 - 6 * 4 / (5 * 24))  # squared rank differences: 1 1 1 1 0
    assert metrics.krcc(mos, score) == pytest.approx((8 - 2) / 10)  # two of ten pairs are discordant
    assert metrics.plcc(mos, score) == pytest.approx(8 / 10)
    assert metrics.rmse(mos, score) == pytest.approx(math.sqrt(4 / 5))


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=60, deadline=None)
@given(data=PAIRS, shift=st.integers(-8, 8), factor=st.sampled_from([0.25, 2.0, 8.0]), seed=st.integers(0, 99))
def test_invariances(name: str, data: tuple, shift: int, factor: float, seed: int) -> None:
    mos, score = data
    measure = getattr(metrics, name)
    value = measure(mos, score)
    if math.isnan(value):
        assert is_constant(mos) or is_constant(score)
        return
    assert -1 <= value <= 1
    assert measure(score, mos) == pytest.approx(value, abs=1e-12)  # symmetric
    assert measure(mos, factor * score + shift) == pytest.approx(value, abs=1e-12)  # affine
    assert measure(mos, -score) == pytest.approx(-value, abs=1e-12)
    perm = np.random.default_rng(seed).permutation(len(mos))
    assert measure(mos[perm], score[perm]) == pytest.approx(value, abs=1e-12)
    if name != "plcc":  # rank measures survive any rising function
        assert measure(mos, np.exp(score)) == pytest.approx(value, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=PAIRS)
def test_ranks_with_ties_equal_scipy(data: tuple) -> None:
    mos, score = data
    assume(np.ptp(mos) > 0 and np.ptp(score) > 0)
    for name, reference in REFERENCES.items():
        assert getattr(metrics, name)(mos, score) == pytest.approx(reference(mos, score), abs=1e-12)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(
    ("mos", "score"),
    [
        ([], []),
        ([1.0], [2.0]),
        ([1.0, 2.0], [1.0, 2.0]),
        ([1, 2, 3], [3, 3, 3]),
        ([2, 2, 2], [1, 2, 3]),
        ([1, 2, float("nan")], [1, 2, 3]),
        ([1, 2, 3], [0.1 + 0.2, 0.3, 0.3]),  # constant but for rounding
    ],
)
def test_undefined_is_nan(name: str, mos: list, score: list) -> None:
    assert math.isnan(getattr(metrics, name)(mos, score))


@pytest.mark.parametrize("name", REFERENCES)
def test_missing_values_are_left_out(name: str) -> None:
    mos, score = [1, 2, 3, 4, 5, float("nan")], [1, 3, 2, None, float("inf"), 4]
    score = [float("nan") if s is None else s for s in score]
    assert getattr(metrics, name)(mos, score) == pytest.approx(getattr(metrics, name)([1, 2, 3], [1, 3, 2]))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="3 MOS values but 2 scores"):
        metrics.srcc([1, 2, 3], [1, 2])


def test_extreme_magnitudes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(size=30)
    for factor in (1e-160, 1e160):
        assert metrics.plcc(a * factor, b) == pytest.approx(metrics.plcc(a, b), abs=1e-12)


def test_srcc_within_contents() -> None:
    """Contents differ in level, versions of one content rank the other way round: across +, within -1."""
    mos = np.array([1, 1.1, 1.2, 3, 3.1, 3.2, 5, 5.1])
    score = np.array([1.2, 1.1, 1, 3.2, 3.1, 3, 5.1, 5])
    found = metrics.within_content_srcc(mos, score, ["a"] * 3 + ["b"] * 3 + ["c"] * 2)
    assert found == {"srcc": pytest.approx(-1), "contents": 3, "defined": 2}  # two items of "c" are too few
    assert metrics.srcc(mos, score) > 0.7
    none = metrics.within_content_srcc([1, 2], [1, 2], ["a", "b"])
    assert np.isnan(none["srcc"]) and none["defined"] == 0
    missing = metrics.within_content_srcc([1, 2, 3, np.nan], [1, 2, 3, 4], ["a"] * 4)
    assert missing["srcc"] == pytest.approx(1)
