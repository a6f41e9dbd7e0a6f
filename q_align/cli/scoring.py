"""The work behind q-align score: from arguments to a job, and what is done with its rows afterwards."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError
from q_align.score.job import Summary, score_all, tally
from q_align.score.output_table import (
    COLUMNS,
    FORMATS,
    check_free,
    claim,
    forget_errors,
    is_folder,
    open_table,
    read_rows,
    to_json,
)


def check(args: argparse.Namespace) -> None:
    """Refuses combinations that would do something else than they say.

    Raises:
        ConfigError: for each of them.
    """
    if args.keep and args.threshold is None and args.top is None:
        raise ConfigError("--keep needs --threshold or --top to say what is kept")
    if args.resume and not args.output:
        raise ConfigError("--resume goes on with what --output holds; name it")
    if args.retry and not (args.resume and args.output):
        raise ConfigError("--retry goes with --resume and --output")
    if args.devices and not (args.output and is_folder(args.output)):
        raise ConfigError("--devices writes from several processes; give --output a folder")
    if args.devices and "-" in args.media:
        raise ConfigError("--devices cannot share the standard input; put the names into a .txt file")
    if args.top is not None and args.top < 1:
        raise ConfigError(f"--top keeps the K best, K at least 1, got {args.top}")
    unknown = set((args.columns or "id").split(",")) - {*COLUMNS, "frames"}
    if unknown:
        raise ConfigError(f"unknown columns {', '.join(sorted(unknown))}; there are {', '.join([*COLUMNS, 'frames'])}")
    needed = {
        "id": "a row without its name is of no use, and cannot be resumed",
        **({"task": "several tasks write several rows for each id"} if "," in args.task else {}),
        **({"value": "--threshold, --top and --histogram look at it"} if _keeps(args) or args.histogram else {}),
        **({"error": "--retry looks for it"} if args.retry else {}),
    }
    for name, reason in needed.items():
        if args.columns and name not in args.columns.split(","):
            raise ConfigError(f"--columns needs {name}: {reason}")
    if args.output and not is_folder(args.output) and Path(args.output).suffix.lower() not in FORMATS:
        raise ConfigError(f"{args.output}: --output takes {', '.join(FORMATS)} or a folder")
    if _keeps(args) and "," in args.task:
        raise ConfigError("--threshold and --top look at one task; name one, or select from the table afterwards")
    if args.keep and Path(args.keep).suffix in FORMATS:
        raise ConfigError(f"--keep takes a folder or a .txt, got {args.keep}; --output writes tables")
    if args.columns and not (args.output or args.json):
        raise ConfigError("--columns goes with --output or --json")
    if args.link and not (args.keep and Path(args.keep).suffix != ".txt"):
        raise ConfigError("--link goes with --keep FOLDER")


def score_here(args: argparse.Namespace) -> tuple[Summary, Iterable[dict[str, Any]]]:
    """Scores in this process; the rows are all that the table holds then."""
    from PIL import Image
    from tqdm import tqdm

    from q_align.cli.options import limits, loading, sampling
    from q_align.media.count_items import count
    from q_align.media.expand import expand
    from q_align.score.scale import find_scale
    from q_align.score.scorer import Scorer

    warnings.filterwarnings("ignore", module="PIL")  # remarks on odd files; what matters is in the rows
    if args.limit_pixels:
        Image.MAX_IMAGE_PIXELS = args.limit_pixels  # this process is ours alone
    number, parts = map(int, args.part.split("/"))
    resume = args.resume or parts > 1
    if args.output:
        check_free(Path(args.output), resume=resume)
    scorer = Scorer.from_pretrained(args.model, limits=limits(args), **loading(args))
    scorer.spec = sampling(args, scorer.spec)
    card = scorer.card
    scale = find_scale(args.scale, card)
    if args.output:
        settings = {name: getattr(args, name) for name in ("model", "task", "scale", "dtype", "quantize")}
        claim(args.output, settings | {"media": asdict(scorer.spec)})
    table = _table(args, resume, number, parts)
    # on a terminal only: nobody waits for a count that is not shown
    shown = bool(args.output) and sys.stderr.isatty() and parts == 1
    with tqdm(total=count(args.media) if shown else None, unit="media", disable=not shown, file=sys.stderr) as bar:
        summary = score_all(
            scorer,
            expand(args.media, root=args.root, column=args.column),
            table,
            tasks=tuple(args.task.split(",")),
            per_frame=args.per_frame,
            part=(number, parts),
            finish=lambda score: scale.row(score.row()),
            told=lambda score: bar.update() and None,
            resumed=lambda rows: bar.update(rows) and None,
        )
    return summary, table.kept if isinstance(table, Terminal) else _Rows(args.output)


def score_on_devices(args: argparse.Namespace, words: Sequence[str]) -> tuple[Summary, Iterable[dict[str, Any]]]:
    """Scores with one process per device into one folder."""
    from q_align.score.multi_device import run_parts

    folder = Path(args.output)
    check_free(folder, resume=args.resume)
    if args.retry:
        forget_errors(folder)
    ended = run_parts(_without(words, "--devices"), args.devices.split(","))
    summary = tally(read_rows(folder))
    if not ended:
        summary.failed += 1
    return summary, _Rows(folder)


def finish(args: argparse.Namespace, rows: Iterable[dict[str, Any]]) -> None:
    """Histogram, and what to keep."""
    from q_align.score.selection import Histogram, place, select, write_list

    if args.histogram and "," not in args.task:
        print(Histogram.of(rows), file=sys.stderr)
    elif args.histogram:
        for task in args.task.split(","):
            print(f"{task}\n{Histogram.of(rows, task)}", file=sys.stderr)
    if not _keeps(args):
        return
    kept = select(rows, threshold=args.threshold, top=args.top)
    if args.keep and Path(args.keep).suffix == ".txt":
        print(f"kept {write_list((row['id'] for row in kept), Path(args.keep))} -> {args.keep}", file=sys.stderr)
    elif args.keep:
        print(f"kept {place((r['id'] for r in kept), Path(args.keep), link=args.link)} -> {args.keep}", file=sys.stderr)
    else:
        for row in kept:
            print(to_json(row) if args.json else f"{float(row['value']):.3f}  {_printable(row['id'])}")


def _table(args: argparse.Namespace, resume: bool, number: int, parts: int) -> Any:
    columns = tuple(args.columns.split(",")) if args.columns else (*COLUMNS, *(["frames"] if args.per_frame else []))
    if not args.output:
        return Terminal(columns, as_json=args.json, hold=_keeps(args) or args.histogram, show=not _keeps(args))
    if args.retry and parts == 1:  # of several processes, the one that starts them has done it
        forget_errors(args.output)
    shards = {"shard_rows": args.shard_rows, "shard_seconds": args.shard_seconds}
    prefix = {"prefix": f"part{number}"} if parts > 1 else {}
    return open_table(args.output, resume=resume, columns=columns, **shards, **prefix)


class _Rows:
    """Rows of a table on disk, as often as they are asked for."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_rows(self.path)


class Terminal:
    """Rows for people (or as JSON lines) on stdout; what failed goes to stderr. Holds rows where some are selected."""

    def __init__(self, columns: Sequence[str], *, as_json: bool, hold: bool, show: bool) -> None:
        self.columns, self.as_json, self.hold, self.show = columns, as_json, hold, show
        self.kept: list[dict[str, Any]] = []

    def rows(self) -> Iterator[dict[str, Any]]:
        return iter(())

    def write(self, row: dict[str, Any]) -> None:
        if self.hold:
            self.kept.append(row)
        if row["error"] and not self.as_json:
            named = "" if row["error"].startswith(row["id"]) else f"{_printable(row['id'])}: "
            print(f"q-align: {named}{' '.join(row['error'].split())}", file=sys.stderr, flush=True)
        elif not self.show:
            return  # only those selected are shown, at the end
        elif self.as_json:
            print(to_json(row, self.columns), flush=True)
        else:
            warning = f"  ({row['warning']})" if row["warning"] else ""
            frames = "".join(f"  {value:.3f}" for value in row.get("frames") or ())
            print(
                f"{row['value']:.3f}  {row['level']:9}  {row['task']}  {_printable(row['id'])}{warning}{frames}",
                flush=True,
            )

    def close(self) -> None:
        sys.stdout.flush()


def _keeps(args: argparse.Namespace) -> bool:
    return args.threshold is not None or args.top is not None


def _printable(name: str) -> str:
    return name.replace("\n", "\\n").replace("\r", "\\r")


def _without(words: Sequence[str], option: str) -> list[str]:
    """Command-line words after the command's name, without an option and its value."""
    left: list[str] = []
    words = list(words)[list(words).index("score") + 1 :]
    skip = False
    for word in words:
        if skip or word.split("=")[0] == option:
            skip = word == option
            continue
        left.append(word)
    return left
