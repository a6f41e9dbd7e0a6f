"""Runs of one source: the same draws, batches of one source, the same order in every process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.same_source_sampler import SameSourceBatchSampler
from q_align.errors import ConfigError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(SIZES, st.integers(2, 8), st.integers(0, 99), st.integers(0, 5))
def test_runs(sizes: list[int], run: int, seed: int, epoch: int) -> None:
    sources = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    plain = EpochSampler(len(sources), seed=seed)
    sampler = SameSourceBatchSampler(plain, sources, run=run, seed=seed)
    sampler.set_epoch(epoch)
    draws = list(sampler)
    assert draws == list(sampler)
    assert sorted(draws) == sorted(plain)
    assert len(sampler) == len(draws)
    rows = np.array(draws) % len(sources)
    batches = rows[: sum(size // run for size in sizes) * run].reshape(-1, run)
    assert all(len(set(sources[batch])) == 1 for batch in batches)


def test_epochs_and_seeds_differ() -> None:
    orders = set()
    for seed in (0, 1):
        sampler = SameSourceBatchSampler(EpochSampler(60, seed=seed), [0] * 30 + [1] * 30, run=4, seed=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.add(tuple(draw % 60 for draw in sampler))
    assert len(orders) == 4


def test_a_run_needs_a_pair() -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size must be >= 2, got 1"):
        SameSourceBatchSampler(EpochSampler(2, seed=0), [0, 0], run=1, seed=0)
