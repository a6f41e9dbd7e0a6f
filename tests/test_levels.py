"""Levels: what conversion keeps, for any numbers (hypothesis), against a slow reference, and at the edges."""

from __future__ import annotations

import math
from fractions import Fraction

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


def reference(mos: float, std: float) -> list[float]:
    """DeQA-Score's soft label, one number after the other."""
    lower = min(4, max(1, math.floor(mos)))
    two = [(1 - (mos - lower) if k == lower else mos - lower if k == lower + 1 else 0.0) for k in (5, 4, 3, 2, 1)]
    if std < 0.2:
        return two
    raw = [math.exp(-((k - mos) ** 2) / (2 * std**2)) for k in (5, 4, 3, 2, 1)]
    total, first = sum(raw), sum(p * k for p, k in zip(raw, (5, 4, 3, 2, 1)))
    # alpha * total + 5 beta = 1, alpha * first + 15 beta = mos
    alpha = (mos - 3) / (first - 3 * total)
    probs = [max(0.0, alpha * p + (1 - alpha * total) / 5) for p in raw]
    probs = [p / sum(probs) for p in probs]
    # 1e-9: 1.9 and 4.1 are both 0.1 off, whatever their last digit
    return probs if abs(sum(p * k for p, k in zip(probs, (5, 4, 3, 2, 1))) - mos) <= 0.1 + 1e-9 else two


@given(MOS.filter(lambda m: abs(m - 3) > 1e-3), STD)
@example(1.9, 0.25).via("a shift of 0.1 to the last digit")
@example(4.1, 0.25).via("the same on the other side")
@settings(max_examples=300, deadline=None)
def test_soft_equals_slow_reference(mos: float, std: float) -> None:
    expected = reference(mos, std)
    found = SCHEME.soft(mos, std)
    if abs(std - 0.2) > 1e-9:  # at the rule's own border rounding decides
        np.testing.assert_allclose(found, expected, atol=1e-6)


@given(MOS, STD)
@settings(max_examples=300, deadline=None)
def test_soft_is_a_distribution_that_keeps_its_mean(mos: float, std: float) -> None:
    probs = SCHEME.soft(mos, std)
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    clipped = bool((probs == 0).any())
    assert abs(SCHEME.expect(probs) - mos) <= (0.1 if clipped else 1e-6) + 1e-8


@given(MOS, STD)
@settings(max_examples=300, deadline=None)
def test_soft_is_symmetric(mos: float, std: float) -> None:
    np.testing.assert_allclose(SCHEME.soft(6 - mos, std), SCHEME.soft(mos, std)[::-1], atol=1e-5)


@given(MOS)
@settings(deadline=None)
def test_soft_tends_to_two_levels(mos: float) -> None:
    for std in (0.19, 1e-3, 0.0, None, float("nan")):
        np.testing.assert_array_equal(SCHEME.soft(mos, std), SCHEME.linear(mos))


@given(st.floats(0, 100), STD)
@settings(deadline=None)
def test_soft_of_uneven_values(mos: float, std: float) -> None:
    probs = ODD.soft(mos, 25 * std)
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    assert abs(ODD.expect(probs) - mos) <= 2.5 + 1e-6  # 0.1 on a scale of length 4


@given(MOS, STD, st.floats(1e-2, 1e3), st.floats(-100, 100))
@example(3.3, 0.21, 25.0, 0.0).via("just above the least std")
@example(3.3, 0.19, 25.0, 0.0).via("just below the least std")
@settings(deadline=None)
def test_soft_does_not_depend_on_the_unit_of_the_scale(mos: float, std: float, unit: float, low: float) -> None:
    scheme = LevelScheme(values=tuple(low + unit * i for i in reversed(range(5))))
    if abs(std - 0.2) > 1e-6:  # at the border rounding decides
        found, expected = scheme.soft(low + unit * (mos - 1), unit * std), SCHEME.soft(mos, std)
        shift = abs(SCHEME.expect(SCHEME.soft(mos, std)) - mos)
        if shift < 0.0999:  # likewise at the largest shift
            np.testing.assert_allclose(found, expected, atol=1e-4)


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


RANGES = [(1, 5), (1, 10), (0, 100), (0, 10), (0, 1), (0, 94), (1, 100), (0, 5), (1, 9), (1, 7), (-1, 1), (0.5, 9.5)]


@pytest.mark.parametrize("mos_range", RANGES)
def test_rounding_leaves_borders_in_the_lower_level(mos_range: tuple[float, float]) -> None:
    """MOS 6.4 in 1..10 comes onto the level scale as 3.4000000000000004: still fair."""
    low, high = map(Fraction, mos_range)
    for k in range(1, 5):
        border = float(low + (high - low) * k / 5)
        mos = SCHEME.to_scale([border, border + 1e-6 * float(high - low)], mos_range)
        assert SCHEME.hard(mos).tolist() == [5 - k, 4 - k], border


def old_hard(scheme: LevelScheme, mos: np.ndarray) -> np.ndarray:
    """K equal intervals, whatever the values (Q-Align)."""
    k = len(scheme.words)
    step = np.ceil((mos - scheme.low) / (scheme.high - scheme.low) * k - 1e-9).astype(int) - 1
    return k - 1 - np.clip(step, 0, k - 1)


@given(
    st.integers(2, 9), st.floats(-100, 100), st.floats(1e-2, 50), st.lists(st.floats(-10, 110), min_size=1, max_size=40)
)
def test_hard_of_even_values_is_equal_intervals(k: int, low: float, gap: float, percent: list[float]) -> None:
    """Also of values whose gaps differ by rounding."""
    scheme = LevelScheme(words=tuple(map(str, range(k))), values=tuple(low + gap * i for i in reversed(range(k))))
    assert scheme.even
    mos = low + np.array([*percent, *np.linspace(0, 100, 20 * k + 1)]) / 100 * gap * (k - 1)
    np.testing.assert_array_equal(scheme.hard(mos), old_hard(scheme, mos))


def uneven(gaps: list[float]) -> LevelScheme:
    values = np.cumsum([0, *gaps])[::-1]
    return LevelScheme(words=tuple(map(str, range(len(values)))), values=tuple(values))


SCHEMES = st.lists(st.floats(0.1, 30), min_size=1, max_size=7).map(uneven)


def test_hard_of_uneven_values_by_hand() -> None:
    scheme = LevelScheme(values=(10, 4, 3, 2, 1))
    assert not scheme.even
    mos = [10.0, 7.01, 7.0, 4.0, 3.51, 3.5, 3.0, 2.5, 1.5, 1.0, 0.0, 11.0]
    assert scheme.hard(mos).tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 0]
    assert scheme.words[int(scheme.hard(4.0))] == "good"


@given(SCHEMES)
def test_the_value_of_a_level_is_of_that_level(scheme: LevelScheme) -> None:
    assert scheme.hard(scheme.values).tolist() == list(range(len(scheme.words)))


@given(SCHEMES, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_hard_of_uneven_values_is_the_nearest_value(scheme: LevelScheme, shares: list[float]) -> None:
    mos = scheme.low + np.array(shares) * (scheme.high - scheme.low)
    if not scheme.even:
        distance = np.abs(mos[:, None] - np.array(scheme.values))
        chosen = distance[np.arange(len(mos)), scheme.hard(mos)]
        assert (chosen <= distance.min(1) + 1e-8 * (scheme.high - scheme.low)).all()


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


def test_std_of_a_level_distribution() -> None:
    probs = np.array([0.5, 0, 0, 0, 0.5])
    assert SCHEME.std(probs) == pytest.approx(2.0)
    assert SCHEME.std(np.eye(5)) == pytest.approx(np.zeros(5), abs=1e-9)


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
    with pytest.raises(ConfigError, match="at least two bins"):
        SCHEME.from_votes([7])
    for votes in ([-1, 3], [np.inf, 1], [np.nan, 1]):
        with pytest.raises(ConfigError, match="finite, >= 0"):
            SCHEME.from_votes(votes)
    with pytest.raises(ConfigError, match="not all zero"):
        SCHEME.from_votes([[1, 2], [0, 0]])


def test_number_texts_by_hand() -> None:
    assert SCHEME.number_texts()[:3] == ["1.0", "1.1", "1.2"]
    assert SCHEME.number_texts()[-1] == "5.0"
    assert LevelScheme(words=("yes", "no"), values=(100, 0)).number_texts()[:2] == ["0.0", "2.5"]
    assert [SCHEME.format_number(mos) for mos in (5.2, 3.449, 1.0, 0.0)] == ["5.0", "3.4", "1.0", "1.0"]


@given(MOS)
def test_the_nearest_number_is_near(mos: float) -> None:
    assert abs(float(SCHEME.format_number(mos)) - mos) <= 0.05 + 1e-9
    assert SCHEME.format_number(mos) in SCHEME.number_texts()
