"""q-align report: results of evaluations and training runs -> one page to read, its tables as Markdown and CSV."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="draw the results of evaluations",
        description="Draws evaluation folders (and the training runs they belong to) as one self-contained HTML file. "
        "Several models on the same data are compared, with the significance of their differences. "
        "OUTPUT.md and folder OUTPUT_tables hold the tables.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders that q-align evaluate or train wrote")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--title", help="title of the page")
    parser.add_argument("--worst", type=int, default=12, metavar="N", help="worst disagreements shown per result")
    parser.add_argument("--no-thumbnails", action="store_true", help="open no media")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from q_align.evaluate.report import write_report

    command = shlex.join(["q-align", *sys.argv[1:]])
    written = write_report(
        args.folders,
        args.output,
        title=args.title,
        worst=args.worst,
        thumbnails=not args.no_thumbnails,
        command=command,
    )
    for path in written:
        print(f"{path} ({Path(path).stat().st_size / 1e6:.2f} MB)" if Path(path).is_file() else path)
    return 0
