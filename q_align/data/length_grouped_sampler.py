"""Batches of rows of similar size: less padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from q_align.data.epoch_sampler import EpochSampler


class LengthGroupedSampler(EpochSampler):
    """The indices of another sampler, with rows of similar size in one batch.

    Within a window of some batches the indices are sorted by size and cut into batches, and the batches are shuffled;
    which rows share a batch changes from epoch to epoch.
    """

    def __init__(
        self, base: EpochSampler, lengths: np.ndarray, *, batch_size: int, seed: int, window: int = 32
    ) -> None:
        """Args:
        base: gives the indices.
        lengths: (n,) size of each row, in whatever unit the padding grows with.
        batch_size: rows of one batch of one process.
        seed: of the order of the batches.
        window: batches among which rows are exchanged.
        """
        super().__init__(base.n, seed=seed)
        self.base, self.lengths, self.batch_size, self.window = base, np.asarray(lengths), batch_size, window

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.base)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        indices = np.fromiter(self.base, dtype=np.int64)
        whole = len(indices) // self.batch_size * self.batch_size
        batches: list[np.ndarray] = []
        for start in range(0, whole, self.window * self.batch_size):
            piece = indices[start : min(whole, start + self.window * self.batch_size)]
            piece = piece[self.lengths[piece % self.n].argsort(kind="stable")].reshape(-1, self.batch_size)
            batches += list(piece[rng.permutation(len(piece))])
        return iter(np.concatenate([*batches, indices[whole:]]).tolist())
