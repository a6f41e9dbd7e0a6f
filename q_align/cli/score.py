"""q-align score: scores files, folders, globs, lists and shards; rows go to a table or to the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q_align.cli.options import add_device, add_loading, add_max_failed, add_media, exit_code

if TYPE_CHECKING:
    from q_align.score.resume import ScoringSummary

WHOLE = "0/1"  # --part of a process that does all the work


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="score images and videos",
        description="Scores images and videos from 1 (bad) to 5 (excellent). MEDIA are files, folders, globs, lists "
        "(.txt, .csv, .jsonl, .parquet with a column of paths or bytes), tar shards, addresses (--allow-urls), "
        "or - for names from the standard input.",
        epilog="Exit code 0 only if nothing failed (see --max-failed); an item that failed has a row with its error.",
    )
    add = parser.add_argument
    add("media", nargs="+", metavar="MEDIA")
    add("--model", default="nano", help="model folder or published id; nano is packaged (default: %(default)s)")
    add("--task", default="auto", help="auto, iqa, iaa, vqa, or several with commas in one pass (default: auto)")
    add("--output", metavar="PATH", help="write rows to PATH: .jsonl, .csv, .parquet, or a folder of Parquet shards")
    add("--resume", action="store_true", help="skip items that --output already contains")
    add("--retry", action="store_true", help="with --resume: score items again that failed")
    add("--json", action="store_true", help="print rows as JSON lines")
    add("--scale", default="level", help="level (1..5), unit (0..1), percent, or mos:SOURCE (default: level)")
    add("--columns", metavar="A,B", help="columns to write (default: all)")
    add("--per-frame", action="store_true", help="add the value of each frame of a video")
    add_max_failed(parser)

    running = parser.add_argument_group("running")
    add_loading(running)
    add_device(running)
    running.add_argument("--devices", metavar="A,B", help="one process on each, into one folder: cuda:0,cuda:1")
    running.add_argument("--shard-rows", type=int, default=10_000, metavar="N", help="rows per shard of a folder")
    running.add_argument("--shard-seconds", type=float, default=60.0, metavar="S", help="close a shard after S seconds")
    running.add_argument("--part", default=WHOLE, help=argparse.SUPPRESS)

    media = parser.add_argument_group("images and videos")
    media.add_argument("--root", metavar="DIR", help="folder that paths in a list are relative to (default: its own)")
    media.add_argument("--column", metavar="NAME", help="column of a list that holds the paths or bytes")
    add_media(media)

    select = parser.add_argument_group("filtering")
    select.add_argument("--threshold", type=float, metavar="X", help="select scores of at least X")
    select.add_argument("--top", metavar="K|P%", help="select the K best, or the best P%%: 100, 10%%")
    select.add_argument("--keep", metavar="PATH", help="copy the selected files into a folder, or list them in a .txt")
    select.add_argument("--link", action="store_true", help="link instead of copying")
    select.add_argument("--histogram", action="store_true", help="print a histogram of the scores")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.cli.score_args import check_score_args
    from q_align.cli.score_output import print_selection
    from q_align.log import log

    check_score_args(args)
    summary, rows = _on_devices(args, sys.argv[1:]) if args.devices else _in_this_process(args)
    if args.part != WHOLE:  # one of several processes: it has finished; failed rows are counted over all of them
        return 0
    if summary.n == 0:
        print(f"q-align: error: no image or video in {', '.join(args.media)}", file=sys.stderr)
        return 1
    print_selection(args, rows)
    log.info("%s%s", summary, f" -> {args.output}" if args.output else "")
    _report_failures(args, summary)
    return exit_code(args, summary)


def _in_this_process(args: argparse.Namespace) -> tuple[ScoringSummary, Iterable[dict[str, Any]]]:
    """Counts, and all rows of the table, those of earlier runs included."""
    import warnings

    from PIL import Image

    from q_align.cli.allocator import tune_for_scoring
    from q_align.cli.score_args import job_of
    from q_align.cli.score_output import ProgressBar, Terminal, selects
    from q_align.score.run_settings import all_columns
    from q_align.score.score_files import TableRows, score_table

    # settings of the whole process, which is ours alone here
    tune_for_scoring(args.device)
    warnings.filterwarnings("ignore", module="PIL")  # remarks on odd files; what matters is in the rows
    if args.limit_pixels:
        Image.MAX_IMAGE_PIXELS = args.limit_pixels
    job = job_of(args)
    hold = selects(args) or args.histogram
    show = not selects(args)
    columns = job.columns or all_columns(job)
    terminal = Terminal(columns, as_json=args.json, scale=args.scale, hold=hold, show=show)
    bar = ProgressBar(args.media, len(job.tasks), shown=args.part == WHOLE and (bool(args.output) or not show))
    try:
        table = None if args.output else terminal
        summary = score_table(job, table=table, on_score=bar.update, on_resume=bar.resume)
    finally:
        bar.close()
    return summary, TableRows(args.output) if args.output else terminal.held


def _on_devices(args: argparse.Namespace, words: list[str]) -> tuple[ScoringSummary, Iterable[dict[str, Any]]]:
    """The same, with one process per device that write into one folder."""
    from q_align.cli.score_args import without_option
    from q_align.score.multi_device import run_parts
    from q_align.score.output_table import check_free, drop_failed_rows, read_rows
    from q_align.score.resume import count_rows
    from q_align.score.run_note import lock_table
    from q_align.score.score_files import TableRows

    check_free(args.output, resume=args.resume)
    devices = args.devices.split(",")
    lock = lock_table(args.output, part=None, parts=len(devices))
    try:
        if args.retry:
            drop_failed_rows(args.output, lock)
        finished = run_parts(without_option(words, "--devices"), devices)
    finally:
        lock.release()
    summary = count_rows(read_rows(args.output))
    summary.complete = finished
    return summary, TableRows(args.output)


def _report_failures(args: argparse.Namespace, summary: ScoringSummary) -> None:
    from q_align.media.expand import TABLES

    if args.output:  # else each was printed when it happened
        for reason in summary.reasons:
            print(f"q-align: {' '.join(reason.split())}", file=sys.stderr)
        if summary.failed > len(summary.reasons):
            left = summary.failed - len(summary.reasons)
            print(f"q-align: {left} more in the column error; --resume --retry tries them again", file=sys.stderr)
    lists = any(Path(word).suffix.lower() in TABLES for word in args.media)
    if lists and args.root is None and summary.failed and all(r.endswith("no such file") for r in summary.reasons):
        print("q-align: paths in a list are relative to its folder; --root names another", file=sys.stderr)
