"""Orders of media for pairwise syllabuses: runs of one source, so that every batch holds media that can be compared.

Knows which source each row belongs to, and nothing else. Draws are numbered as in `q_align.data.draws`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class SourceRuns(Sampler[int]):
    """Every row once per epoch, in runs of one source; fixed by (seed, epoch), the same in every process.

    The rows of each source are permuted and cut into runs of `run` rows; the runs are mixed. What is left over of each
    source (fewer than `run` rows) comes last, so that batches of `run` rows never straddle two runs. Several processes
    that take whole batches in turn each see batches of one source.
    """

    def __init__(self, sources: Sequence[int] | np.ndarray, *, run: int, seed: int) -> None:
        """Args:
        sources: (N,) source of each row.
        run: rows of one source in a row: the batch size of one process (at least 2).
        seed: of the permutations.
        """
        if run < 2:
            raise ValueError(f"pairs need runs of at least two rows, got {run}")
        self.sources = np.asarray(sources)
        self.run = run
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        runs, rest = [], []
        for source in np.unique(self.sources):
            rows = rng.permutation(np.flatnonzero(self.sources == source))
            whole = len(rows) // self.run * self.run
            runs += list(rows[:whole].reshape(-1, self.run))
            rest.append(rows[whole:])
        order = np.concatenate([*(runs[i] for i in rng.permutation(len(runs))), *rest])
        return iter((self.epoch * len(self) + order).tolist())
