"""Resampled ranks equal ranking the resample; intervals cover; contents are drawn whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from q_align.metrics import bootstrap, compute_metrics, srcc


@settings(max_examples=60, deadline=None)
@given(values=arrays(np.float64, 12, elements=st.integers(0, 6).map(float)), seed=st.integers(0, 999))
def test_ranks_of_a_resample(values: np.ndarray, seed: int) -> None:
    counts = np.bincount(np.random.default_rng(seed).integers(0, 12, 12), minlength=12)
    drawn = np.repeat(np.arange(12), counts)
    expected = stats.rankdata(values[drawn])
    got = bootstrap.resampled_ranks(bootstrap.tie_order(values), counts[None].astype(float))[0][drawn]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_correlations_equal_those_of_the_resampled_items() -> None:
    rng = np.random.default_rng(1)
    mos, score = np.round(rng.normal(size=40), 1), rng.normal(size=40)
    ranked, linear = bootstrap.bootstrap_correlations(mos, [score, -score], number=20, seed=5)
    blocks = np.concatenate(list(bootstrap.resample_counts(40, number=20, seed=5)))
    for row, counts in enumerate(blocks):
        drawn = np.repeat(np.arange(40), counts.astype(int))
        assert ranked[row, 0] == pytest.approx(stats.spearmanr(mos[drawn], score[drawn]).statistic, abs=1e-12)
        assert linear[row, 0] == pytest.approx(stats.pearsonr(mos[drawn], score[drawn]).statistic, abs=1e-12)
        assert ranked[row, 1] == pytest.approx(-ranked[row, 0], abs=1e-12)


def test_contents_are_drawn_whole() -> None:
    content = np.array(["a", "b", "a", "c", "b", "c", "c"])
    for counts in bootstrap.resample_counts(7, content, number=50, seed=0):
        for name in "abc":
            assert (np.ptp(counts[:, content == name], axis=1) == 0).all()
        assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()  # as many contents as there are


def test_one_content_falls_back_to_items_and_says_so() -> None:
    rng = np.random.default_rng(0)
    mos = rng.normal(size=30)
    assert compute_metrics(mos, mos + rng.normal(size=30), content=["x"] * 30)["ci"]["unit"] == "item"
    assert compute_metrics(mos, mos + rng.normal(size=30), content=[i // 3 for i in range(30)])["ci"] == {
        "level": 0.95, "unit": "content", "units": 10, "resamples": 1000
    }  # fmt: skip


def test_intervals_by_content_are_wider_when_contents_agree() -> None:
    rng = np.random.default_rng(2)
    content = np.repeat(np.arange(15), 20)
    mos = rng.normal(size=15)[content] + 0.05 * rng.normal(size=300)
    score = mos + rng.normal(size=15)[content]  # the error belongs to the content
    item, grouped = compute_metrics(mos, score), compute_metrics(mos, score, content=content)
    assert np.ptp(grouped["srcc_ci"]) > 1.5 * np.ptp(item["srcc_ci"])


def test_coverage() -> None:
    """The 95% interval holds the true correlation in about 95 of 100 samples."""
    truth, hits = 0.8, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=80)
        b = truth * a + np.sqrt(1 - truth**2) * rng.normal(size=80)
        low, high = bootstrap.percentile_interval(
            bootstrap.bootstrap_correlations(a, [b], number=300, seed=seed)[1][:, 0]
        )
        hits += low <= truth <= high
    assert 176 <= hits <= 198


def test_seed_decides() -> None:
    rng = np.random.default_rng(0)
    mos, score = rng.normal(size=50), rng.normal(size=50)
    assert compute_metrics(mos, score, seed=1)["srcc_ci"] == compute_metrics(mos, score, seed=1)["srcc_ci"]
    assert compute_metrics(mos, score, seed=1)["srcc_ci"] != compute_metrics(mos, score, seed=2)["srcc_ci"]
    low, high = compute_metrics(mos, score)["srcc_ci"]
    assert low < srcc(mos, score) < high


def test_means_are_those_of_the_resampled_items() -> None:
    columns = np.random.default_rng(3).normal(size=(30, 2))
    found = bootstrap.bootstrap_means(columns, number=20, seed=5)
    blocks = np.concatenate(list(bootstrap.resample_counts(30, number=20, seed=5))).astype(int)
    np.testing.assert_allclose(found, [columns[np.repeat(np.arange(30), counts)].mean(0) for counts in blocks])
