"""`q-align data fetch NAME`: published checkpoints and data sets onto this disk, by name.

`q_align.hub` and `q_align.data.archives` do the work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

# Published collections of several data sets on the hub, for the recipes of configs/mplug_owl2.
COLLECTIONS = {
    "q-align-datasets": "q-future/q-align-datasets",
    "lsvq-videos": "teowu/LSVQ-videos",
    "deqa-score-labels": "zhiyuanyou/Data-DeQA-Score",
}


def add_parser(subparsers: Any) -> None:
    """Adds `fetch` to the holder of the `data` commands."""
    parser = subparsers.add_parser("fetch", help="download a published checkpoint or data set", allow_abbrev=False)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="a checkpoint (one-align, DeQA-Score-Mix3, any org/name of the hub), a dataset card (kadid, csiq), or a "
        f"collection ({', '.join(COLLECTIONS)})",
    )
    parser.add_argument("--folder", metavar="DIR", help="folder to write to (default: the hub's cache; data sets: .)")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit of the hub's repository")
    parser.add_argument("--dataset", action="store_true", help="an org/name that is a data set, not a model")
    parser.add_argument("--unpack", action="store_true", help="unpack the archives of a data set")
    parser.add_argument("--no-verify", action="store_true", help="do not compare with the hub's checksums")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Downloads, verifies, and prints the folder; the same command resumes an interrupted download.

    Raises:
        DownloadError, MediaError: when something cannot be downloaded; with how to resume.
    """
    from q_align.data.dataset_card import card_names
    from q_align.hub import download_repo
    from q_align.models.catalog import builtin_card, fetch_checkpoint, needs_base

    if args.name in card_names():
        return _archives(args)
    dataset = args.dataset or args.name in COLLECTIONS
    folder = args.folder or ("." if dataset else None)
    options = {"revision": args.revision, "folder": folder, "verify": not args.no_verify}
    if dataset:
        root = download_repo(COLLECTIONS.get(args.name, args.name), dataset=True, **options)
    else:
        root = fetch_checkpoint(args.name, **options)
    if dataset and args.unpack:
        _unpack([path for suffix in ("*.tar", "*.tar.gz", "*.zip") for path in sorted(root.rglob(suffix))], root)
    card = None if dataset else builtin_card(args.name)
    if card is not None and card.base and needs_base(root):
        base = fetch_checkpoint(card.base, verify=not args.no_verify)
        print(f"{base}: the base that it adapts")
    print(root)
    return 0


def _archives(args: argparse.Namespace) -> int:
    from q_align.data.archives import download, free
    from q_align.data.dataset_card import load_card
    from q_align.errors import MediaError

    card = load_card(args.name)
    folder = Path(args.folder or ".")
    if not card.archives:
        raise MediaError(f"{card.title}: no archive with a checksum is known; {card.how_to_get()}")
    wanted = sum(archive.bytes for archive in card.archives) * (2 if args.unpack else 1)
    if free(folder) < wanted:
        raise MediaError(f"{folder}: {free(folder) / 1e9:.1f} GB left, {card.title} takes {wanted / 1e9:.1f} GB")
    print(f"{card.title}: {card.licence} {card.url}")
    files = [download(archive, folder) for archive in card.archives]
    if args.unpack:
        _unpack(files, folder)
    for file in files:
        print(file)
    return 0


def _unpack(files: list[Path], folder: Path) -> None:
    from q_align.data.archives import unpack

    for file in files:
        unpack(file, folder)
