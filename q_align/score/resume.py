"""Resuming a scoring run: which (id, task, question) have a row already, with a score or an error; and its counts."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from q_align.score.digest_set import DigestSet
from q_align.types import Item

AUTO_TASK = "auto"
SHOWN = 5  # failures whose reasons are printed at the end


@dataclass(slots=True)
class ScoringSummary:
    """Counts of a run; `n` and `failed` include the rows that earlier runs left in the same table.

    Attributes:
        n, failed: rows, and those that have an error.
        warned: items that were scored in part.
        before: rows of earlier runs.
        duplicates, examples: items that came again, and the first of their ids.
        reasons: of the first failures.
        complete: whether all processes finished.
    """

    n: int = 0
    failed: int = 0
    warned: int = 0
    before: int = 0
    duplicates: int = 0
    examples: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    complete: bool = True

    def note_failure(self, id: str, error: str | None) -> None:
        """Counts a row that has an error."""
        if error:
            self.failed += 1
            self.reasons += [error if error.startswith(id) else f"{id}: {error}"] if len(self.reasons) < SHOWN else []

    def __str__(self) -> str:
        parts = [f"{self.n} scored" if not self.failed else f"{self.n - self.failed} scored, {self.failed} failed"]
        if self.warned:
            parts.append(f"{self.warned} read in part")
        if self.before:
            parts.append(f"{self.before} of these by an earlier run")
        if self.duplicates:
            parts.append(f"{self.duplicates} duplicates skipped (first: {', '.join(self.examples)})")
        return "; ".join(parts)


class ResumeState:
    """What has a row already, and which items this run has seen; 16 bytes a row, 48 an item."""

    def __init__(self) -> None:
        self.rows, self.seen, self.owners = DigestSet(), DigestSet(), DigestSet()

    def add_row(self, row: Mapping[str, Any]) -> None:
        self.rows.add(_key(row["id"], row.get("task"), row.get("question")))

    def owns_id(self, item: Item) -> bool:
        """Whether an item is the file that came first under its id; two lists may have one name for two files."""
        media = item.media
        if isinstance(media, (str, Path)):
            place = os.path.abspath(media)  # noqa: PTH100 (links stay apart)
        elif isinstance(media, bytes):
            place = f"{len(media)} {zlib.crc32(media[-4096:])}"
        else:
            return True
        owner = f"{item.id}\0{place}"
        if self.owners.add(item.id):
            self.owners.add(owner)
            return True
        return owner in self.owners

    def remaining_tasks(self, item: Item, tasks: Sequence[str], summary: ScoringSummary) -> tuple[str, ...]:
        """The tasks that an item has no row for; none where it comes a second time, which the summary counts.

        Args:
            item: its own task, where it has one, replaces `tasks`.
            tasks: "auto" has its row under the task that was chosen for the item; a row without a task counts for all.
            summary: gets the duplicates.
        """
        if not self.seen.add(_key(item.id, item.task, item.question)):
            summary.duplicates += 1
            summary.examples += [item.id] if len(summary.examples) < 3 else []
            return ()
        wanted = (item.task,) if item.task else tasks
        return tuple(task for task in wanted if not self._has_row(item, task))

    def _has_row(self, item: Item, task: str) -> bool:
        # None: the item could not be opened to find out what it is
        names = ("iqa", "vqa", None) if task == AUTO_TASK else (task, None)
        return any(_key(item.id, name, item.question) in self.rows for name in names)


def count_rows(rows: Iterable[Mapping[str, Any]], state: ResumeState | None = None) -> ScoringSummary:
    """Counts the rows of a table, and adds them to `state`."""
    summary = ScoringSummary()
    for row in rows:
        if state is not None:
            state.add_row(row)
        summary.n += 1
        summary.note_failure(row["id"], row.get("error"))
    return summary


def _key(id: str, task: str | None, question: str | None) -> str:
    return f"{task or ''}\0{id}" + (f"\0{question}" if question else "")
