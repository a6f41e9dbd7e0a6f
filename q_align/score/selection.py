"""Filtering a collection by its scores: the best, or all above a threshold, as files or names; and a histogram."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError
from q_align.log import log

BARS = 20
WIDTH = 50


@dataclass(frozen=True, slots=True)
class Amount:
    """So many rows, or a percentage of all."""

    number: float
    percent: bool

    @classmethod
    def parse(cls, text: str, option: str, *, least: float = 1) -> Amount:
        """Reads "100" or "10%".

        Raises:
            ConfigError: for anything else; names the option.
        """
        number = text.strip().removesuffix("%")
        percent = number != text.strip()
        try:
            value = float(number) if percent else int(number)
        except ValueError:
            value = -1
        if not (0 < value <= 100 or value == least == 0 if percent else value >= least):
            raise ConfigError(
                f"{option} takes a number of at least {least:g} or a percentage such as 10%, got {text!r}"
            )
        return cls(value, percent)

    def count(self, total: int) -> int:
        """The number of rows out of a total; a percentage is rounded up."""
        return ceil(total * self.number / 100) if self.percent else int(self.number)


def select(
    rows: Iterable[dict[str, Any]],
    *,
    threshold: float | None = None,
    top: Amount | None = None,
    task: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of a task (None: of any) whose value is at least `threshold`, in their order; or the best of those first.

    Args:
        rows: iterated over twice where `top` is a percentage.
        threshold: lowest value.
        top: how many of the best; a percentage is one of all rows of the task that have a value.
        task: None: all.
    """
    good = (row for row in _scored(rows, task) if threshold is None or float(row["value"]) >= threshold)
    if top is None:
        return good
    count = top.count(sum(1 for _ in _scored(rows, task)) if top.percent else 0)
    return iter(heapq.nlargest(count, good, key=lambda row: float(row["value"])))


def _scored(rows: Iterable[dict[str, Any]], task: str | None) -> Iterator[dict[str, Any]]:
    asked = (row for row in rows if task is None or row.get("task") == task)
    return (row for row in asked if row.get("value") not in (None, ""))


def copy_files(names: Iterable[str], folder: Path, *, link: bool = False) -> int:
    """Copies files into a folder, or links them there, under the names that they have below their common parent.

    Returns:
        How many there are; an identical file that exists is not copied again.

    Raises:
        ConfigError: when a name is no file (a tar member, an address), or another file is there under its name.
    """
    paths = [Path(name) for name in dict.fromkeys(names)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"{path} is not a file and cannot be copied; --keep LIST.txt writes its name")
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(os.path.commonpath([path.resolve().parent for path in paths])) if paths else folder
    targets = [folder / path.resolve().relative_to(base) for path in paths]
    others = sum(path.is_symlink() or path.is_file() for path in set(folder.rglob("*")) - set(targets))
    if others:
        log.warning("%s: other files that were there before: %d", folder, others)
    for path, target in zip(paths, targets):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():  # a link to nothing does not exist
            if not target.exists() or target.stat().st_size != path.stat().st_size:
                raise ConfigError(f"{target} exists and differs from {path}; name another --keep")
        elif link:
            target.symlink_to(path.resolve())
        else:
            # renamed when it is whole: a truncated copy would look like a complete one
            temporary = target.with_name(f".{target.name}.tmp")
            shutil.copy2(path, temporary)
            temporary.replace(target)
    return len(paths)


def write_names(names: Iterable[str], path: Path) -> int:
    """Writes names, one a line: a list that can be scored again.

    Raises:
        ConfigError: for a name with a line break in it.
    """
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for name in names:
            if "\n" in name or "\r" in name:
                raise ConfigError(
                    f"{name!r} contains a line break and does not fit into a list; --keep FOLDER copies the file"
                )
            file.write(f"{name}\n")
            count += 1
    return count


class Histogram:
    """Counts of values in bins of equal width; values beyond the ends fall into the end bins."""

    def __init__(self, low: float, high: float, bins: int = BARS) -> None:
        self.low, self.high, self.bins = low, high, bins
        self.counts = [0] * bins

    def add(self, value: float) -> None:
        share = (value - self.low) / (self.high - self.low)
        self.counts[min(self.bins - 1, max(0, int(share * self.bins)))] += 1

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], task: str | None = None) -> Histogram:
        """Between the lowest and the highest value of rows, which are iterated over twice; of one task, or of all."""
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
