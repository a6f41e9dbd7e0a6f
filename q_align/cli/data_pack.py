"""`q-align data pack`: many small image and video files become a few tar files, and labels that point into them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from q_align.cli.options import opinions


def add_parser(subparsers: Any, add_reading: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds `pack` to the `data` commands; `add_reading` adds the arguments that tell how labels are read."""
    parser = subparsers.add_parser(
        "pack", help="pack many small images or videos into a few tar files", allow_abbrev=False
    )
    add_reading(parser)
    parser.add_argument("output", metavar="DIR", help="new folder for the shards and their labels file")
    parser.add_argument(
        "--media-root", metavar="DIR", help="folder of the images and videos (default: that of the labels file)"
    )
    parser.add_argument("--shard-mb", type=int, default=1024, metavar="N", help="size of a shard (default: 1024)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Packs and prints the new labels file; raises `MediaError` for files that cannot be packed."""
    from q_align.data.label_files import read_labels
    from q_align.data.pack_shards import pack
    from q_align.errors import ConfigError

    if args.shard_mb < 1:
        raise ConfigError(f"--shard-mb must be positive, got {args.shard_mb}")
    labels = read_labels(
        args.file,
        media_root=args.media_root,
        task=args.task,
        source=args.source,
        **opinions(args),
    )
    target = pack(labels, args.output, shard_bytes=args.shard_mb << 20)
    log_training_keys(labels)
    print(f"{target}: {len(labels)} rows")
    return 0


def log_training_keys(labels: Any) -> None:
    """Logs the range and the direction, which a labels file does not hold, as configuration keys."""
    from q_align.log import log

    low, high = (repr(float(end)).removesuffix(".0") for end in labels.mos_range)  # rounded, it would refuse rows
    better = "" if labels.higher_is_better else " and data.higher_is_better false"
    log.info("train on it with data.mos_range [%s,%s]%s", low, high, better)
