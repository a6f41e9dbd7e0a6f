"""How fast are many small files read from a pack, against the files themselves? Cold cache, shuffled, one process.

    python scripts/bench/packed.py --folder DIR_ON_THE_DISK --output scripts/bench/results/packed.json

Writes random bytes as files and as one shard into a folder of the disk in question, drops them from the page cache
(posix_fadvise), and reads all of them in the same random order, turn by turn. What counts is the ratio.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from q_align.data.label_files import read_labels
from q_align.data.pack_shards import pack
from q_align.media.source import open_source


def forget(paths: list[Path]) -> None:
    """Takes files out of the page cache; inodes and folders stay known to the kernel."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def seconds(media: list[str]) -> float:
    started = time.perf_counter()
    total = 0
    for one in media:
        source = open_source(one)
        total += len(source.read_bytes() if isinstance(source, Path) else source.getbuffer())
    assert total
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure (default: the temporary one)")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kilobytes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        with (work / "set.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "mos"])
            for i in range(args.files):
                (work / f"{i}.jpg").write_bytes(os.urandom(args.kilobytes * 1024))
                rows.writerow([f"{i}.jpg", i])
        plain = read_labels(work / "set.csv")
        packed = read_labels(pack(plain, work / "pack"))
        order = random.Random(0).sample(range(args.files), args.files)
        on_disk = [*work.glob("*.jpg"), *(work / "pack").glob("*.tar")]
        ways = {n: [labels.column("media")[i] for i in order] for n, labels in (("files", plain), ("pack", packed))}
        found: dict[str, list[float]] = {name: [] for name in ways}
        os.sync()  # what is not yet on the disk stays in the page cache
        for _ in range(args.rounds):
            for name, media in ways.items():
                forget(on_disk)
                found[name].append(seconds(media))
    finally:
        shutil.rmtree(work)
    result = {
        "command": f"python scripts/bench/packed.py --files {args.files} --kilobytes {args.kilobytes} "
        f"--rounds {args.rounds}",
        "machine": f"{os.cpu_count()}-core {platform.machine()} VM, local disk, Python {platform.python_version()}",
        "media_per_second": {name: round(args.files / statistics.median(s)) for name, s in found.items()},
        "pack_over_files": round(statistics.median(f / p for f, p in zip(found["files"], found["pack"])), 2),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
