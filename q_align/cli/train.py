"""q-align train: fine-tune a model on rated images or videos."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from q_align.cli.allocator import tune_for_training
from q_align.cli.options import add_config, add_offline


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="fine-tune a model on rated images or videos",
        description="Fine-tunes a model. YAML files are merged left to right; --section.key value comes last. "
        "`q-align config --help-keys` lists every key with its meaning.",
        epilog="example: q-align train --config nano --data.train labels.csv --train.output_dir runs/mine",
        allow_abbrev=False,
    )
    add_config(parser)
    add_offline(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.config.resolve import resolve_config

    config = resolve_config(args.config, args.overrides)
    from q_align.train.run import run as train
    from q_align.train.terminate import TerminatedError

    tune_for_training(recompute=bool(config.train.checkpointing))
    try:
        result = train(config)
    except KeyboardInterrupt:
        print("q-align: interrupted; resume from the last checkpoint with --train.resume true", file=sys.stderr)
        return 130
    except TerminatedError as error:
        print(f"q-align: {error}", file=sys.stderr)
        return 128 + signal.SIGTERM
    if os.environ.get("RANK", "0") == "0":
        print(result.folder)
    return 0
