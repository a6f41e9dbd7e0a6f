"""The data sets of a run: opened, split into training and validation rows, their files checked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from q_align.config.schema import DataConfig, RunConfig, SetConfig
from q_align.data.frame_cache import FrameCache
from q_align.data.labels import AnyLabels, Labels, LevelLabels
from q_align.data.media_files import check_media
from q_align.data.mos_range import log_range
from q_align.data.open_dataset import open_dataset
from q_align.errors import ConfigError, LabelError
from q_align.levels import LevelScheme
from q_align.log import log
from q_align.media import open_frames


def open_sets(
    config: RunConfig, levels: LevelScheme, opened: Sequence[Labels] = ()
) -> tuple[list[LevelLabels], list[LevelLabels]]:
    """Training rows of every set, and the validation rows of those that have some.

    Args:
        config: names the sets.
        levels: of the model.
        opened: labels in place of the configuration's files.

    Raises:
        LabelError: when labels cannot be read, or a split is empty.
        MediaError: when an image or a video is missing.
    """
    training, validation = [], []
    for labels in opened or [_open(entry) for entry in config.sets()]:
        train, val = split_train_val(labels.on(levels), val_share=config.data.val_share)
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


def with_opened(config: RunConfig, data: Sequence[Labels]) -> RunConfig:
    """The configuration with an entry for every set of opened labels, which may bring weights and caps of its own."""
    if not data:
        return config
    if config.data.train or len(config.data.sets) not in (0, len(data)):
        raise ConfigError("labels are given both opened and as data.train or data.sets; leave the keys out")
    sets = config.data.sets or [SetConfig(labels="", source=labels.source) for labels in data]
    return dataclasses.replace(config, data=dataclasses.replace(config.data, sets=sets))


def split_train_val(labels: AnyLabels, *, val_share: float) -> tuple[AnyLabels, AnyLabels | None]:
    """Training and validation rows of one set.

    Uses the labels' own "val" split where there is one; otherwise holds out a share of the contents (column `content`,
    else every item is a content), by the hash of their names: the same ones in every run, whatever its seed. Test rows
    are never read.

    Raises:
        LabelError: when no training rows are left.
    """
    names = set(labels.column("split").tolist()) if labels.has("split") else set()
    train = labels.split("train") if names - {None, ""} else labels
    other = names - {"train", "val", "test"} if train is not labels else set()
    if other:
        count = sum(name in other for name in labels.column("split"))
        shown = ", ".join(sorted(repr(name or "") for name in other))
        log.warning("%s: %d rows are not used: split %s is not train, val or test", labels.source, count, shown)
    if len(train) == 0:
        raise LabelError(f"{labels.source}: no rows to train on")
    if "val" in names:
        return train, labels.split("val")
    if val_share == 0:
        return train, None
    contents = train.column("content" if train.has("content") else "id").astype(str)
    groups = np.unique(contents)
    if len(groups) < 2:
        raise LabelError(f"{labels.source}: only one content, so none can be held out; set data.val_share to 0")
    count = min(max(1, round(val_share * len(groups))), len(groups) - 1)
    held = np.isin(contents, sorted(groups, key=_hash)[:count])
    return train.select(np.flatnonzero(~held)), train.select(np.flatnonzero(held))


def _hash(content: str) -> bytes:
    return hashlib.sha256(content.encode()).digest()


def frame_reader(data: DataConfig, *, training: bool) -> Callable[..., Any] | None:
    """Opens images and videos, where that is not `open_frames`: from a cache, or at a reduced scale (training only)."""
    read = FrameCache(data.cache, open_frames) if data.cache else None
    return partial(read or open_frames, reduced=True) if training and data.fast_decode else read


def _open(entry: SetConfig) -> Labels:
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
