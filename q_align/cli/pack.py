"""`q-align data pack`: many small media files become a few large ones, and labels that point into them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_parser(subparsers: Any, reading: Callable[[argparse.ArgumentParser], None]) -> None:
    """Adds `pack` to the holder of the `data` commands; `reading` adds the arguments that say how labels are read."""
    parser = subparsers.add_parser("pack", help="pack many small media into a few large files", allow_abbrev=False)
    reading(parser)
    parser.add_argument("output", metavar="DIR", help="new folder for the shards and their labels file")
    parser.add_argument("--media-root", metavar="DIR", help="folder of the media (default: that of the labels file)")
    parser.add_argument("--shard-mb", type=int, default=1024, metavar="N", help="size of a shard (default: 1024)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Packs and prints the new labels file; raises `MediaError` for media that cannot be packed."""
    from q_align.data.pack import pack
    from q_align.data.sources import read_labels
    from q_align.errors import ConfigError
    from q_align.log import log

    if args.shard_mb < 1:
        raise ConfigError(f"--shard-mb must be positive, got {args.shard_mb}")
    labels = read_labels(
        args.file,
        media_root=args.media_root,
        task=args.task,
        source=args.source,
        mos_range=tuple(args.mos_range) if args.mos_range else None,
        higher_is_better=not args.lower_is_better,
    )
    target = pack(labels, args.output, shard_bytes=args.shard_mb << 20)
    low, high = labels.mos_range
    log.info(
        "train on it with data.mos_range [%g,%g]%s",
        *(low, high, "" if labels.higher_is_better else " and data.higher_is_better false"),
    )
    print(f"{target}: {len(labels)} rows")
    return 0
