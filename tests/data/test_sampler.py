"""Batches of one source: the same indices, batches of one source, the same order in every process."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.length_grouped_sampler import LengthGroupedSampler
from q_align.data.same_source_sampler import SameSourceBatchSampler

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(SIZES, st.integers(2, 8), st.integers(0, 99), st.integers(0, 5))
def test_whole_batches_hold_one_source(sizes: list[int], size: int, seed: int, epoch: int) -> None:
    sources = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    plain = EpochSampler(len(sources), seed=seed)
    sampler = SameSourceBatchSampler(plain, sources, batch_size=size, seed=seed)
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert indices == list(sampler)
    assert sorted(indices) == sorted(plain)
    assert len(sampler) == len(indices)
    rows = np.array(indices) % len(sources)
    batches = rows[: sum(n // size for n in sizes) * size].reshape(-1, size)
    assert all(len(set(sources[batch])) == 1 for batch in batches)


def test_a_fresh_sampler_is_at_the_first_epoch() -> None:
    plain = EpochSampler(9, seed=3)
    grouped = LengthGroupedSampler(plain, np.arange(9), batch_size=2, seed=3)
    assert sorted(plain) == sorted(grouped) == list(range(9)), "visit 0 of every row"
    assert len(plain) == len(grouped) == 9
    grouped.set_epoch(2)
    assert sorted(grouped) == list(range(18, 27)), "visit 2 of every row"


def test_epochs_and_seeds_differ() -> None:
    orders = set()
    for seed in (0, 1):
        sampler = SameSourceBatchSampler(EpochSampler(60, seed=seed), [0] * 30 + [1] * 30, batch_size=4, seed=seed)
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.add(tuple(index % 60 for index in sampler))
    assert len(orders) == 4


def test_batches_of_the_sources_are_mixed() -> None:
    sources = np.repeat([0, 1], 30)
    order = sources[np.array(list(SameSourceBatchSampler(EpochSampler(60, seed=0), sources, batch_size=2, seed=0)))]
    assert (np.diff(order) != 0).sum() > 8


def test_batches_of_all_lengths_are_mixed() -> None:
    """Else a model would see small images first in every window, and large ones last."""
    lengths = np.arange(60)
    order = lengths[np.array(list(LengthGroupedSampler(EpochSampler(60, seed=0), lengths, batch_size=2, seed=0)))]
    batches = order.reshape(-1, 2)
    assert (np.diff(batches) == 1).all()
    assert abs(np.corrcoef(batches[:, 0], np.arange(30))[0, 1]) < 0.5
