"""Are the images and videos of a set on this disk? Asked before training and evaluation start; opens none of them."""

from __future__ import annotations

import numpy as np

from q_align.data.dataset_card import DatasetCard
from q_align.data.labels import Labels
from q_align.errors import MediaError
from q_align.log import log
from q_align.media.packed import file_of


def missing_media(labels: Labels, *, urls: bool = False) -> np.ndarray:
    """Positions of the rows whose file does not exist; `urls`: URLs will be downloaded, so they are not missing."""
    names = labels.column("media").tolist()
    files = {name: file_of(name) for name in set(names) if "://" not in name}
    there = {file: file.is_file() for file in set(files.values())}  # the items of a packed set share a few files
    return np.array(
        [i for i, name in enumerate(names) if not (there[files[name]] if name in files else urls)], dtype=int
    )


def check_media(
    labels: Labels, card: DatasetCard | None = None, *, every: bool = False, urls: bool = False
) -> np.ndarray:
    """Positions of missing files; a warning where some are missing.

    Args:
        labels: of one set.
        card: names how to get the data set.
        every: some missing files are an error too, not only all of them. Training asks for that: a run must not end
            after hours at a missing file.
        urls: URLs will be downloaded. Training never does that, evaluation on request.

    Raises:
        MediaError: when no file is there, or with `every` when one is missing; names the first and the fix.
    """
    missing = missing_media(labels, urls=urls)
    if not len(missing):
        return missing
    first = labels.column("media")[missing[0]]
    count = f"{len(missing)} of {len(labels)} images or videos are missing (first: {first})"
    fix = "name their folder with --media-root (data.media_root)"
    if "://" in first:
        fix = "training opens no URLs, and evaluation only with --allow-urls: download the files"
    elif card is not None:
        fix += f"; to get them: {card.how_to_get()}"
    if every or len(missing) == len(labels):
        raise MediaError(f"{labels.source}: {count}; {fix}")
    log.warning("%s: %s; their rows will fail", labels.source, count)
    return missing
