"""q-align calibrate: lets a model speak in a data set's own units (`q-align score --scale mos:SOURCE`)."""

from __future__ import annotations

import argparse
from typing import Any

from q_align.cli.allocator import tune_for_scoring
from q_align.cli.options import add_device, add_loading, add_opinions, loading, opinions


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "calibrate",
        help="fit scores to a data set's own MOS",
        description="Scores rated media, fits their MOS, and stores the fit in the model's q_align.json; afterwards "
        "q-align score --scale mos:SOURCE gives scores in that data set's units.",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder, which is written to")
    parser.add_argument("--data", required=True, metavar="CARD|LABELS", help="dataset card or labels file")
    parser.add_argument("--media-root", metavar="DIR", help="folder of the media (default: that of the labels)")
    parser.add_argument("--split", default="val", help="rows to fit on (default: %(default)s; all: every row)")
    add_opinions(parser)
    parser.add_argument("--kind", default="logistic", choices=("affine", "logistic", "isotonic"))
    running = parser.add_argument_group("running")
    add_loading(running)
    add_device(running)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.evaluate.calibrate_model import calibrate

    tune_for_scoring(args.device)
    found = calibrate(
        args.model,
        args.data,
        media_root=args.media_root,
        split=args.split,
        kind=args.kind,
        **opinions(args),
        **loading(args),
    )
    source = found["source"]
    print(
        f"{source}: {found['kind']} fit on {found['n']} media ({found['failed']} failed), "
        f"RMSE {found['rmse']:.4g} in its own units; use it with q-align score --scale mos:{source}"
    )
    return 1 if found["failed"] else 0
