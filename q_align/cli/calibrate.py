"""q-align calibrate: lets a model speak in a data set's own units (`q-align score --scale mos:SOURCE`)."""

from __future__ import annotations

import argparse
from typing import Any


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
    parser.add_argument("--split", default="val", help="rows to fit on (default: %(default)s)")
    parser.add_argument("--kind", default="logistic", choices=("affine", "logistic", "isotonic"))
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="frames at once (default: %(default)s)")
    parser.add_argument("--device", help="cuda, cuda:1, mps, cpu (default: the best one here)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from q_align.evaluate.calibrate import calibrate

    found = calibrate(
        args.model,
        args.data,
        media_root=args.media_root,
        split=args.split,
        kind=args.kind,
        batch_size=args.batch_size,
        device=args.device,
    )
    source = found["source"]
    print(
        f"{source}: {found['kind']} fit on {found['n']} media ({found['failed']} failed), "
        f"RMSE {found['rmse']:.4g} in its own units; use it with q-align score --scale mos:{source}"
    )
    return 1 if found["failed"] else 0
