"""Scores a list of any length into a table, going on where an earlier run stopped; nothing twice, nothing lost.

Going on is a set difference over (id, task): what has a row, with a score or with an error, is done. Knows items, a
scorer and a table; no command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from q_align.score.digest_set import DigestSet
from q_align.score.output_table import Table
from q_align.score.scorer import AUTO, Scorer
from q_align.types import Item, Score

SHOWN = 5  # failures whose reasons are told at the end


@dataclass(slots=True)
class Summary:
    """What became of a job; `n` and `failed` count the rows of earlier runs into the same table too."""

    n: int = 0
    failed: int = 0
    warned: int = 0
    before: int = 0
    duplicates: int = 0
    examples: list[str] = field(default_factory=list)  # first ids that came twice
    reasons: list[str] = field(default_factory=list)  # of the first failures

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
            parts.append(f"{self.duplicates} duplicates left out (first: {', '.join(self.examples)})")
        return "; ".join(parts)


class Done:
    """What has a row already, by id and task, and what this run has met; 16 bytes each."""

    def __init__(self) -> None:
        self.rows, self.met = DigestSet(), DigestSet()

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows.add(_key(row["id"], row.get("task")))

    def left(self, item: Item, tasks: Sequence[str], summary: Summary) -> tuple[str, ...]:
        """The tasks that an item has no row for; none where it comes a second time, which the summary counts.

        Args:
            item: its own task, where it has one, stands in place of `tasks`.
            tasks: "auto" has its row under the task that the medium had; a row without a task counts for all.
            summary: gets the duplicates.
        """
        if not self.met.add(_key(item.id, item.task)):
            summary.duplicates += 1
            summary.examples += [item.id] if len(summary.examples) < 3 else []
            return ()
        wanted = (item.task,) if item.task else tasks
        return tuple(task for task in wanted if not any(_key(item.id, name) in self.rows for name in _answers(task)))


def score_all(
    scorer: Scorer,
    items: Iterable[Item],
    table: Table,
    *,
    tasks: Sequence[str] = ("auto",),
    per_frame: bool = False,
    part: tuple[int, int] = (0, 1),
    finish: Callable[[Score], dict[str, Any]] = Score.row,
    told: Callable[[Score], None] = lambda score: None,
    resumed: Callable[[int], None] = lambda rows: None,
) -> Summary:
    """Scores what has no row yet.

    Args:
        scorer: the model.
        items: pulled lazily; ids that come twice are scored once.
        table: where rows go, and where those of an earlier run are.
        tasks: one row per item for each; "auto" by the medium.
        per_frame: see `Scorer.stream`.
        part: (k, n): only the k-th of n parts of the items, cut by a hash of their ids; the same at any time.
        finish: makes the row of a score.
        told: called with every new score, in order.
        resumed: called once with the number of rows of an earlier run.
    """
    done = Done()
    summary = tally(table.rows(), done)
    summary.before = summary.n
    resumed(summary.before)
    try:
        mine = (item for item in items if crc32(item.id.encode()) % part[1] == part[0])
        for score in scorer.stream(_left(mine, tasks, done, summary), tasks, per_frame=per_frame):
            table.write(finish(score))
            summary.n += 1
            summary.note_failure(score.id, score.error)
            summary.warned += score.warning is not None
            told(score)
    finally:
        table.close()
    return summary


def tally(rows: Iterable[dict[str, Any]], done: Done | None = None) -> Summary:
    """Counts rows, and notes in `done` what they hold."""
    summary = Summary()
    for row in rows:
        if done is not None:
            done.add(row)
        summary.n += 1
        summary.note_failure(row["id"], row.get("error"))
    return summary


def _left(items: Iterable[Item], tasks: Sequence[str], done: Done, summary: Summary) -> Iterator[Item]:
    for item in items:
        missing = done.left(item, tasks, summary)
        if item.task or len(missing) == len(tasks):
            yield from [item] if missing else []
        else:  # an earlier run ended between the rows of one medium
            yield from (item._replace(task=task) for task in missing)


def _key(id: str, task: str | None) -> str:
    return f"{task or ''}\0{id}"


def _answers(task: str) -> tuple[str | None, ...]:
    """Tasks of the rows that answer one that was asked for; None: the medium could not be opened to find out."""
    return ("iqa", "vqa", None) if task == AUTO else (task, None)
