"""Scores files, folders, lists and shards into a table of any length, and resumes a run that was stopped.

score_table(ScoringJob(["photos/"], "scores.parquet", model="one-align", resume=True))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

from q_align.errors import ConfigError
from q_align.log import log
from q_align.media import LIMITS, Limits
from q_align.media.expand import clean, expand
from q_align.score.output_table import (
    ScoreTable,
    check_free,
    drop_failed_rows,
    open_table,
    read_rows,
)
from q_align.score.resume import AUTO_TASK, ResumeState, ScoringSummary, count_rows
from q_align.score.run_note import check_run_note, lock_table
from q_align.score.run_settings import all_columns, run_settings, sampled_as
from q_align.score.scale import LEVEL, find_scale
from q_align.score.scorer import Scorer
from q_align.score.write_lock import OutputLock
from q_align.types import Item, Score


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """What is scored, by which model, and where the rows go (see `q-align score --help`).

    Attributes:
        media: files, folders, globs, lists, tar shards or addresses; "-": names from the standard input.
        output: .jsonl, .csv, .parquet, or a folder of Parquet shards; None: rows go to the `table` of `score_table`.
        model: see `Scorer.from_pretrained`.
        tasks: one row per item for each; "auto": vqa for a video, iqa for an image.
        scale: "level", "unit", "percent" or "mos:SOURCE" (docs/scales.md).
        columns: to write; None: all.
        per_frame: add the value of each frame of a video.
        resume: skip what `output` has rows for already.
        retry: with `resume`: score the items again that failed.
        root, column: see `q_align.media.expand.expand`.
        part: (k, n): only the k-th of n parts of the items, cut by a hash of their ids; n processes may share a folder.
        sampling: fields of `MediaSpec` that replace the model's own.
        limits: what is refused.
        loading: options of `Scorer.from_pretrained`.
        shards: `shard_rows` and `shard_seconds` of a folder (see `q_align.score.shards.Shards`).
    """

    media: Sequence[str]
    output: str | Path | None = None
    model: str = "nano"
    tasks: tuple[str, ...] = (AUTO_TASK,)
    scale: str = LEVEL
    columns: tuple[str, ...] | None = None
    per_frame: bool = False
    resume: bool = False
    retry: bool = False
    root: str | None = None
    column: str | None = None
    part: tuple[int, int] = (0, 1)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = LIMITS
    loading: Mapping[str, Any] = field(default_factory=dict)
    shards: Mapping[str, Any] = field(default_factory=dict)


def score_table(
    job: ScoringJob,
    *,
    table: ScoreTable | None = None,
    on_score: Callable[[Score], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> ScoringSummary:
    """Scores what has no row in the output yet.

    Args:
        job: see `ScoringJob`.
        table: takes the rows in place of `job.output`.
        on_score: called with every new score, in order.
        on_resume: called once with the number of rows that earlier runs left.

    Returns:
        Counts of all rows in the table; an item that failed has a row with `error`.

    Raises:
        ConfigError: for a wrong combination, or when the output has rows that were made with other settings.
    """
    part, parts = job.part
    job = replace(job, resume=job.resume or parts > 1)
    if not job.output:
        if table is None:
            raise ConfigError("nowhere to write the scores: name an output, or give a table")
        return _score_into(job, lambda scorer: table, on_score, on_resume)
    check_free(job.output, resume=job.resume)
    lock = lock_table(job.output, part=part, parts=parts)  # before the note and the rows are looked at
    try:
        check_free(job.output, resume=job.resume)  # another run may have ended just now
        return _score_into(job, lambda scorer: _open_output(job, scorer, lock), on_score, on_resume)
    finally:
        lock.release()


def _open_output(job: ScoringJob, scorer: Scorer, lock: OutputLock) -> ScoreTable:
    assert job.output is not None
    part, parts = job.part
    check_run_note(job.output, run_settings(job, scorer))
    if job.retry and parts == 1:  # of several processes, the one that starts them has done it
        drop_failed_rows(job.output, lock)
    prefix = {"prefix": f"part{part}"} if parts > 1 else {}
    return open_table(
        job.output,
        resume=job.resume,
        columns=job.columns or all_columns(job),
        levels=scorer.card.levels.words,
        lock=lock,
        **{**job.shards, **prefix},
    )


def _score_into(
    job: ScoringJob,
    open_output: Callable[[Scorer], ScoreTable],
    on_score: Callable[[Score], None] | None,
    on_resume: Callable[[int], None] | None,
) -> ScoringSummary:
    scorer = Scorer.from_pretrained(job.model, limits=job.limits, **job.loading)
    scorer.spec = sampled_as(scorer.spec, job.sampling)
    scale = find_scale(job.scale, scorer.card)
    table = open_output(scorer)
    part, parts = job.part

    def as_row(score: Score) -> dict[str, Any]:
        row = score.row()
        return row if scale.identity else scale.row(row) | {"scale": job.scale}

    items = expand(job.media, root=job.root, column=job.column)
    mine = (item for item in items if crc32(item.id.encode()) % parts == part)
    return score_items(
        scorer,
        mine,
        table,
        tasks=job.tasks,
        per_frame=job.per_frame,
        as_row=as_row,
        on_score=on_score,
        on_resume=on_resume,
    )


def score_items(
    scorer: Scorer,
    items: Iterable[Item],
    table: ScoreTable,
    *,
    tasks: Sequence[str] = (AUTO_TASK,),
    per_frame: bool = False,
    as_row: Callable[[Score], dict[str, Any]] = Score.row,
    on_score: Callable[[Score], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> ScoringSummary:
    """Scores the items that have no row in a table yet, and closes it.

    Args:
        scorer: the model.
        items: pulled lazily; an item that comes twice is scored once.
        table: where rows go, and where those of an earlier run are.
        tasks: see `ScoringJob`.
        per_frame: see `Scorer.stream`.
        as_row: makes the row of a score.
        on_score, on_resume: see `score_table`.

    Raises:
        ConfigError: when an item has a question of its own and the table has no column for it.
    """
    state = ResumeState()
    try:
        summary = count_rows(table.rows(), state)
        summary.before = summary.n
        if on_resume is not None:
            on_resume(summary.before)
        under_way: deque[tuple[Item, int]] = deque()  # with the number of their scores that are still to come
        remaining = _remaining(items, tasks, state, summary, under_way)
        for score in scorer.stream(remaining, tasks, per_frame=per_frame):
            item, left = under_way.popleft()
            if left > 1:
                under_way.appendleft((item, left - 1))
            row = as_row(score)
            if item.question is not None:
                row["question"] = item.question
                _check_question(table)
            table.write(row)
            summary.n += 1
            summary.note_failure(score.id, score.error)
            summary.warned += score.warning is not None
            if on_score is not None:
                on_score(score)
    finally:
        table.close()
    return summary


class TableRows:
    """The rows of a table on disk, as often as they are iterated over."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_rows(self.path)


def _remaining(
    items: Iterable[Item],
    tasks: Sequence[str],
    state: ResumeState,
    summary: ScoringSummary,
    under_way: deque[tuple[Item, int]],
) -> Iterator[Item]:
    for item in items:
        if not state.owns_id(item):
            item = _renamed(item)
        missing = state.remaining_tasks(item, tasks, summary)
        if item.task or len(missing) == len(tasks):
            if missing:
                under_way.append((item, len(missing)))
                yield item
        else:  # an earlier run ended between the rows of one item
            for task in missing:
                under_way.append((item, 1))
                yield item._replace(task=task)


def _renamed(item: Item) -> Item:
    """An item under its path (or its digest), since another file has its id."""
    media = item.media
    name = f"{item.id}#{sha256(media).hexdigest()[:16]}" if isinstance(media, bytes) else clean(str(media))
    log.warning("%s: an id of two files; the second one's row has the id %s", item.id, name)
    return item._replace(id=name)


def _check_question(table: ScoreTable) -> None:
    columns = getattr(table, "columns", None)
    if columns is not None and "question" not in columns:
        raise ConfigError(
            "items have questions of their own and the table has no column for them; add question to --columns "
            f"({','.join([*columns, 'question'])})"
        )
