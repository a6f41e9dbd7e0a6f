"""Batches of rows of one source, for pairwise losses: every batch holds rows that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from q_align.data.epoch_sampler import EpochSampler


class SameSourceBatchSampler(EpochSampler):
    """The indices of another sampler, in batches of one source; fixed by (seed, epoch), the same in every process.

    Each source's indices stay in their order and are cut into batches; the batches are shuffled. The remainder of each
    source (fewer than `batch_size` indices) comes last, so that whole batches hold one source. Several processes that
    take whole batches in turn each see batches of one source.
    """

    def __init__(self, base: EpochSampler, sources: Sequence[int] | np.ndarray, *, batch_size: int, seed: int) -> None:
        """Args:
        base: gives the indices.
        sources: (n,) source of each row.
        batch_size: indices of one source in a row, see `q_align.data.samplers.source_batch_size`.
        seed: of the order of the batches.
        """
        super().__init__(len(base), seed=seed)
        self.base = base
        self.sources = np.asarray(sources)
        self.batch_size = batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.base.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.base)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        indices = np.fromiter(self.base, dtype=np.int64)
        sources = self.sources[indices % len(self.sources)]
        batches, rest = [], []
        for source in np.unique(sources):
            own = indices[sources == source]
            whole = len(own) // self.batch_size * self.batch_size
            batches += list(own[:whole].reshape(-1, self.batch_size))
            rest.append(own[whole:])
        return iter(np.concatenate([*(batches[i] for i in rng.permutation(len(batches))), *rest]).tolist())
