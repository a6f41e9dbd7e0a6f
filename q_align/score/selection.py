"""What people do with scores of a large collection: keep the best, or all above a threshold; see how they spread.

Works on rows of any table, one pass, in bounded memory. Knows rows and files; no model.
"""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError
from q_align.log import log

BARS = 20
WIDTH = 50


def select(
    rows: Iterable[dict[str, Any]], *, threshold: float | None = None, top: int | None = None, task: str | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a task (None: of any) whose value is at least `threshold`, in their order; or the `top` highest of those,
    best first."""
    asked = (row for row in rows if task is None or row.get("task") == task)
    good = (row for row in asked if row.get("value") not in (None, ""))
    kept = (row for row in good if threshold is None or float(row["value"]) >= threshold)
    if top is None:
        return kept
    return iter(heapq.nlargest(top, kept, key=lambda row: float(row["value"])))


def place(names: Iterable[str], folder: Path, *, link: bool = False) -> int:
    """Copies files into a folder, or links them there, under the names that they have below their common parent.

    Returns:
        How many there are; a file that is there already is not copied again.

    Raises:
        ConfigError: when a name is no file on this disk (a tar member, an address), or another file has its place.
    """
    paths = [Path(name) for name in dict.fromkeys(names)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path} is no file here and cannot be copied; use --keep LIST.txt for its name")
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(os.path.commonpath([path.resolve().parent for path in paths])) if paths else folder
    targets = [folder / path.resolve().relative_to(base) for path in paths]
    others = sum(path.is_symlink() or path.is_file() for path in set(folder.rglob("*")) - set(targets))
    if others:
        log.warning("%s: files that were there already and are not among those kept now: %d", folder, others)
    for path, target in zip(paths, targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():  # a link to nothing does not exist
            if not target.exists() or target.stat().st_size != path.stat().st_size:
                raise ConfigError(f"{target} is there already and differs from {path}; name another --keep")
        elif link:
            target.symlink_to(path.resolve())
        else:
            # whole or not at all: a copy that was cut short would look like one that is done
            temporary = target.with_name(f".{target.name}.tmp")
            shutil.copy2(path, temporary)
            temporary.replace(target)
    return len(paths)


def write_list(names: Iterable[str], path: Path) -> int:
    """Writes names, one a line; a list of this kind can be scored again or trained on.

    Raises:
        ConfigError: for a name with a line end in it.
    """
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name in names:
            if "\n" in name or "\r" in name:
                raise ConfigError(
                    f"{name!r} has a line end in it and does not fit into a list; keep to a folder instead"
                )
            file.write(f"{name}\n")
            count += 1
    return count


class Histogram:
    """Counts of values over equal bins between two ends; what lies outside falls into the end bins."""

    def __init__(self, low: float, high: float, bins: int = BARS) -> None:
        self.low, self.high, self.bins = low, high, bins
        self.counts = [0] * bins

    def add(self, value: float) -> None:
        share = (value - self.low) / (self.high - self.low)
        self.counts[min(self.bins - 1, max(0, int(share * self.bins)))] += 1

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]], task: str | None = None) -> Histogram:
        """Between the lowest and the highest value of rows that can be gone through twice; of one task, or of all."""
        low, high = inf, -inf
        for row in select(rows, task=task):
            low, high = min(low, float(row["value"])), max(high, float(row["value"]))
        made = cls(low, high) if low < high else cls(low if low < inf else 0.0, (low if low < inf else 0.0) + 1)
        for row in select(rows, task=task):
            made.add(float(row["value"]))
        return made

    def __str__(self) -> str:
        most = max(self.counts) or 1
        step = (self.high - self.low) / self.bins
        return "\n".join(
            f"{self.low + i * step:8.2f} {'#' * round(WIDTH * count / most):{WIDTH}} {count}"
            for i, count in enumerate(self.counts)
        )
