"""q-align evaluate: scores rated media with one or several models and measures the agreement with people."""

from __future__ import annotations

import argparse
from typing import Any

from q_align.cli.allocator import tune_for_scoring
from q_align.cli.options import add_device, add_loading, add_opinions, loading, opinions


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model against opinions",
        description="Scores rated media and writes OUTPUT/scores.parquet and OUTPUT/metrics.json; with several models "
        "or data sets one folder for each pair, and a cross-dataset matrix. Scores are kept and never computed twice.",
        epilog="Exit code 0 only if every medium was scored and every --fail-under holds.",
    )
    parser.add_argument("--model", nargs="+", default=["nano"], metavar="M", help="model folders (default: nano)")
    parser.add_argument(
        "--data",
        nargs="+",
        metavar="CARD|LABELS",
        help="dataset cards (koniq), labels files, or both (koniq=my_labels.csv); --list-cards names the cards",
    )
    parser.add_argument("--media-root", nargs="+", metavar="DIR", help="folder of the media; one, or one per --data")
    parser.add_argument("--labels-root", metavar="DIR", help="folder of published label files (default: media root)")
    parser.add_argument(
        "--split", metavar="NAME", help="rows to take (default: test where there is one; all: every row)"
    )
    add_opinions(parser)
    parser.add_argument("--task", choices=("iqa", "iaa", "vqa"), help="task of a labels file (default: its own)")
    parser.add_argument("--output", metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--fail-under",
        nargs="+",
        default=[],
        metavar="MEASURE=VALUE",
        help="end with exit code 1 when a measure of any result is lower (rmse, mae, ece: higher): srcc=0.9 plcc=0.9",
    )
    parser.add_argument("--cache", metavar="DIR", help="where scores are kept (default: the user's cache folder)")
    parser.add_argument("--no-cache", action="store_true", help="score everything again, keep nothing")
    parser.add_argument("--resamples", type=int, default=1000, help="bootstrap resamples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--list-cards", action="store_true", help="list the dataset cards and stop")
    running = parser.add_argument_group("running")
    add_loading(running)
    add_device(running)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.errors import ConfigError

    if args.list_cards:
        return _list()
    for option, value, what in (
        ("--data", args.data, "a dataset card or a labels file"),
        ("--output", args.output, "a folder for the results"),
    ):
        if not value:
            raise ConfigError(f"q-align evaluate needs {option} ({what})")

    from q_align.evaluate.evaluation import Settings, evaluate
    from q_align.evaluate.thresholds import check_gates, parse_gates

    tune_for_scoring(args.device)
    gates = parse_gates(args.fail_under)  # before hours of scoring
    settings = Settings(
        split=args.split,
        labels_root=args.labels_root,
        **opinions(args),
        task=args.task,
        loading=loading(args),
        cache=False if args.no_cache else args.cache,
        resamples=args.resamples,
        seed=args.seed,
    )
    results = evaluate(args.model, args.data, args.output, media_roots=args.media_root, settings=settings)
    for result in results:
        print(result.line())
    broken = check_gates(gates, {result.name: result.metrics for result in results})
    for line in broken:
        print(f"gate: {line}")
    failed = sum(result.metrics["failed"] for result in results)
    return 1 if failed or broken else 0


def _list() -> int:
    from q_align.data.open_dataset import card_names, load_card

    for name in card_names():
        card = load_card(name)
        parts = ", ".join(f"{key} {part.n}" for key, part in card.splits.items())
        print(f"{name:12} {card.task}  {card.title}: {parts}  {card.url}")
    return 0
