"""The order of media for pairwise losses: runs of one source, so that every batch holds media that can be compared.

Reorders any other order (`q_align.data.epoch_sampler`), whatever it draws how often.
Knows which group each row belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from q_align.data.epoch_sampler import EpochSampler
from q_align.errors import ConfigError


class SameSourceBatchSampler(EpochSampler):
    """The draws of another order, in runs of one source; fixed by (seed, epoch), the same in every process.

    Each source's draws stay in their order and are cut into runs of `run`; the runs are mixed. What is left over of
    each source (fewer than `run` draws) comes last, so that batches of `run` draws never straddle two runs. Several
    processes that take whole batches in turn each see batches of one source.
    """

    def __init__(self, draws: EpochSampler, sources: Sequence[int] | np.ndarray, *, run: int, seed: int) -> None:
        """Args:
        draws: the order of single rows.
        sources: (n,) source of each row.
        run: draws of one source in a row: the batch size of one process.
        seed: of the order of the runs.

        Raises:
            ConfigError: when a run holds no pair.
        """
        if run < 2:
            raise ConfigError(f"a pairwise loss compares media of one batch; train.batch_size must be >= 2, got {run}")
        super().__init__(len(draws), seed=seed)
        self.draws = draws
        self.sources = np.asarray(sources)
        self.run = run

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.draws.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.draws)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = np.fromiter(self.draws, dtype=np.int64)
        source = self.sources[order % len(self.sources)]
        runs, rest = [], []
        for one in np.unique(source):
            mine = order[source == one]
            whole = len(mine) // self.run * self.run
            runs += list(mine[:whole].reshape(-1, self.run))
            rest.append(mine[whole:])
        return iter(np.concatenate([*(runs[i] for i in rng.permutation(len(runs))), *rest]).tolist())
