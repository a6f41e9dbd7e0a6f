"""Several labelled sets as one: how often each is visited in an epoch, and in which order.

The order is a pure function of (seed, epoch), the same in every process and after every restart; processes take whole
batches of it in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from q_align.data.epoch_sampler import EpochSampler
from q_align.errors import ConfigError


def epoch_counts(
    sizes: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    caps: Sequence[int | None] | None = None,
) -> list[int]:
    """Rows of each set that one epoch visits.

    Args:
        sizes: rows of each set.
        weights: 1 for each set unless given; 2 visits every row twice per epoch, 0.5 half of them.
        caps: most rows of a set that count, and that an epoch visits; None for no cap.

    Raises:
        ConfigError: for weights or caps that are not positive.
    """
    caps = list(caps) if caps is not None else [None] * len(sizes)
    weight = np.asarray(weights if weights is not None else [1.0] * len(sizes), dtype=np.float64)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise ConfigError(f"weights of data sets must be positive, got {weight.tolist()} (data.sets[].weight)")
    if any(cap is not None and cap < 1 for cap in caps):
        raise ConfigError(f"caps of data sets must be positive, got {caps} (data.sets[].cap)")
    counts = weight * np.array([min(n, cap or n) for n, cap in zip(sizes, caps)], dtype=np.float64)
    return [min(max(1, round(count)), cap or round(count) + 1) for count, cap in zip(counts, caps)]


class MixtureSampler(EpochSampler):
    """The rows of several sets, which follow one another in one data set.

    Each set is an endless stream of permutations of its rows, and an epoch takes the next `count` of it: whatever the
    weights, every row of a set is visited equally often in the long run. The permutation's number is the visit
    (`index = visit * n + row`): a row that is visited twice in an epoch is shown with two crops and questions.
    """

    def __init__(
        self, sizes: Sequence[int], counts: Sequence[int], *, seed: int, tasks: np.ndarray | None = None
    ) -> None:
        """Args:
        sizes: rows of each set.
        counts: rows of each set that one epoch visits.
        seed: of all permutations.
        tasks: (n,) task of each row; every stretch of the order then holds the tasks in the proportions of the
            epoch, to within one row each. None: chance decides.
        """
        super().__init__(sum(sizes), seed=seed)
        self.sizes, self.counts, self.tasks = list(sizes), list(counts), tasks

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        indices = np.concatenate([self._indices_of(number) for number in range(len(self.sizes))])
        indices = indices[rng.permutation(len(indices))]
        if self.tasks is not None:
            tasks = np.asarray(self.tasks)[indices % self.n]
            place = np.empty(len(indices))
            for task in np.unique(tasks):
                own = np.flatnonzero(tasks == task)
                place[own] = (np.arange(len(own)) + rng.random()) / len(own)
            indices = indices[place.argsort(kind="stable")]
        return iter(indices.tolist())

    def _indices_of(self, number: int) -> np.ndarray:
        """What this epoch takes from the stream of one set."""
        size, count = self.sizes[number], self.counts[number]
        places = np.arange(self.epoch * count, (self.epoch + 1) * count)
        visits, within = np.divmod(places, size)
        rows = np.empty(count, dtype=np.int64)
        for visit in np.unique(visits):
            order = np.random.default_rng((self.seed, number, int(visit))).permutation(size)
            rows[visits == visit] = order[within[visits == visit]]
        return visits * self.n + sum(self.sizes[:number]) + rows
