"""q-align evaluate: scores rated images and videos with one or several models, and measures the agreement with MOS."""

from __future__ import annotations

import argparse
from typing import Any

from q_align.cli.allocator import tune_for_scoring
from q_align.cli.options import add_device, add_loading, add_opinions, loading, opinions
from q_align.log import printable


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="evaluate a model on data with MOS (SRCC, PLCC, ...)",
        description="Scores rated images and videos and writes OUTPUT/scores.parquet and OUTPUT/metrics.json; with "
        "several models or data sets one folder for each pair, and a cross-dataset matrix. Scores are cached.",
        epilog="Exit code 0 only if every item was scored and every --fail-under holds.",
    )
    parser.add_argument("--model", nargs="+", default=["nano"], metavar="M", help="model folders (default: nano)")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="CARD|LABELS",
        help="data set cards (koniq), labels files, or both (koniq=my_labels.csv); --list-cards names the cards",
    )
    parser.add_argument(
        "--media-root", nargs="+", metavar="DIR", help="folder of relative paths; one, or one per --data"
    )
    parser.add_argument("--labels-root", metavar="DIR", help="folder of published label files (default: media root)")
    parser.add_argument(
        "--split", metavar="NAME", help="rows to take (default: test where there is one; all: every row)"
    )
    add_opinions(parser)
    parser.add_argument(
        "--task",
        metavar="TASK",
        help="task of labels that name none (default: the one that the models were trained for)",
    )
    parser.add_argument(
        "--scale",
        metavar="mos:SOURCE",
        help="units of rmse_mos and mae_mos (default: the data set's own, by its calibration or its MOS range)",
    )
    parser.add_argument("--allow-urls", action="store_true", help="fetch http and https addresses in the labels")
    parser.add_argument("--output", metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--fail-under",
        nargs="+",
        default=[],
        metavar="METRIC=VALUE",
        help="exit code 1 when a metric of any result is lower (for errors such as rmse: higher): srcc=0.9 rmse=0.5",
    )
    parser.add_argument("--cache", metavar="DIR", help="folder of cached scores (default: the user's cache folder)")
    parser.add_argument("--no-cache", action="store_true", help="score everything again and cache nothing")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--list-cards", action="store_true", help="list the data set cards and stop")
    running = parser.add_argument_group("running")
    add_loading(running)
    add_device(running)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.errors import ConfigError

    if args.list_cards:
        return _list()
    for option, value, what in (
        ("--data", args.data, "a data set card or a labels file"),
        ("--output", args.output, "a folder for the results"),
    ):
        if not value:
            raise ConfigError(f"q-align evaluate needs {option} ({what})")

    from q_align.evaluation.evaluate_models import evaluate_models
    from q_align.evaluation.settings import EvaluationSettings
    from q_align.evaluation.thresholds import check_thresholds, parse_thresholds
    from q_align.media import Limits

    tune_for_scoring(args.device)
    thresholds = parse_thresholds(args.fail_under)  # before hours of scoring
    limits = {"limits": Limits(allow_urls=True)} if args.allow_urls else {}
    settings = EvaluationSettings(
        split=args.split,
        labels_root=args.labels_root,
        **opinions(args),
        task=args.task,
        scale=args.scale,
        loading=loading(args) | limits,
        cache=False if args.no_cache else args.cache,
        resamples=args.resamples,
        seed=args.seed,
    )
    results = evaluate_models(args.model, args.data, args.output, media_roots=args.media_root, settings=settings)
    for result in results:
        print(printable(result.line(), allowed="\n\t"))
    missed = check_thresholds(thresholds, {result.name: result.metrics for result in results})
    for line in missed:
        print(f"threshold: {line}")
    failed = sum(result.metrics["failed"] for result in results)
    return 1 if failed or missed else 0


def _list() -> int:
    from q_align.data.open_dataset import card_names, load_card

    for name in card_names():
        card = load_card(name)
        parts = ", ".join(f"{key} {part.n}" for key, part in card.splits.items())
        print(f"{name:12} {card.task}  {card.title}: {parts}  {card.url}")
    return 0
