"""The labelled sets of a run: opened, split into training and validation rows, their media checked.

Knows labels and the configuration; no model, no loop.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from q_align.config.schema import DataConfig, RunConfig, SetConfig
from q_align.data.frame_cache import FrameCache
from q_align.data.labels import Labels
from q_align.data.media_files import check_media
from q_align.data.mos_range import log_range
from q_align.data.open_dataset import open_dataset
from q_align.errors import ConfigError, LabelError
from q_align.log import log
from q_align.media import open_frames


def open_sets(config: RunConfig) -> tuple[list[Labels], list[Labels]]:
    """Training rows of every set, and the validation rows of those that have some.

    Raises:
        LabelError: when labels cannot be read, or a split is empty.
        MediaError: when an image or a video is missing.
    """
    training, validation = [], []
    for entry in config.sets():
        train, val = split(_open(entry, config), val_share=config.data.val_share, seed=config.train.seed)
        training.append(train)
        if val is not None:
            validation.append(val)
    names = [labels.source for labels in training]
    for name in names:
        if names.count(name) > 1:
            # scores of two sets under one name would overwrite each other
            raise ConfigError(f"two sets are called {name!r}; give them names of their own (data.sets[].source)")
    for labels in (*training, *validation):
        check_media(labels, every=True)
    return training, validation


def split(labels: Labels, *, val_share: float, seed: int) -> tuple[Labels, Labels | None]:
    """Training and validation rows of one set.

    Uses the labels' own "val" split where there is one; otherwise holds out a share of the training rows, whole
    contents at a time (column `content`, else the medium itself). Test rows are never looked at.

    Raises:
        LabelError: when no training rows are left.
    """
    names = set(labels.column("split").tolist()) if labels.has("split") else set()
    train = labels.split("train") if names - {None, ""} else labels
    other = names - {"train", "val", "test"} if train is not labels else set()
    if other:
        count = sum(name in other for name in labels.column("split"))
        shown = ", ".join(sorted(repr(name or "") for name in other))
        log.warning("%s: %d rows take no part: split %s is not train, val or test", labels.source, count, shown)
    if len(train) == 0:
        raise LabelError(f"{labels.source}: no rows to train on")
    if "val" in names:
        return train, labels.split("val")
    if val_share == 0:
        return train, None
    contents = train.column("content" if train.has("content") else "id").astype(str)
    groups = np.unique(contents)
    if len(groups) < 2:
        raise LabelError(f"{labels.source}: one content only, nothing to hold out; set data.val_share to 0")
    count = min(max(1, round(val_share * len(groups))), len(groups) - 1)
    held = np.isin(contents, np.random.default_rng(seed).permutation(groups)[:count])
    return train.select(np.flatnonzero(~held)), train.select(np.flatnonzero(held))


def reader(data: DataConfig, *, training: bool) -> Callable[..., Any] | None:
    """What opens media, where that is not `open_frames`: with a cache, or at a reduced scale (training rows only)."""
    read = FrameCache(data.cache, open_frames) if data.cache else None
    return partial(read or open_frames, reduced=True) if training and data.fast_decode else read


def _open(entry: SetConfig, config: RunConfig) -> Labels:
    given = {
        "task": entry.task,
        "source": entry.source,
        "mos_range": tuple(entry.mos_range) if entry.mos_range else None,
        "higher_is_better": entry.higher_is_better,
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    labels = open_dataset(entry.labels, media_root=entry.media_root, **options)
    log_range(labels)
    return labels
