"""Levels: what conversion keeps, for any numbers (hypothesis), against a slow reference, and at the edges."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from q_align.errors import ConfigError
from q_align.levels import LevelScheme

SCHEME = LevelScheme()
VALUES = np.asarray(SCHEME.values)
ODD = LevelScheme(words=("a", "b", "c"), values=(100.0, 30.0, 0.0))
MOS = st.floats(1, 5)
STD = st.floats(0, 3)
METHOD = st.sampled_from(["density", "interval"])


def reference(mos: float, std: float, method: str) -> list[float]:
    """DeQA-Score's soft label, one number after the other."""
    lower = min(4, max(1, math.floor(mos)))
    two = [(1 - (mos - lower) if k == lower else mos - lower if k == lower + 1 else 0.0) for k in (5, 4, 3, 2, 1)]
    if std < 0.2:
        return two
    if method == "density":
        raw = [math.exp(-((k - mos) ** 2) / (2 * std**2)) for k in (5, 4, 3, 2, 1)]
    else:
        phi = [0.5 * math.erfc(-(edge - mos) / std / math.sqrt(2)) for edge in (5.5, 4.5, 3.5, 2.5, 1.5, 0.5)]
        raw = [a - b for a, b in itertools.pairwise(phi)]
    total, first = sum(raw), sum(p * k for p, k in zip(raw, (5, 4, 3, 2, 1)))
    # alpha * total + 5 beta = 1, alpha * first + 15 beta = mos
    alpha = (mos - 3) / (first - 3 * total)
    probs = [max(0.0, alpha * p + (1 - alpha * total) / 5) for p in raw]
    probs = [p / sum(probs) for p in probs]
    # 1e-9: 1.9 and 4.1 are both 0.1 off, whatever their last digit
    return probs if abs(sum(p * k for p, k in zip(probs, (5, 4, 3, 2, 1))) - mos) <= 0.1 + 1e-9 else two


@given(MOS.filter(lambda m: abs(m - 3) > 1e-3), STD, METHOD)
@example(1.9, 0.25, "density").via("a shift of 0.1 to the last digit")
@example(4.1, 0.25, "density").via("the same on the other side")
@settings(max_examples=300, deadline=None)
def test_soft_equals_slow_reference(mos: float, std: float, method: str) -> None:
    expected = reference(mos, std, method)
    found = SCHEME.soft(mos, std, method=method)
    if abs(std - 0.2) > 1e-9:  # at the rule's own border rounding decides
        np.testing.assert_allclose(found, expected, atol=1e-6)


@given(MOS, STD, METHOD)
@settings(max_examples=300, deadline=None)
def test_soft_is_a_distribution_that_keeps_its_mean(mos: float, std: float, method: str) -> None:
    probs = SCHEME.soft(mos, std, method=method)
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    clipped = bool((probs == 0).any())
    assert abs(SCHEME.expect(probs) - mos) <= (0.1 if clipped else 1e-6) + 1e-8


@given(MOS, STD, METHOD)
@settings(max_examples=300, deadline=None)
def test_soft_is_symmetric(mos: float, std: float, method: str) -> None:
    np.testing.assert_allclose(
        SCHEME.soft(6 - mos, std, method=method), SCHEME.soft(mos, std, method=method)[::-1], atol=1e-5
    )


@given(MOS, METHOD)
@settings(deadline=None)
def test_soft_tends_to_two_levels(mos: float, method: str) -> None:
    for std in (0.19, 1e-3, 0.0, None, float("nan")):
        np.testing.assert_array_equal(SCHEME.soft(mos, std, method=method), SCHEME.linear(mos))


@given(st.floats(0, 100), STD, METHOD)
@settings(deadline=None)
def test_soft_of_uneven_values(mos: float, std: float, method: str) -> None:
    probs = ODD.soft(mos, 25 * std, method=method)
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    assert abs(ODD.expect(probs) - mos) <= 2.5 + 1e-6  # 0.1 on a scale of length 4


def test_soft_is_continuous_in_the_middle() -> None:
    near = SCHEME.soft([3 - 1e-5, 3.0, 3 + 1e-5], 0.5)
    np.testing.assert_allclose(near, near[1][None].repeat(3, 0), atol=1e-4)
    assert near[1][2] > near[1][1] > 0.05


def test_soft_keeps_shapes() -> None:
    mos = np.linspace(1, 5, 12).reshape(3, 4)
    whole = SCHEME.soft(mos, np.full((3, 4), 0.7))
    assert whole.shape == (3, 4, 5)
    np.testing.assert_array_equal(whole[1, 2], SCHEME.soft(mos[1, 2], 0.7))


@given(MOS)
def test_linear_keeps_the_mean_on_two_neighbours(mos: float) -> None:
    probs = SCHEME.linear(mos)
    assert abs(SCHEME.expect(probs) - mos) < 1e-12
    used = np.flatnonzero(probs)
    assert len(used) <= 2
    assert np.ptp(used) <= 1


@given(st.integers(2, 9), st.lists(st.floats(-10, 20), min_size=2, max_size=30))
def test_hard_is_monotone_and_total(levels: int, mos: list[float]) -> None:
    scheme = LevelScheme(words=tuple(f"w{i}" for i in range(levels)), values=tuple(range(levels, 0, -1)))
    index = scheme.hard(np.sort(mos))
    assert (np.diff(index) <= 0).all()
    assert index.min() >= 0
    assert index.max() < levels


def test_hard_borders_belong_to_the_lower_level() -> None:
    # equal intervals of 0.8 over 1..5
    assert [SCHEME.words[i] for i in SCHEME.hard([1.0, 1.8, 1.81, 2.6, 3.4, 4.2, 4.21, 5.0])] == (
        ["bad", "bad", "poor", "poor", "fair", "good", "excellent", "excellent"]
    )


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any))
def test_votes_keep_the_mean_opinion(votes: list[int]) -> None:
    shares = SCHEME.from_votes(votes)
    assert abs(shares.sum() - 1) < 1e-12
    assert shares.min() >= 0
    marks = np.linspace(1, 5, len(votes))
    assert abs(SCHEME.expect(shares) - np.dot(marks, votes) / sum(votes)) < 1e-9
    if len(votes) == 5:
        np.testing.assert_allclose(shares, np.array(votes[::-1]) / sum(votes))


def test_ten_bins_on_five_levels() -> None:
    # AVA's marks 1..10 lie 4/9 of a level apart; mark 2 is 1.444: 5/9 bad, 4/9 poor
    np.testing.assert_allclose(SCHEME.from_votes([0, 9, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 0, 0, 4 / 9, 5 / 9])


def test_to_scale_turns_dmos_round() -> None:
    np.testing.assert_allclose(SCHEME.to_scale([0, 25, 100], (0, 100)), [1, 2, 5])
    np.testing.assert_allclose(SCHEME.to_scale([0, 25, 100], (0, 100), higher_is_better=False), [5, 4, 1])


def test_spread_is_the_standard_deviation() -> None:
    probs = np.array([0.5, 0, 0, 0, 0.5])
    assert SCHEME.spread(probs) == pytest.approx(2.0)
    assert SCHEME.spread(np.eye(5)) == pytest.approx(np.zeros(5), abs=1e-9)


@pytest.mark.parametrize(
    ("words", "values", "problem"),
    [
        (("one",), (1,), "at least two"),
        (("a", "b"), (1, 2, 3), "at least two words and one value each"),
        (("a", "a"), (2, 1), "must differ"),
        (("a", "b"), (1, 2), "strictly fall"),
        (("a", "b", "c"), (3, 3, 1), "strictly fall"),
    ],
)
def test_bad_schemes_are_refused(words: tuple, values: tuple, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        LevelScheme(words=words, values=values)


def test_bad_opinions_are_refused() -> None:
    with pytest.raises(ConfigError, match="std of opinions must be >= 0, got -1"):
        SCHEME.soft([3.0, 2.0], [0.5, -1.0])
    with pytest.raises(ConfigError, match="'density' or 'interval', got 'normal'"):
        SCHEME.soft(3.0, 0.5, method="normal")
    with pytest.raises(ConfigError, match="at least two bins"):
        SCHEME.from_votes([7])
    with pytest.raises(ConfigError, match="not all zero"):
        SCHEME.from_votes([[1, 2], [0, 0]])
