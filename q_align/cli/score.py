"""q-align score: rates files, folders, globs, lists and shards; rows to a table or to the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from q_align.cli.options import add_device, add_loading, add_media

WHOLE = "0/1"  # --part of a process that does all the work


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="rate images and videos",
        description="Rates images and videos from 1 (bad) to 5 (excellent). MEDIA are files, folders, globs, lists "
        "(.txt, .csv, .jsonl, .parquet with a column of paths or bytes), tar shards, addresses (--allow-urls), "
        "or - for names from the standard input.",
        epilog="Exit code 0 only if nothing failed; what failed has a row with its reason.",
    )
    add = parser.add_argument
    add("media", nargs="+", metavar="MEDIA")
    add("--model", default="nano", help="model folder or published id; nano is embedded (default: %(default)s)")
    add("--task", default="auto", help="auto, iqa, iaa, vqa, or several with commas in one pass (default: auto)")
    add("--output", metavar="PATH", help="write rows to PATH: .jsonl, .csv, .parquet, or a folder of Parquet shards")
    add("--resume", action="store_true", help="go on with what --output holds")
    add("--retry", action="store_true", help="with --resume: try again what failed")
    add("--json", action="store_true", help="print rows as JSON lines")
    add("--scale", default="level", help="level (1..5), unit (0..1), percent, or mos:SOURCE (default: level)")
    add("--columns", metavar="A,B", help="columns to write (default: all)")
    add("--per-frame", action="store_true", help="add the value of each frame of a video")

    run_ = parser.add_argument_group("running")
    add_loading(run_)
    add_device(run_)
    run_.add_argument("--devices", metavar="A,B", help="one process on each, into one folder: cuda:0,cuda:1")
    run_.add_argument("--shard-rows", type=int, default=10_000, metavar="N", help="rows per shard of a folder")
    run_.add_argument("--shard-seconds", type=float, default=60.0, metavar="S", help="close a shard after so long")
    run_.add_argument("--part", default=WHOLE, help=argparse.SUPPRESS)

    media = parser.add_argument_group("media")
    media.add_argument(
        "--root", metavar="DIR", help="folder that paths inside a list are relative to (default: its own)"
    )
    media.add_argument("--column", metavar="NAME", help="column of a list that holds the media")
    add_media(media)

    keep = parser.add_argument_group("keeping the good ones")
    keep.add_argument("--threshold", type=float, metavar="X", help="keep what scores at least X")
    keep.add_argument("--top", type=int, metavar="K", help="keep the K best")
    keep.add_argument("--keep", metavar="PATH", help="copy what is kept into a folder, or write its names to a .txt")
    keep.add_argument("--link", action="store_true", help="link instead of copying")
    keep.add_argument("--histogram", action="store_true", help="print how the scores spread")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.cli.scoring import check, finish, score_here, score_on_devices
    from q_align.log import log
    from q_align.media.expand import TABLES

    check(args)
    summary, rows = score_on_devices(args, sys.argv[1:]) if args.devices else score_here(args)
    if args.part != WHOLE:  # one process of several: it came to its end; failed rows are counted over all of them
        return 0
    if summary.n == 0:
        print(f"q-align: error: no image or video in {', '.join(args.media)}", file=sys.stderr)
        return 1
    finish(args, rows)
    log.info("%s%s", summary, f" -> {args.output}" if args.output else "")
    if args.output:  # else each was printed when it happened
        for reason in summary.reasons:
            print(f"q-align: {' '.join(reason.split())}", file=sys.stderr)
        if summary.failed > len(summary.reasons):
            left = summary.failed - len(summary.reasons)
            print(f"q-align: {left} more in the column error; --resume --retry tries them again", file=sys.stderr)
    lists = any(Path(word).suffix.lower() in TABLES for word in args.media)
    if lists and args.root is None and summary.failed and all(r.endswith("no such file") for r in summary.reasons):
        print("q-align: paths in a list are relative to its folder; --root names another", file=sys.stderr)
    return 1 if summary.failed else 0
