"""One model for three tasks, or three models? A joint IQA + IAA + VQA run of nano against three single-task runs.

    python scripts/bench/train_joint.py --output scripts/bench/results/train_joint.json

Generated media with simulated opinions, split by content; nano from its own weights, or from scratch (--scratch, which
wants many more epochs). Every run shows its rows the same number
of times, so that the joint run takes as many steps as the three others together. SRCC on the test split, by
`q-align evaluate`; the joint model is one set of weights.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TASKS = ("iqa", "iaa", "vqa")


def q_align(*words: str) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "q_align", *words], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode:
        raise SystemExit(f"q-align {' '.join(words)}\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}")


def make(folder: Path, contents: int, per_content: int, seed: int) -> dict[str, Path]:
    """Generates the set and writes one labels file per task beside its media."""
    shares = ("--aesthetics", "1.0", "--clips", "1.0", "--test", "0.25", "--mixtures", "0")
    sizes = ("--contents", str(contents), "--per-content", str(per_content), "--size", "96", "--seed", str(seed))
    q_align("data", "generate", str(folder), "--preset", "quickstart", *sizes, *shares)
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = {}
    for task in TASKS:
        mine = [row for row in rows if row["task"] == task]
        files[task] = folder / f"{task}.csv"
        with files[task].open("w", newline="") as file:
            writer = csv.DictWriter(file, list(mine[0]))
            writer.writeheader()
            writer.writerows(mine)
    return files


def train(folder: Path, files: list[Path], epochs: int, seed: int, scratch: bool) -> float:
    sets = json.dumps([{"labels": str(file), "mos_range": [1, 5]} for file in files])
    settings = {
        "data.sets": sets,
        "data.crop": 96,
        "model.path": "nano",
        "model.init": "random" if scratch else "pretrained",
        "loss.name": "soft",
        "train.output_dir": folder,
        "train.epochs": epochs,
        "train.batch_size": 16,
        "train.lr": 1e-3 if scratch else 3e-4,
        "train.weight_decay": 0.05,
        "train.warmup": 0.1,
        "train.eval_every": max(1, epochs // 2),
        "train.workers": 1,
        "train.report_to": [],
        "train.seed": seed,
        "media.max_frames": 4,
    }
    started = time.perf_counter()
    q_align("train", *(word for key, value in settings.items() for word in (f"--{key}", str(value))))
    return round(time.perf_counter() - started, 1)


def measure(model: Path | str, file: Path, output: Path) -> dict[str, float]:
    q_align("evaluate", "--model", str(model), "--data", str(file), "--split", "test", "--output", str(output))
    found = json.loads(next(output.rglob("metrics.json")).read_text())
    return {name: found[name] for name in ("n", "failed", "srcc", "plcc")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contents", type=int, default=60)
    parser.add_argument("--per-content", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--scratch", action="store_true")
    parser.add_argument("--seed", type=int, default=977)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        files = make(work / "data", args.contents, args.per_content, args.seed)
        rows = {task: sum(1 for _ in file.open()) - 1 for task, file in files.items()}
        if not args.scratch:
            table["untuned"] = {
                task: measure("nano", file, work / "evaluation" / f"untuned_{task}") for task, file in files.items()
            }
            print("untuned", json.dumps(table["untuned"]), flush=True)
        for name, tasks in {**{f"{task} alone": (task,) for task in TASKS}, "joint": TASKS}.items():
            folder = work / name.replace(" ", "_")
            seconds = train(folder, [files[task] for task in tasks], args.epochs, args.seed, args.scratch)
            table[name] = {"seconds": seconds}
            for task in tasks:
                table[name][task] = measure(folder, files[task], work / "evaluation" / f"{folder.name}_{task}")
            print(name, json.dumps(table[name]), flush=True)
            save(args, rows, table)


def save(args: argparse.Namespace, rows: dict[str, int], table: dict[str, Any]) -> None:
    found = {
        "command": f"python scripts/bench/train_joint.py --contents {args.contents} --per-content {args.per_content} "
        f"--epochs {args.epochs} --seed {args.seed}" + (" --scratch" if args.scratch else ""),
        "machine": f"{os.cpu_count()}-core {platform.machine()} VM, no GPU, Python {platform.python_version()}",
        "rows": rows,
        "runs": table,
    }
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
