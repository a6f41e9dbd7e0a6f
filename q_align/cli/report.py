"""q-align report: an HTML report from evaluations and training runs, with its tables and figures as files."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="build an HTML report from evaluations",
        description="Shows evaluation folders (and the training runs they belong to) in one self-contained HTML file. "
        "Several models on the same data are compared, with the significance of their differences. OUTPUT.md holds the "
        "tables; folder OUTPUT_tables holds them as CSV, the results as LaTeX, and the charts as SVG.",
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folders that q-align evaluate or train wrote")
    parser.add_argument("--output", default="report.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--title", help="title of the page")
    parser.add_argument("--worst", type=int, default=12, metavar="N", help="largest errors shown per result")
    parser.add_argument("--no-thumbnails", action="store_true", help="open no images or videos")
    parser.add_argument(
        "--units",
        default="levels",
        choices=("levels", "mos"),
        help="units of the charts: levels, or the data set's MOS",
    )
    parser.add_argument("--paths", action="store_true", help="show absolute paths of this machine on the page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from q_align.report import write_report

    command = shlex.join(["q-align", *sys.argv[1:]])
    written = write_report(
        args.folders,
        args.output,
        title=args.title,
        worst=args.worst,
        thumbnails=not args.no_thumbnails,
        units=args.units,
        paths=args.paths,
        command=command,
    )
    for path in written:
        print(f"{path} ({_size(Path(path).stat().st_size)})" if Path(path).is_file() else path)
    return 0


def _size(n: int) -> str:
    return f"{n / 1e6:.1f} MB" if n >= 1_000_000 else f"{max(1, round(n / 1e3))} kB"
