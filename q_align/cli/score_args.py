"""The arguments of q-align score: combinations that are refused, and the job that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from q_align.cli.options import limits, loading, sampling
from q_align.cli.score_output import selects
from q_align.errors import ConfigError
from q_align.score.output_table import COLUMNS, FORMATS, OPTIONAL, is_folder
from q_align.score.score_files import ScoringJob
from q_align.score.selection import Amount


def check_score_args(args: argparse.Namespace) -> None:
    """Refuses combinations that would do something else than their names suggest.

    Raises:
        ConfigError: for each of them.
    """
    if args.keep and not selects(args):
        raise ConfigError("--keep needs --threshold or --top to select what is kept")
    if args.resume and not args.output:
        raise ConfigError("--resume skips what --output already contains; name the --output")
    if args.retry and not (args.resume and args.output):
        raise ConfigError("--retry needs --resume and --output")
    if args.devices and not (args.output and is_folder(args.output)):
        raise ConfigError("--devices writes from several processes; --output must be a folder")
    if args.devices and "-" in args.media:
        raise ConfigError("--devices cannot share the standard input; put the names into a .txt file")
    if args.top is not None:
        Amount.parse(args.top, "--top")
    Amount.parse(args.max_failed, "--max-failed", least=0)
    if args.output and Path(args.output).is_dir():
        folder = Path(args.output).resolve()
        if any(Path(word).is_dir() and Path(word).resolve() == folder for word in args.media):
            raise ConfigError(f"--output {args.output} is a folder of images or videos to score; name another --output")
    if args.output and not is_folder(args.output) and Path(args.output).suffix.lower() not in FORMATS:
        raise ConfigError(f"{args.output}: --output takes {', '.join(FORMATS)} or a folder")
    if selects(args) and "," in args.task:
        raise ConfigError("--threshold and --top need one task; name one, or select from the table afterwards")
    if args.keep and Path(args.keep).suffix in FORMATS:
        raise ConfigError(f"--keep takes a folder or a .txt, got {args.keep}; --output writes tables")
    if args.link and not (args.keep and Path(args.keep).suffix != ".txt"):
        raise ConfigError("--link needs --keep FOLDER")
    _check_columns(args)


def _check_columns(args: argparse.Namespace) -> None:
    if not args.columns:
        return
    columns, known = args.columns.split(","), [*COLUMNS, *OPTIONAL]
    if unknown := sorted(set(columns) - {*known}):
        raise ConfigError(f"unknown columns {', '.join(unknown)}; there are {', '.join(known)}")
    needed = {"id": "a row without its name is of no use, and cannot be resumed"}
    if "," in args.task:
        needed["task"] = "several tasks write several rows for each id"
    if selects(args) or args.histogram:
        needed["value"] = "--threshold, --top and --histogram read it"
    if args.retry:
        needed["error"] = "--retry reads it"
    for name, reason in needed.items():
        if name not in columns:
            raise ConfigError(f"--columns needs {name}: {reason}")
    if not (args.output or args.json):
        raise ConfigError("--columns needs --output or --json")


def job_of(args: argparse.Namespace) -> ScoringJob:
    """The job that the arguments describe."""
    number, parts = map(int, args.part.split("/"))
    return ScoringJob(
        args.media,
        args.output,
        model=args.model,
        tasks=tuple(args.task.split(",")),
        scale=args.scale,
        columns=tuple(args.columns.split(",")) if args.columns else None,
        per_frame=args.per_frame,
        resume=args.resume,
        retry=args.retry,
        root=args.root,
        column=args.column,
        part=(number, parts),
        sampling=sampling(args),
        limits=limits(args),
        loading=loading(args),
        shards={"shard_rows": args.shard_rows, "shard_seconds": args.shard_seconds},
    )


def without_option(words: Sequence[str], option: str) -> list[str]:
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
