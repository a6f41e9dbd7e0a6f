"""Builds the order in which a run visits its training rows, from the settings that ask for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.length_grouped_sampler import LengthGroupedSampler
from q_align.data.mixture_sampler import MixtureSampler
from q_align.data.same_source_sampler import SameSourceBatchSampler
from q_align.errors import ConfigError
from q_align.log import log


def build_sampler(
    sizes: Sequence[int],
    counts: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    tasks: np.ndarray | None = None,
    sources: np.ndarray | None = None,
    lengths: Callable[[], np.ndarray] | None = None,
) -> EpochSampler:
    """The order of the rows of several sets. Of settings that exclude each other, the later ones are ignored, and
    said to be so: `sources`, `tasks`, `lengths`.

    Args:
        sizes: rows of each set.
        counts: rows visited of each set in one epoch (`epoch_counts`).
        batch_size: rows of one batch of one process; with sources, rows of one source together (`source_batch_size`).
        seed: of all permutations.
        tasks: (N,) task of each row: every batch holds the tasks in the proportions of the epoch (data.balance).
        sources: (N,) source of each row: every batch holds one source (pairwise losses).
        lengths: gives the (N,) size of each row: rows of similar size share a batch (data.bucket).
    """
    if sources is None:
        mixture = MixtureSampler(sizes, counts, seed=seed, tasks=tasks)
        return (
            mixture if lengths is None else LengthGroupedSampler(mixture, lengths(), batch_size=batch_size, seed=seed)
        )
    if lengths is not None:
        log.warning("data.bucket is ignored: the loss compares items, so every batch holds items of one source")
    if tasks is not None and len(np.unique(tasks)) > 1:
        log.warning("data.balance is ignored: the loss compares items, so every batch holds items of one task")
    mixture = MixtureSampler(sizes, counts, seed=seed, tasks=tasks)
    return SameSourceBatchSampler(mixture, sources, batch_size=batch_size, seed=seed)


def source_batch_size(batch_size: int, *, group_size: int, processes: int) -> int:
    """Rows of one source that the sampler keeps together: one batch, or the batches of as many processes as it takes.

    Args:
        batch_size: rows of one batch of one process.
        group_size: rows of one source that the loss needs together (`Loss.group_size`).
        processes: that take whole batches in turn, and whose rows the loss sees together.

    Raises:
        ConfigError: when all processes together hold fewer rows than that.
    """
    for share in range(1, processes + 1):
        # only a divisor: other runs would be in two steps
        if processes % share == 0 and share * batch_size >= group_size:
            return share * batch_size
    raise ConfigError(
        f"the loss compares at least {group_size} items of one step, but train.batch_size {batch_size} on {processes} "
        f"process{'es' * (processes > 1)} gives {batch_size * processes}; raise train.batch_size"
    )
