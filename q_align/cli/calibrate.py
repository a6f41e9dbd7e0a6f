"""q-align calibrate: fits a model's scores to a data set's own MOS (`q-align score --scale mos:SOURCE`)."""

from __future__ import annotations

import argparse
from typing import Any

from q_align.cli.allocator import tune_for_scoring
from q_align.cli.options import add_device, add_loading, add_opinions, loading, opinions


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="fit scores to a data set's own MOS",
        description="Scores rated images and videos, fits their MOS, and stores the fit in the model's q_align.json. "
        "Afterwards q-align score --scale mos:SOURCE gives scores in that data set's units.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder; its q_align.json is written")
    parser.add_argument("--data", required=True, metavar="CARD|LABELS", help="data set card or labels file")
    parser.add_argument("--media-root", metavar="DIR", help="folder of relative paths (default: that of the labels)")
    parser.add_argument("--split", default="val", help="rows to fit on (default: %(default)s; all: every row)")
    add_opinions(parser)
    parser.add_argument("--task", metavar="TASK", help="task of labels that name none (default: as in training)")
    parser.add_argument("--kind", default="logistic", choices=("affine", "logistic", "isotonic"))
    running = parser.add_argument_group("running")
    add_loading(running)
    add_device(running)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.evaluation.calibrate_model import calibrate_model

    tune_for_scoring(args.device)
    found = calibrate_model(
        args.model,
        args.data,
        media_root=args.media_root,
        split=args.split,
        kind=args.kind,
        task=args.task,
        **opinions(args),
        **loading(args),
    )
    source, (low, high) = found["source"], found["mos_range"]
    print(
        f"{source}: {found['kind']} fit on {found['n']} items ({found['failed']} failed), RMSE {found['rmse']:.3g} MOS "
        f"points (scale {low:.4g} to {high:.4g}); use it with q-align score --scale mos:{source}"
    )
    return 1 if found["failed"] else 0
