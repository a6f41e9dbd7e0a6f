"""Mixtures: lengths, proportions, caps; the same in every process and after every restart."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.mixture_sampler import LengthGroupedSampler, Mixture, counts
from q_align.data.same_source_sampler import SameSourceBatchSampler
from q_align.errors import ConfigError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def epoch_of(draws: EpochSampler, epoch: int) -> list[int]:
    draws.set_epoch(epoch)
    return list(draws)


def test_counts_by_hand() -> None:
    assert counts([100, 50]) == [100, 50]
    assert counts([100, 50], weights=[1, 2]) == [100, 100]
    assert counts([100, 50], caps=[30, None]) == [30, 50]
    assert counts([300, 100], temperature=0) == [200, 200]
    # shares 3^.5 : 1 of 400
    assert counts([300, 100], temperature=0.5) == [254, 146]
    # a cap holds whatever the temperature asks for
    assert counts([1000, 100], temperature=0, caps=[None, 120]) == [550, 120]
    assert counts([10], weights=[0.01]) == [1]


@pytest.mark.parametrize(
    ("options", "key"),
    [({"weights": [0]}, "weight"), ({"caps": [0]}, "cap"), ({"temperature": 1.5}, "temperature")],
)
def test_senseless_settings_are_refused(options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        counts([10], **options)


@given(SIZES, st.integers(0, 99))
def test_an_unweighted_epoch_shows_every_medium_once(sizes: list[int], seed: int) -> None:
    mixture = Mixture(sizes, counts(sizes), seed=seed)
    for epoch in (0, 3):
        draws = epoch_of(mixture, epoch)
        assert len(mixture) == len(draws)
        # the turn is the epoch: `draw = epoch * n + index`
        assert sorted(draws) == list(range(epoch * sum(sizes), (epoch + 1) * sum(sizes)))


@given(SIZES, st.data())
def test_draws_are_counted_and_never_repeat(sizes: list[int], data: st.DataObject) -> None:
    drawn = [data.draw(st.integers(1, 3 * n)) for n in sizes]
    mixture = Mixture(sizes, drawn, seed=1)
    ends = np.cumsum(sizes)
    everything: list[int] = []
    for epoch in range(4):
        draws = epoch_of(mixture, epoch)
        sets = np.searchsorted(ends, np.array(draws) % sum(sizes), side="right")
        assert [int((sets == s).sum()) for s in range(len(sizes))] == drawn
        everything += draws
    assert len(set(everything)) == len(everything)
    seen = Counter(draw % sum(sizes) for draw in everything)
    for s, end in enumerate(ends):
        times = [seen[i] for i in range(end - sizes[s], end)]
        assert max(times) - min(times) <= 1  # equally often in the long run


@given(SIZES, st.integers(0, 5), st.integers(0, 9))
def test_the_order_is_a_function_of_seed_and_epoch(sizes: list[int], epoch: int, seed: int) -> None:
    """Not of what came before: a restarted process, and any other one, sees the same."""
    kinds = np.arange(sum(sizes)) % 2
    one = Mixture(sizes, counts(sizes), seed=seed, kinds=kinds)
    for before in range(epoch):
        epoch_of(one, before)
    fresh = pickle.loads(pickle.dumps(Mixture(sizes, counts(sizes), seed=seed, kinds=kinds)))
    assert epoch_of(one, epoch) == epoch_of(fresh, epoch)


def test_seeds_and_epochs_differ() -> None:
    orders = {
        tuple(d % 50 for d in epoch_of(Mixture([30, 20], [30, 20], seed=s), e)) for s in range(3) for e in range(3)
    }
    assert len(orders) == 9


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(0, 9))
def test_batches_hold_the_tasks_in_proportion(first: int, second: int, batch: int, seed: int) -> None:
    kinds = np.repeat([0, 1], [first, second])
    mixture = Mixture([first, second], [first, second], seed=seed, kinds=kinds)
    found = kinds[np.array(epoch_of(mixture, 1)) % len(kinds)]
    share = second / len(kinds)
    for start in range(len(found) - batch + 1):
        assert abs(found[start : start + batch].sum() - share * batch) < 2


@given(SIZES, st.integers(1, 6), st.integers(0, 5))
def test_alike_reorders_and_saves_padding(sizes: list[int], batch: int, epoch: int) -> None:
    n = sum(sizes)
    cost = np.random.default_rng(n).integers(1, 1000, n)
    plain = EpochSampler(n, seed=0)
    alike = LengthGroupedSampler(plain, cost, batch=batch, seed=0)
    draws = epoch_of(alike, epoch)
    assert sorted(draws) == sorted(epoch_of(plain, epoch))
    assert draws == epoch_of(alike, epoch)

    def padded(order: list[int]) -> int:
        whole = cost[np.array(order[: n // batch * batch], dtype=int) % n].reshape(-1, batch)
        return int((whole.max(1, keepdims=True) - whole).sum()) if len(whole) else 0

    if n <= 32 * batch:  # one window: sorted batches pad least
        assert padded(draws) <= padded(epoch_of(plain, epoch))


def test_runs_of_a_source_take_any_order() -> None:
    sources = np.repeat([0, 1], [30, 20])
    runs = SameSourceBatchSampler(Mixture([30, 20], [60, 20], seed=0), sources, run=4, seed=0)
    draws = epoch_of(runs, 2)
    assert len(draws) == len(runs) == 80
    assert len(set(draws)) == 80
    batches = sources[np.array(draws) % 50].reshape(-1, 4)
    assert (batches == batches[:, :1]).all()
