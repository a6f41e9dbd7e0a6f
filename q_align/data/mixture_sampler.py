"""Several labelled sets as one: how often each is drawn in an epoch, and in which order. Knows sizes, no media.

The order is a pure function of (seed, epoch), the same in every process and after every restart; processes take whole
batches of it in turn. Temperature as in multilingual pre-training (Conneau & Lample, NeurIPS 2019, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from q_align.data.epoch_sampler import EpochSampler
from q_align.errors import ConfigError


def counts(
    sizes: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    caps: Sequence[int | None] | None = None,
    temperature: float = 1.0,
) -> list[int]:
    """Media of each set in one epoch.

    A set of n media with weight w counts as w n media; together they make the length of the epoch. The share of a set
    goes with w n^temperature: 1 leaves sizes as they are, towards 0 all sets of one weight are drawn alike.

    Args:
        sizes: media of each set.
        weights: 1 for each set unless given; 2 shows every medium twice per epoch, 0.5 half of them.
        caps: at most so many media of a set per epoch, whatever its share; None for no cap.
        temperature: of the sizes, 0 to 1.

    Raises:
        ConfigError: for weights, caps or a temperature that make no sense.
    """
    caps = list(caps) if caps is not None else [None] * len(sizes)
    weight = np.asarray(weights if weights is not None else [1.0] * len(sizes), dtype=np.float64)
    if not (np.isfinite(weight) & (weight > 0)).all():
        raise ConfigError(f"weights of data sets must be positive, got {weight.tolist()} (data.sets[].weight)")
    if any(cap is not None and cap < 1 for cap in caps):
        raise ConfigError(f"caps of data sets must be positive, got {caps} (data.sets[].cap)")
    if not 0 <= temperature <= 1:
        raise ConfigError(f"data.temperature must lie in 0..1, got {temperature}")
    size = np.array([min(n, cap or n) for n, cap in zip(sizes, caps)], dtype=np.float64)
    share = weight * size**temperature
    drawn = (weight * size).sum() * share / share.sum()
    return [min(max(1, round(d)), cap or round(d) + 1) for d, cap in zip(drawn, caps)]


class Mixture(EpochSampler):
    """The media of several sets, which lie one after the other in one data set.

    Each set is an endless stream of permutations of its media, and an epoch takes the next `count` of it: whatever the
    weights, every medium of a set is seen equally often in the long run. The permutation's number is the turn of the
    draw (`draw = turn * n + index`): a medium that is shown twice in an epoch is shown with two crops and questions.
    """

    def __init__(
        self, sizes: Sequence[int], drawn: Sequence[int], *, seed: int, kinds: np.ndarray | None = None
    ) -> None:
        """Args:
        sizes: media of each set.
        drawn: media taken of each set in one epoch.
        seed: of all permutations.
        kinds: (n,) task of each medium; every stretch of the order then holds the tasks in the proportions of the
            epoch, to within one medium each. None: chance decides.
        """
        super().__init__(sum(sizes), seed=seed)
        self.sizes, self.drawn, self.kinds = list(sizes), list(drawn), kinds

    def __len__(self) -> int:
        return sum(self.drawn)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        draws = np.concatenate([self._of(number) for number in range(len(self.sizes))])
        draws = draws[rng.permutation(len(draws))]
        if self.kinds is not None:
            kind = np.asarray(self.kinds)[draws % self.n]
            place = np.empty(len(draws))
            for one in np.unique(kind):
                mine = np.flatnonzero(kind == one)
                place[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
            draws = draws[place.argsort(kind="stable")]
        return iter(draws.tolist())

    def _of(self, number: int) -> np.ndarray:
        """The draws that this epoch takes from the stream of one set."""
        size, count = self.sizes[number], self.drawn[number]
        places = np.arange(self.epoch * count, (self.epoch + 1) * count)
        turns, within = np.divmod(places, size)
        rows = np.empty(count, dtype=np.int64)
        for turn in np.unique(turns):
            order = np.random.default_rng((self.seed, number, int(turn))).permutation(size)
            rows[turns == turn] = order[within[turns == turn]]
        return turns * self.n + sum(self.sizes[:number]) + rows


class LengthGroupedSampler(EpochSampler):
    """The draws of another order, with media of like size in one batch: less padding.

    Within a window of some batches the draws are sorted by size and cut into batches, and the batches are mixed; what a
    batch holds together changes from epoch to epoch.
    """

    def __init__(self, draws: EpochSampler, sizes: np.ndarray, *, batch: int, seed: int, window: int = 32) -> None:
        """Args:
        draws: the order of single rows.
        sizes: (n,) size of each row, in whatever unit the padding grows with.
        batch: rows of one batch of one process.
        window: batches among which rows are exchanged.
        """
        super().__init__(draws.n, seed=seed)
        self.draws, self.cost, self.batch, self.window = draws, np.asarray(sizes), batch, window

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.draws.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = np.fromiter(self.draws, dtype=np.int64)
        whole = len(order) // self.batch * self.batch
        batches: list[np.ndarray] = []
        for start in range(0, whole, self.window * self.batch):
            piece = order[start : min(whole, start + self.window * self.batch)]
            piece = piece[self.cost[piece % self.n].argsort(kind="stable")].reshape(-1, self.batch)
            batches += list(piece[rng.permutation(len(piece))])
        return iter(np.concatenate([*batches, order[whole:]]).tolist())
