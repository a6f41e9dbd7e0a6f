"""Scores a list of any length into a table, going on where an earlier run stopped; nothing twice, nothing lost.

Going on is a set difference over (id, task): what has a row, with a score or with an error, is done. Knows items, a
scorer and a table; no command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from q_align.score.scorer import Scorer
from q_align.score.seen import Seen
from q_align.score.tables import Table
from q_align.types import Item, Score


@dataclass(slots=True)
class Summary:
    """What became of a job; `n` and `failed` count the rows of earlier runs into the same table too."""

    n: int = 0
    failed: int = 0
    warned: int = 0
    before: int = 0
    duplicates: int = 0
    examples: list[str] = field(default_factory=list)  # first ids that came twice

    def __str__(self) -> str:
        parts = [f"{self.n} scored" if not self.failed else f"{self.n - self.failed} scored, {self.failed} failed"]
        if self.warned:
            parts.append(f"{self.warned} read in part")
        if self.before:
            parts.append(f"{self.before} of these by an earlier run")
        if self.duplicates:
            parts.append(f"{self.duplicates} duplicates left out (first: {', '.join(self.examples)})")
        return "; ".join(parts)


def score_all(
    scorer: Scorer,
    items: Iterable[Item],
    table: Table,
    *,
    tasks: Sequence[str] = ("auto",),
    finish: Callable[[Score], dict[str, Any]] = Score.row,
    told: Callable[[Score], None] = lambda score: None,
) -> Summary:
    """Scores what has no row yet.

    Args:
        scorer: the model.
        items: pulled lazily; ids that come twice are scored once.
        table: where rows go, and where those of an earlier run are.
        tasks: one row per item for each; "auto" by the medium.
        finish: makes the row of a score.
        told: called with every new score, in order.
    """
    summary = Summary()
    done, here = Seen(), Seen()
    for row in table.rows():
        done.add(row["id"])
        summary.n += 1
        summary.before += 1
        summary.failed += bool(row.get("error"))
    try:
        for score in scorer.stream(_left(items, done, here, summary), tasks):
            table.write(finish(score))
            summary.n += 1
            summary.failed += score.error is not None
            summary.warned += score.warning is not None
            told(score)
    finally:
        table.close()
    return summary


def _left(items: Iterable[Item], done: Seen, here: Seen, summary: Summary) -> Iterator[Item]:
    for item in items:
        if not here.add(item.id):
            summary.duplicates += 1
            if len(summary.examples) < 3:
                summary.examples.append(item.id)
        elif item.id not in done:
            yield item
