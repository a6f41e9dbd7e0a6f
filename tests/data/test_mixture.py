"""Mixtures: lengths, proportions, caps; the same in every process and after every restart."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.length_grouped_sampler import LengthGroupedSampler
from q_align.data.mixture_sampler import MixtureSampler, epoch_counts
from q_align.data.same_source_sampler import SameSourceBatchSampler
from q_align.data.samplers import build_sampler, source_batch_size
from q_align.errors import ConfigError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def epoch_of(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_counts_by_hand() -> None:
    assert epoch_counts([100, 50]) == [100, 50]
    assert epoch_counts([100, 50], weights=[1, 2]) == [100, 100]
    assert epoch_counts([100, 50], caps=[30, None]) == [30, 50]
    # a cap holds whatever the weight asks for
    assert epoch_counts([100, 50], weights=[0.5, 2], caps=[30, 40]) == [15, 40]
    assert epoch_counts([10], weights=[0.01]) == [1]
    assert epoch_counts([10], caps=[1]) == [1]


@pytest.mark.parametrize(
    ("options", "key"),
    [({"weights": [0]}, "weight"), ({"weights": [float("inf")]}, "weight"), ({"caps": [0]}, "cap")],
)
def test_senseless_settings_are_refused(options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        epoch_counts([10], **options)


@given(SIZES, st.integers(0, 99))
def test_an_unweighted_epoch_visits_every_row_once(sizes: list[int], seed: int) -> None:
    mixture = MixtureSampler(sizes, epoch_counts(sizes), seed=seed)
    for epoch in (0, 3):
        indices = epoch_of(mixture, epoch)
        assert len(mixture) == len(indices)
        # the visit is the epoch: `index = visit * n + row`
        assert sorted(indices) == list(range(epoch * sum(sizes), (epoch + 1) * sum(sizes)))


@given(SIZES, st.data())
def test_rows_are_counted_and_indices_never_repeat(sizes: list[int], data: st.DataObject) -> None:
    counts = [data.draw(st.integers(1, 3 * n)) for n in sizes]
    mixture = MixtureSampler(sizes, counts, seed=1)
    ends = np.cumsum(sizes)
    everything: list[int] = []
    for epoch in range(4):
        indices = epoch_of(mixture, epoch)
        sets = np.searchsorted(ends, np.array(indices) % sum(sizes), side="right")
        assert [int((sets == s).sum()) for s in range(len(sizes))] == counts
        everything += indices
    assert len(set(everything)) == len(everything)
    seen = Counter(index % sum(sizes) for index in everything)
    for s, end in enumerate(ends):
        times = [seen[i] for i in range(end - sizes[s], end)]
        assert max(times) - min(times) <= 1  # equally often in the long run


@given(SIZES, st.integers(0, 5), st.integers(0, 9))
def test_the_order_is_a_function_of_seed_and_epoch(sizes: list[int], epoch: int, seed: int) -> None:
    """Not of what came before: a restarted process, and any other one, sees the same."""
    tasks = np.arange(sum(sizes)) % 2
    one = MixtureSampler(sizes, epoch_counts(sizes), seed=seed, tasks=tasks)
    for before in range(epoch):
        epoch_of(one, before)
    fresh = pickle.loads(pickle.dumps(MixtureSampler(sizes, epoch_counts(sizes), seed=seed, tasks=tasks)))
    assert epoch_of(one, epoch) == epoch_of(fresh, epoch)


def test_seeds_and_epochs_differ() -> None:
    orders = {
        tuple(d % 50 for d in epoch_of(MixtureSampler([30, 20], [30, 20], seed=s), e))
        for s in range(3)
        for e in range(3)
    }
    assert len(orders) == 9


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(0, 9))
def test_batches_hold_the_tasks_in_proportion(first: int, second: int, batch: int, seed: int) -> None:
    tasks = np.repeat([0, 1], [first, second])
    mixture = MixtureSampler([first, second], [first, second], seed=seed, tasks=tasks)
    found = tasks[np.array(epoch_of(mixture, 1)) % len(tasks)]
    share = second / len(tasks)
    for start in range(len(found) - batch + 1):
        assert abs(found[start : start + batch].sum() - share * batch) < 2


@given(SIZES, st.integers(1, 6), st.integers(0, 5))
def test_length_groups_reorder_and_save_padding(sizes: list[int], batch: int, epoch: int) -> None:
    n = sum(sizes)
    lengths = np.random.default_rng(n).integers(1, 1000, n)
    plain = EpochSampler(n, seed=0)
    grouped = LengthGroupedSampler(plain, lengths, batch_size=batch, seed=0)
    indices = epoch_of(grouped, epoch)
    assert sorted(indices) == sorted(epoch_of(plain, epoch))
    assert indices == epoch_of(grouped, epoch)

    def padded(order: list[int]) -> int:
        whole = lengths[np.array(order[: n // batch * batch], dtype=int) % n].reshape(-1, batch)
        return int((whole.max(1, keepdims=True) - whole).sum()) if len(whole) else 0

    if n <= 32 * batch:  # one window: sorted batches pad least
        assert padded(indices) <= padded(epoch_of(plain, epoch))


def test_batches_of_a_source_take_any_order() -> None:
    sources = np.repeat([0, 1], [30, 20])
    sampler = SameSourceBatchSampler(MixtureSampler([30, 20], [60, 20], seed=0), sources, batch_size=4, seed=0)
    indices = epoch_of(sampler, 2)
    assert len(indices) == len(sampler) == 80
    assert len(set(indices)) == 80
    batches = sources[np.array(indices) % 50].reshape(-1, 4)
    assert (batches == batches[:, :1]).all()


def test_orders_stay_those_of_earlier_versions() -> None:
    """A run that is resumed with a newer version visits the rows that are left."""
    mixture = MixtureSampler([4, 3], [4, 4], seed=3, tasks=np.array([0, 0, 1, 1, 1, 0, 1]))
    assert epoch_of(EpochSampler(6, seed=1), 2) == [16, 17, 13, 12, 15, 14]
    assert epoch_of(mixture, 1) == [8, 13, 9, 7, 20, 18, 12, 10]
    lengths = np.array([5, 1, 4, 2, 9, 3, 7])
    assert epoch_of(LengthGroupedSampler(mixture, lengths, batch_size=2, seed=3), 1) == [8, 10, 12, 9, 7, 13, 20, 18]
    sources = np.array([0, 0, 0, 0, 1, 1, 1])
    assert epoch_of(SameSourceBatchSampler(mixture, sources, batch_size=3, seed=3), 1) == [8, 9, 7, 13, 20, 18, 10, 12]


TASKS = np.repeat(["iqa", "iaa"], [12, 8])
SOURCES_OF_ROWS = np.repeat([0, 1], [12, 8])


def built(**settings: object) -> list[int]:
    return epoch_of(build_sampler([12, 8], [12, 8], batch_size=4, seed=1, **settings), 1)


def test_settings_choose_the_order(messages: Callable[[], list[str]]) -> None:
    lengths = np.random.default_rng(0).permutation(20)
    mixture = MixtureSampler([12, 8], [12, 8], seed=1)
    assert built() == epoch_of(mixture, 1)
    assert built(tasks=TASKS) == epoch_of(MixtureSampler([12, 8], [12, 8], seed=1, tasks=TASKS), 1)
    grouped = LengthGroupedSampler(mixture, lengths, batch_size=4, seed=1)
    assert built(lengths=lambda: lengths) == epoch_of(grouped, 1)
    one_source = SameSourceBatchSampler(mixture, SOURCES_OF_ROWS, batch_size=4, seed=1)
    assert built(sources=SOURCES_OF_ROWS) == epoch_of(one_source, 1)
    assert not messages()


def test_settings_without_effect_are_reported(messages: Callable[[], list[str]]) -> None:
    def never() -> np.ndarray:
        raise AssertionError("headers are read for nothing")

    batches = SOURCES_OF_ROWS[np.array(built(sources=SOURCES_OF_ROWS, lengths=never, tasks=TASKS)) % 20].reshape(-1, 4)
    assert (batches == batches[:, :1]).all()
    assert [message.split(":")[0] for message in messages()] == [
        "data.bucket is ignored",
        "data.balance is ignored",
    ]


def test_balance_of_one_task_needs_no_warning(messages: Callable[[], list[str]]) -> None:
    built(sources=SOURCES_OF_ROWS, tasks=np.repeat("iqa", 20))  # balance is on by default
    assert not messages()


@pytest.mark.parametrize(
    ("batch_size", "group_size", "processes", "together"),
    [(8, 1, 4, 8), (1, 1, 1, 1), (2, 2, 8, 2), (2, 3, 8, 4), (1, 3, 8, 4), (1, 2, 6, 2), (1, 3, 6, 3), (1, 4, 6, 6)],
)
def test_rows_of_a_source_that_stay_together(batch_size: int, group_size: int, processes: int, together: int) -> None:
    assert source_batch_size(batch_size, group_size=group_size, processes=processes) == together


def test_too_few_rows_to_compare_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"at least 3 items of one step, but train\.batch_size 2 on 1 process gives 2"
    ):
        source_batch_size(2, group_size=3, processes=1)
    with pytest.raises(ConfigError, match=r"batch_size 1 on 2 processes gives 2; raise train\.batch_size"):
        source_batch_size(1, group_size=3, processes=2)
