"""q-align average: one model from the mean of the weights of several runs or checkpoints."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from q_align.cli.options import add_device, add_loading, add_opinions, loading, opinions


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "average",
        help="average the weights of several runs or checkpoints",
        description="Writes the mean of the weights of runs that started from one base and ended at the same step, "
        "or of the last checkpoints of each. The mean is evaluated before it is written: on the validation rows of the "
        "first run, or on --data.",
        epilog="example: q-align average runs/seed0 runs/seed1 runs/seed2 --last 6 --output runs/mean",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="RUN_OR_CHECKPOINT", help="a run means its final model")
    add("--output", required=True, metavar="DIR", help="new folder")
    add("--last", type=int, metavar="N", help="the last N checkpoints of every run in place of its final model")
    add("--data", metavar="CARD|LABELS", help="evaluate on these rows in place of the run's validation rows")
    add("--media-root", metavar="DIR", help="with --data: folder of the media")
    add("--split", metavar="NAME", help="with --data: rows to take (default: val where there is one, else every row)")
    add_opinions(parser)
    running = parser.add_argument_group("evaluation")
    add_loading(running)
    add_device(running)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.errors import ConfigError

    output = Path(args.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: exists and is not empty; choose another --output")
    if args.last is not None and args.last < 1:
        raise ConfigError(f"--last must be 1 or more, got {args.last}")
    from q_align.models.backbone import read_card
    from q_align.train.averaging import check_same_kind
    from q_align.train.ingredients import find_ingredients, validation_rows
    from q_align.train.publish_mean import publish_mean
    from q_align.train.quiet import quiet_libraries

    ingredients = find_ingredients(args.models, args.last)
    check_same_kind([one.folder for one in ingredients])
    levels = read_card(ingredients[0].folder).levels
    sets = [_rows(args).on(levels)] if args.data else validation_rows(ingredients)
    with quiet_libraries():
        results = publish_mean(ingredients, output, sets, score_all=bool(args.data), **loading(args))
    for name, value in results:
        print(
            f"{name}: "
            + ("not evaluated" if value is None else "SRCC undefined" if math.isnan(value) else f"SRCC {value:.4f}")
        )
    print(output)
    return 0


def _rows(args: argparse.Namespace) -> Any:
    from q_align.data.open_dataset import open_dataset

    labels = open_dataset(args.data, media_root=args.media_root, **opinions(args))
    names = set(labels.column("split").tolist()) if labels.has("split") else set()
    split = args.split or ("val" if "val" in names else "all")
    return labels if split == "all" else labels.split(split)
