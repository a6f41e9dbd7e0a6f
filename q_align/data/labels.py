"""Rated images and videos as columns: the labels of one data set, millions of rows without millions of objects.

`Labels` holds MOS, std and votes on the data set's own scale. `Labels.on(scheme)` adds them on a level scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.errors import LabelError
from q_align.levels import LevelScheme
from q_align.types import Sample

# Columns with a meaning; everything else is the user's, and travels in `Sample.extra`.
KNOWN = (
    *("media", "split", "task", "source", "id", "content", "question"),
    *("mos", "std", "votes", "raw_mos", "raw_std", "raw_votes"),
)
TRAINING = "the model's training"  # where a range or direction comes from that a model was trained with
LISTED = 100  # rows that a report names; it counts them all

AnyLabels = TypeVar("AnyLabels", bound="Labels")


@dataclass(slots=True)
class Labels:
    """The labels of one data set, on its own scale.

    Attributes:
        table: columns `media, raw_mos, raw_std, split, task, source, id, content, question`, `raw_votes` where the file
            holds votes, and the file's other columns. `raw_std` is null where unknown; `raw_votes` are counts per mark,
            lowest mark first.
        source: name of the data set.
        mos_range: lowest and highest MOS of the data set's own scale; they become the ends of the level scale.
        higher_is_better: direction of the data set's own scale (False: DMOS).
        report: counts of what reading found: rows, usable, repaired, without_score, range_from, direction_from, ...
    """

    table: pa.Table
    source: str
    mos_range: tuple[float, float]
    higher_is_better: bool = True
    report: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the rows, the most frequent first."""
        counts = pc.value_counts(self.table.column("task").combine_chunks()).to_pylist()
        return tuple(c["values"] for c in sorted(counts, key=lambda c: -c["counts"]))

    @property
    def task(self) -> str:
        """The most frequent task; each row has its own in `column("task")`."""
        return self.tasks[0]

    def has(self, name: str) -> bool:
        """Whether the column exists and holds anything."""
        return name in self.table.column_names and self.table.column(name).null_count < len(self)

    def column(self, name: str) -> np.ndarray:
        """One column as an array (unknown numbers are NaN, texts are objects).

        Raises:
            LabelError: when there is no such column.
        """
        if name not in self.table.column_names:
            raise LabelError(f"{self.source}: no column {name!r}; columns are {', '.join(self.table.column_names)}")
        column = self.table.column(name)
        if pa.types.is_fixed_size_list(column.type):
            return column.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(self), -1)
        return column.to_numpy()

    def select(self: AnyLabels, indices: Sequence[int] | np.ndarray) -> AnyLabels:
        """The rows of these positions, in this order."""
        return replace(self, table=self.table.take(pa.array(np.asarray(indices, dtype=np.int64))))

    def split(self: AnyLabels, name: str) -> AnyLabels:
        """The rows of one split.

        Raises:
            LabelError: when the split has no rows; names the splits that exist.
        """
        part = self.table.filter(pc.equal(self.table.column("split"), name.lower()))
        if part.num_rows == 0:
            found = [str(s) for s in pc.unique(self.table.column("split")).to_pylist() if s is not None]
            have = f"splits are {', '.join(found)}" if found else "the file has no split column"
            rule = "; training takes the rows whose split is 'train'" if name == "train" else ""
            raise LabelError(f"{self.source}: split {name!r} is empty; {have}{rule}")
        return replace(self, table=part)

    def as_trained(self, entry: Mapping[str, Any]) -> Labels:
        """With the range and the direction that a model was trained with, where nobody declared others.

        Args:
            entry: of the model card's `trained_on`, with `mos_range` and `higher_is_better`; empty: nothing changes.
        """
        labels: Labels = self
        report = dict(self.report)
        ends = entry.get("mos_range")
        if ends and report.get("range_from") != "declared":
            labels = labels.with_range((float(ends[0]), float(ends[1])))
            report["range_from"] = TRAINING
        better = entry.get("higher_is_better")
        if better is not None and report.get("direction_from") != "declared":
            labels = replace(labels, higher_is_better=bool(better))
            report["direction_from"] = TRAINING
        return replace(labels, report=report)

    def with_range(self, mos_range: tuple[float, float]) -> Labels:
        """With another range. A MOS that was computed from votes changes too: marks are spread over the range."""
        table = self.table
        if mos_range != tuple(self.mos_range):
            for name in self.report.get("from_votes", ()):
                values = rescale_mos(self.column(name), self.mos_range, mos_range, spread=name == "raw_std")
                table = table.set_column(table.column_names.index(name), name, pa.array(values))
        return replace(self, table=table, mos_range=mos_range)

    def on(self, scheme: LevelScheme) -> LevelLabels:
        """The same rows with `mos`, `std` and `votes` on the level scale of a scheme.

        Raises:
            LabelError: when the range is that of the votes' marks, and a MOS of the file lies outside it.
        """
        width = self.mos_range[1] - self.mos_range[0]
        raw, std = self.column("raw_mos"), self.column("raw_std")
        if self.report.get("range_from") == "votes":
            self._check_marks(raw)
        mos = scheme.to_scale(raw, self.mos_range, higher_is_better=self.higher_is_better)
        added = {
            "mos": pa.array(mos),
            "std": pa.array(std * ((scheme.high - scheme.low) / width), mask=np.isnan(std)),
        }
        if self.has("raw_votes"):
            votes = self.column("raw_votes")
            shares = scheme.from_votes(votes if self.higher_is_better else votes[:, ::-1])
            added["votes"] = pa.FixedSizeListArray.from_arrays(pa.array(shares.ravel()), len(scheme.words))
        table = self.table
        for name, values in added.items():
            if name in table.column_names:
                table = table.set_column(table.column_names.index(name), name, values)
            else:
                table = table.append_column(name, values)
        report = self.report | _unknown_levels(table, scheme)
        given = {f.name: getattr(self, f.name) for f in fields(Labels)}
        return LevelLabels(**given | {"table": table, "report": report}, scheme=scheme)

    def _check_marks(self, raw: np.ndarray) -> None:
        low, high = self.mos_range
        slack = 1e-9 * (high - low)
        rows = np.flatnonzero((raw < low - slack) | (raw > high + slack))
        if rows.size:
            first = int(rows[0])
            raise LabelError(
                f"{self.source}: {rows.size} rows have a MOS outside {low:g}..{high:g}, the marks of the votes (first: "
                f"{self.table.column('media')[first]}, mos {raw[first]:g}); declare mos_range"
            )


@dataclass(slots=True)
class LevelLabels(Labels):
    """`Labels` with the columns `mos`, `std` and `votes` on the level scale of `scheme`: higher is better.

    `std` is null where unknown; `votes` are shares per level, best level first, where the file holds votes. The report
    also counts `off_vocabulary`: level words of the file that the scheme does not have. The level that a model is
    trained on comes from the MOS in any case.
    """

    scheme: LevelScheme = field(default_factory=LevelScheme)

    def as_trained(self, entry: Mapping[str, Any]) -> LevelLabels:
        return Labels.as_trained(self, entry).on(self.scheme)

    def with_range(self, mos_range: tuple[float, float]) -> LevelLabels:
        return Labels.with_range(self, mos_range).on(self.scheme)

    def __getitem__(self, index: int) -> Sample:
        row = {name: self.table.column(name)[int(index)].as_py() for name in self.table.column_names}
        extra = {name: value for name, value in row.items() if name not in KNOWN}
        votes = row.get("votes")
        return Sample(
            media=row["media"],
            task=row["task"],
            source=self.source,
            mos=row["mos"],
            std=row["std"],
            id=row["id"],
            raw_mos=row["raw_mos"],
            question=row["question"],
            votes=None if votes is None else tuple(votes),
            extra=extra,
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))


def rescale_mos(values: np.ndarray, old: tuple[float, float], new: tuple[float, float], *, spread: bool) -> np.ndarray:
    """Values of one range on another, affinely; `spread`: standard deviations, which scale and do not shift."""
    scale = (new[1] - new[0]) / (old[1] - old[0])
    return values * scale if spread else new[0] + (values - old[0]) * scale


def _unknown_levels(table: pa.Table, scheme: LevelScheme) -> dict[str, Any]:
    if "level" not in table.column_names:
        return {"off_vocabulary": 0}
    levels = pc.cast(table.column("level"), pa.large_string())
    unknown = pc.and_(pc.invert(pc.is_in(levels, value_set=pa.array(scheme.words, levels.type))), pc.is_valid(levels))
    rows = np.flatnonzero(unknown.to_numpy())
    names = table.column("media")
    return {
        "off_vocabulary": len(rows),
        "off_vocabulary_rows": [f"{names[int(row)]}: {levels[int(row)]}" for row in rows[:LISTED]],
    }
