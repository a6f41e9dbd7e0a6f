"""What q-align score prints: rows or a progress bar while it runs, then a histogram and the selected rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from q_align.score.output_table import COLUMNS
from q_align.score.scale import LEVEL
from q_align.score.text_tables import to_json
from q_align.types import Score


class Terminal:
    """A table on stdout, for people or as JSON lines; errors go to stderr.

    Args:
        columns: of JSON lines.
        as_json: print JSON lines.
        scale: of the values; the level word is printed beside values on the level scale only.
        hold: store the rows, to select from them at the end.
        show: print the rows as they come.
    """

    def __init__(self, columns: Sequence[str], *, as_json: bool, scale: str, hold: bool, show: bool) -> None:
        self.columns, self.as_json, self.scale, self.hold, self.show = columns, as_json, scale, hold, show
        self.held: list[dict[str, Any]] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def write(self, row: dict[str, Any]) -> None:
        if self.hold:
            self.held.append(row)
        if row["error"] and not self.as_json:
            named = "" if row["error"].startswith(row["id"]) else f"{_printable(row['id'])}: "
            print(f"q-align: {named}{' '.join(row['error'].split())}", file=sys.stderr, flush=True)
        elif not self.show:
            return  # the selected rows are printed at the end
        elif self.as_json:
            print(to_json(row, self.columns), flush=True)
        else:
            level = f"{row['level'] or '':9}" if self.scale == LEVEL else self.scale
            warning = f"  ({row['warning']})" if row["warning"] else ""
            frames = "".join(f"  {value:.3f}" for value in row.get("frames") or ())
            print(f"{row['value']:.3f}  {level}  {row['task']}  {_printable(row['id'])}{warning}{frames}", flush=True)

    def close(self) -> None:
        sys.stdout.flush()


class ProgressBar:
    """Items, rate, remaining time and failures on stderr, where that is a terminal.

    Args:
        words: of the command line, to find out how many items there are.
        tasks: rows per item.
        shown: whether to show it at all.
    """

    def __init__(self, words: Sequence[str], tasks: int, *, shown: bool) -> None:
        from tqdm import tqdm

        from q_align.media.count_items import count_items

        shown = shown and sys.stderr.isatty()
        total = count_items(words) if shown else None  # takes a while, so only for a bar that is shown
        self.failed = 0
        self.bar = tqdm(
            total=total and total * tasks,
            unit="row",
            disable=not shown,
            file=sys.stderr,
            dynamic_ncols=True,
        )

    def resume(self, rows: int) -> None:
        """Begins after the rows of an earlier run; they count neither for the rate nor for the remaining time."""
        self.bar.n = self.bar.initial = rows
        self.bar.refresh()

    def update(self, score: Score) -> None:
        self.failed += score.error is not None
        if self.failed:
            self.bar.set_postfix(failed=self.failed, refresh=False)
        self.bar.update()

    def close(self) -> None:
        self.bar.close()


def print_selection(args: argparse.Namespace, rows: Iterable[dict[str, Any]]) -> None:
    """The histogram, and the rows that --threshold and --top select: copied, listed or printed.

    Args:
        args: of the command line.
        rows: of the table; iterated over several times.
    """
    from q_align.score.selection import Amount, Histogram, copy_files, select, write_names

    tasks = args.task.split(",")
    if args.histogram:
        for task in tasks:
            name = f"{task}\n" if len(tasks) > 1 else ""
            print(f"{name}{Histogram.from_rows(rows, task if len(tasks) > 1 else None)}", file=sys.stderr)
    if not selects(args):
        return
    top = None if args.top is None else Amount.parse(args.top, "--top")
    chosen = select(rows, threshold=args.threshold, top=top)
    if args.keep and Path(args.keep).suffix == ".txt":
        print(f"kept {write_names((row['id'] for row in chosen), Path(args.keep))} -> {args.keep}", file=sys.stderr)
    elif args.keep:
        count = copy_files((row["id"] for row in chosen), Path(args.keep), link=args.link)
        print(f"kept {count} -> {args.keep}", file=sys.stderr)
    else:
        for row in chosen:
            print(to_json(row, COLUMNS) if args.json else f"{float(row['value']):.3f}  {_printable(row['id'])}")


def selects(args: argparse.Namespace) -> bool:
    return args.threshold is not None or args.top is not None


def _printable(name: str) -> str:
    return name.replace("\n", "\\n").replace("\r", "\\r")
