"""Calibration: monotone maps that find what made the data, read back from JSON, in the data set's own direction."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q_align.errors import ConfigError, QAlignError
from q_align.evaluation.calibration import fit_calibration
from q_align.levels import LevelScheme
from q_align.models.card import ModelCard
from q_align.readout import ReadoutSpec
from q_align.score.scale import KINDS, LEVEL, Scale, find_scale, map_scores
from q_align.types import Score

SCORE = np.random.default_rng(0).uniform(1, 5, 300)
CURVE = 20 + 60 / (1 + np.exp(-(SCORE - 3) / 0.5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("better", [True, False])
def test_fits_are_monotone_and_survive_json(kind: str, better: bool) -> None:
    mos = CURVE + np.random.default_rng(1).normal(0, 3, 300)
    record = json.loads(
        json.dumps(fit_calibration(SCORE, mos if better else 100 - mos, kind=kind, higher_is_better=better))
    )
    found = map_scores(record, np.linspace(0, 6, 500))
    assert (np.diff(found) * (1 if better else -1) >= -1e-9).all()
    assert record["n"] == 300
    straight = fit_calibration(SCORE, mos, kind="affine")["rmse"]
    assert record["rmse"] <= straight + 1e-9
    if kind == "logistic":
        assert record["rmse"] == pytest.approx(3, rel=0.15)


def test_known_curves_are_found() -> None:
    np.testing.assert_allclose(map_scores(fit_calibration(SCORE, CURVE, kind="logistic"), SCORE), CURVE, atol=1e-3)
    np.testing.assert_allclose(map_scores(fit_calibration(SCORE, CURVE, kind="isotonic"), SCORE), CURVE, atol=0.5)
    record = fit_calibration(SCORE, 3 * SCORE - 7, kind="affine")
    assert (record["slope"], record["offset"]) == pytest.approx((3, -7))


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(-5, 5)), min_size=10, max_size=40), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_isotonic_beats_every_other_rising_curve(points: list[tuple[int, float]], seed: int) -> None:
    score, mos = np.array(points, dtype=float).T
    mos += score
    if not ((score - score.mean()) * (mos - mos.mean())).sum() > 0:
        return
    record = fit_calibration(score, mos, kind="isotonic")
    other = np.maximum.accumulate(np.random.default_rng(seed).normal(6, 4, 13))[score.astype(int)]
    assert record["rmse"] ** 2 <= np.mean((other - mos) ** 2) + 1e-9
    assert map_scores(record, score).mean() == pytest.approx(mos.mean(), abs=1e-6)


def test_std_follows_the_slope() -> None:
    record = fit_calibration(SCORE, 3 * SCORE - 7, kind="affine")
    scale = Scale("mos:x", record)
    assert scale.apply(3.0, 0.5) == pytest.approx((2.0, 1.5))
    assert scale.apply(3.0) == (pytest.approx(2.0), None)


def test_scales_by_name() -> None:
    trained = [
        {"source": "koniq", "mos_range": [0, 100]},
        {"source": "live", "mos_range": [0, 90], "higher_is_better": False},
    ]
    calibration = {"koniq": {"kind": "affine", "slope": 10.0, "offset": 1.0}}

    card = ModelCard("nano", trained_on=trained, calibration=calibration)

    def at(name: str, value: float) -> float:
        found = find_scale(name, card).apply(value)[0]
        assert found is not None
        return found

    assert at("level", 2.5) == 2.5
    assert [at("unit", v) for v in (1, 3, 5)] == [0.0, 0.5, 1.0]
    assert at("percent", 2) == pytest.approx(25)
    assert at("mos:koniq", 2) == pytest.approx(21)  # calibrated
    assert [at("mos:live", v) for v in (1, 5)] == pytest.approx([90, 0])  # trained on: its range, inverted
    with pytest.raises(
        ConfigError, match=r"unknown scale 'mos:konik' .did you mean 'mos:koniq'.*; scales of this model are"
    ):
        at("mos:konik", 1)


def test_bad_fits_are_refused() -> None:
    with pytest.raises(QAlignError, match="at least 10 items with MOS and score, got 3"):
        fit_calibration([1, 2, 3], [1, 2, 3])
    with pytest.raises(QAlignError, match="do not rise with the MOS"):
        fit_calibration(SCORE, -CURVE)
    with pytest.raises(QAlignError, match="do not rise"):
        fit_calibration(np.ones(20), np.arange(20))
    with pytest.raises(ConfigError, match=r"unknown calibration 'afine' .did you mean 'affine'"):
        fit_calibration(SCORE, CURVE, kind="afine")
    with pytest.raises(QAlignError, match="unknown calibration None"):
        map_scores({}, 1.0)


def test_scores_and_rows_on_a_scale() -> None:
    card = ModelCard("nano", trained_on=[{"source": "x", "mos_range": [0, 80]}])
    scale = find_scale("mos:x", card)
    score = Score("a", 3.0, "fair", (0.0, 0.0, 1.0, 0.0, 0.0), 0.5, 0.9, frames=(1.0, None, 5.0))
    found = scale.score(score)
    assert (found.value, found.std, found.frames) == (40.0, 10.0, (0.0, None, 80.0))
    assert (found.level, found.probs, found.mass) == (score.level, score.probs, score.mass) and score.value == 3.0
    assert scale.row(score.row()) == found.row()
    failed = Score("b", error="broken")
    assert scale.score(failed) == failed and scale.apply(None, None) == (None, None)
    level = find_scale(LEVEL, card)
    assert level.identity and level.score(score) is score and not scale.identity


@pytest.mark.parametrize("kind", KINDS)
def test_items_without_a_score_or_a_mos_do_not_count(kind: str) -> None:
    score, mos = SCORE.copy(), CURVE.copy()
    score[:5], mos[5:9] = np.nan, np.inf
    assert fit_calibration(score, mos, kind=kind) == fit_calibration(SCORE[9:], CURVE[9:], kind=kind)


def test_isotonic_knots_are_the_ends_of_its_plateaus() -> None:
    score = np.arange(1.0, 13.0)
    record = fit_calibration(score, [1, 1, 1, 1, 5, 5, 5, 5, 9, 9, 9, 9], kind="isotonic")
    assert record["score"] == [1, 4, 5, 8, 9, 12] and record["mos"] == [1, 1, 5, 5, 9, 9]


def test_a_thinned_isotonic_fit_keeps_both_ends() -> None:
    record = fit_calibration(np.arange(500.0), np.arange(500.0) ** 2, kind="isotonic")
    assert len(record["score"]) == 100
    assert (record["score"][0], record["score"][-1]) == (0, 499)


def test_scales_of_other_level_values() -> None:
    card = ModelCard("nano", ReadoutSpec("levels", LevelScheme(values=(10, 8, 6, 4, 2))))
    assert [find_scale("unit", card).apply(v)[0] for v in (2, 6, 10)] == pytest.approx([0, 0.5, 1])
    assert [find_scale("percent", card).apply(v)[0] for v in (2, 6, 10)] == pytest.approx([0, 50, 100])
