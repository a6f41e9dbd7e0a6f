"""q-align score: rates files, folders, globs, lists and shards; rows to a table or to the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "score",
        help="rate images and videos",
        description="Rates images and videos from 1 (bad) to 5 (excellent). MEDIA are files, folders, globs, lists "
        "(.txt, .csv, .jsonl, .parquet with a column of paths), tar shards, or addresses (--allow-urls).",
        epilog="Exit code 0 only if nothing failed; what failed has a row with its reason.",
    )
    parser.add_argument("media", nargs="+", metavar="MEDIA")
    parser.add_argument("--model", default="nano", help="model folder; nano is embedded (default: %(default)s)")
    parser.add_argument("--task", default="auto", help="auto, iqa, iaa, vqa, or several with commas (default: auto)")
    parser.add_argument(
        "--scale",
        default="level",
        metavar="NAME",
        help="units of value and std: level (1..5), unit (0..1), percent, or mos:SOURCE (see docs/scales.md)",
    )
    parser.add_argument("--output", metavar="PATH", help="write rows to PATH: .jsonl, .csv, .parquet, or a folder")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines")
    parser.add_argument("--batch-size", type=int, metavar="N", help="frames at once (default: 16; on a CPU 1)")
    parser.add_argument("--workers", type=int, metavar="N", help="decoding threads (default: one per core, at most 16)")
    parser.add_argument("--device", help="cuda, cuda:1, mps, cpu (default: the best one here)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--root", metavar="DIR", help="folder that paths inside a list are relative to")
    parser.add_argument("--column", metavar="NAME", help="column of a list that holds the media")
    parser.add_argument("--allow-urls", action="store_true", help="fetch http and https addresses")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from q_align.evaluate.calibration import find_scale, rescaled
    from q_align.log import log
    from q_align.media import Limits
    from q_align.media.expand import expand
    from q_align.score.job import score_all
    from q_align.score.scorer import Scorer
    from q_align.score.tables import open_table

    tasks = tuple(args.task.split(","))
    table = open_table(args.output, resume=args.resume) if args.output else Terminal(as_json=args.json)
    scorer = Scorer.from_pretrained(
        args.model,
        device=args.device,
        dtype=args.dtype,
        batch_size=args.batch_size,
        workers=args.workers,
        limits=Limits(allow_urls=args.allow_urls),
    )
    levels = scorer.card.levels
    scale = find_scale(args.scale, scorer.card.calibration, scorer.card.trained_on, levels.low, levels.high)
    items = expand(args.media, root=args.root, column=args.column)
    with tqdm(unit="media", disable=None if args.output else True, file=sys.stderr) as bar:
        summary = score_all(
            scorer,
            items,
            table,
            tasks=tasks,
            finish=lambda score: rescaled(score.row(), scale),
            told=lambda score: bar.update() and None,
        )
    if summary.n == 0:
        print(f"q-align: error: no image or video in {', '.join(args.media)}", file=sys.stderr)
        return 1
    log.info("%s%s", summary, f" -> {args.output}" if args.output else "")
    return 1 if summary.failed else 0


class Terminal:
    """Rows for people (or as JSON lines) on stdout; what failed goes to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def rows(self) -> Any:
        return iter(())

    def write(self, row: dict[str, Any]) -> None:
        from q_align.score.tables import to_json

        if self.as_json:
            print(to_json(row), flush=True)
        elif row["error"]:
            print(f"q-align: {' '.join(row['error'].split())}", file=sys.stderr, flush=True)
        else:
            warning = f"  ({row['warning']})" if row["warning"] else ""
            name = row["id"].replace("\n", "\\n").replace("\r", "\\r")
            print(f"{row['value']:.3f}  {row['level']:9}  {row['task']}  {name}{warning}", flush=True)

    def close(self) -> None:
        sys.stdout.flush()
