"""q-align ablate: trains one model with several losses and seeds, and prints a table of the results."""

from __future__ import annotations

import argparse
from typing import Any

from q_align.cli.options import add_offline


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "ablate",
        help="compare losses or settings over several seeds",
        description="Generates rated images, trains every variant of the plan with every seed, scores the test splits, "
        "and prints a table of SRCC and PLCC. The same command resumes; finished runs are not repeated.",
        epilog="example: q-align ablate --config ablate --output runs/ablation (docs/ablation.md)",
        allow_abbrev=False,
    )
    parser.add_argument("--config", default="ablate", metavar="FILE", help="the plan, YAML (default: %(default)s)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for data, runs, results and the table")
    add_offline(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.cli.allocator import tune_for_training
    from q_align.config.files import find_config
    from q_align.train.ablation import ablate, read_plan

    plan = read_plan(find_config(args.config))
    tune_for_training(recompute=False)
    print(ablate(plan, args.output).read_text(encoding="utf-8"), end="")
    return 0
