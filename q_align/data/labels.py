"""Rated media as columns: the labels of one data set, millions of rows without millions of objects.

Knows a pyarrow table and what its columns mean; no file formats, no media, no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from q_align.errors import LabelError
from q_align.levels import LevelScheme
from q_align.types import Sample

# Columns with a meaning; everything else is the user's, and travels in `Sample.extra`.
KNOWN = ("media", "mos", "raw_mos", "std", "split", "task", "source", "id", "content", "question", "votes", "raw_votes")


@dataclass(slots=True)
class Labels:
    """The labels of one data set.

    Attributes:
        table: columns `media, mos, raw_mos, std, split, task, source, id, content, question`, `votes` (and `raw_votes`,
            as written) where the file holds them, and the file's other columns. `mos` and `std` are on the level scale,
            higher is better; `std` is null where unknown; `votes` are shares per level, best level first.
        source: name of the data set.
        mos_range: lowest and highest MOS of the data set's own scale; they become the ends of the level scale.
        higher_is_better: direction of the data set's own scale (False: DMOS, turned round at reading).
        scheme: the levels.
        report: counts of what reading found: rows, usable, repaired, off_vocabulary, without_score, range_from, ...
    """

    table: pa.Table
    source: str
    mos_range: tuple[float, float]
    higher_is_better: bool = True
    scheme: LevelScheme = field(default_factory=LevelScheme)
    report: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.table.num_rows

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

    def select(self, indices: Sequence[int] | np.ndarray) -> Labels:
        """The rows of these positions, in this order."""
        return replace(self, table=self.table.take(pa.array(np.asarray(indices, dtype=np.int64))))

    def split(self, name: str) -> Labels:
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
