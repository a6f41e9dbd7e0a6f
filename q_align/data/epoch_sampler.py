"""The order in which rows are visited: one permutation per epoch, fixed by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Every row once per epoch, as `index = visit * n + row`, with `visit` the number of earlier visits to the row.

    The visit seeds the augmentation and the question of an item (see `q_align.data.rated_dataset.RatedDataset`).
    """

    def __init__(self, n: int, *, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        rows = np.random.default_rng((self.seed, self.epoch)).permutation(self.n)
        return iter((self.epoch * self.n + rows).tolist())
