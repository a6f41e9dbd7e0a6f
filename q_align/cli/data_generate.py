"""`q-align data generate`: rated images and clips by seed, for the quick start and for training nano."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

# Fields of q_align.synthetic.GenerationPlan that can be set beside a preset.
COUNTS = ("contents", "per_content", "size", "seed")
SHARES = ("photos", "mixtures", "aesthetics", "clips", "test")


def add_parser(subparsers: Any) -> None:
    """Adds `generate` to the holder of the `data` commands."""
    parser = subparsers.add_parser("generate", help="generate images and clips with ratings", allow_abbrev=False)
    parser.add_argument("output", metavar="DIR", help="new folder for media/, ladder/ and labels.csv")
    parser.add_argument(
        "--preset", default="quickstart", help="tiny, quickstart, pretrain or large (default: quickstart)"
    )
    for name in COUNTS:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, metavar="N", help=f"{name} instead of the preset's"
        )
    for name in SHARES:
        parser.add_argument(f"--{name}", type=float, metavar="SHARE", help=f"share of {name}, instead of the preset's")
    parser.add_argument("--photo-dir", metavar="DIR", help="sharp photographs to crop besides the packaged ones")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the set and prints where its labels are."""
    from q_align.errors import ConfigError, nearest
    from q_align.synthetic import PRESETS, generate_dataset

    if args.preset not in PRESETS:
        raise ConfigError(
            f"unknown preset {args.preset!r}{nearest(args.preset, PRESETS)}; presets are {', '.join(PRESETS)}"
        )
    given = {name: getattr(args, name) for name in (*COUNTS, *SHARES, "photo_dir") if getattr(args, name) is not None}
    plan = dataclasses.replace(PRESETS[args.preset], **given)
    labels = generate_dataset(args.output, plan, workers=args.workers)
    print(f"{labels}: simulated ratings of {plan.contents} contents (seed {plan.seed})")
    return 0
