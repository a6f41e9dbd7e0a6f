"""Do two processes train what one does? DDP, ZeRO-2, ZeRO-3, FSDP2 on CPU (gloo) against one, same global batch.

    python scripts/bench/train_parallel.py --output scripts/bench/results/train_parallel.json

Every run is the real command, `q-align train`, started by torchrun (FSDP2 through `fsdp_on_cpu.py`, which says why).
Compares the weights of the last checkpoint, their names, and how many held-out media each evaluation counted; then
takes the second half of the checkpoints away and goes on, which must end in the same weights. nano's
vision part is frozen: its batch normalisation sees the media of its own process only, so that no data parallelism
gives it the statistics of the whole batch. The tiny random Qwen2.5-VL trains whole.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
MODES = {"ddp": "auto", "zero2": "zero2", "zero3": "zero3", "fsdp": "fsdp"}


def make_set(folder: Path, *, train: int, val: int, side: int = 56) -> Path:
    """Noise of rising strength, with the MOS that falls with it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["image,mos,std,split"]
    for i in range(train + val):
        strength = i / (train + val - 1)
        pixels = np.linspace(60, 190, side)[None, :, None] + rng.normal(0, 90 * strength, (side, side, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
        lines.append(f"{i:03d}.png,{5 - 4 * strength:.3f},0.4,{'val' if i % (train + val) % 5 == 1 else 'train'}")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def make_model(name: str, folder: Path) -> list[str]:
    """A small random model; returns what its runs need besides."""
    if name == "nano":
        from q_align.models.nano import build

        build(seed=0, channels=[8, 12], blocks=[0, 1], hidden=32, layers=2, heads=2, mlp=48, tile=64).save(folder)
        return ["--model.freeze", "[vision]"]
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_models import make

    from q_align.models.backbone import Backbone

    Backbone.from_pretrained(make(name, folder / "published")).save(folder)
    return []


def train(folder: Path, words: list[str], *, processes: int) -> float:
    launch = (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        if processes > 1
        else [sys.executable]
    )
    started = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    program = [str(Path(__file__).with_name("fsdp_on_cpu.py"))] if "fsdp" in words else ["-m", "q_align"]
    command = [*launch, *program, "train", *words, "--train.output_dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[:6000]}")
    return time.perf_counter() - started


def last(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))


def compare(folder: Path, reference: Path, start: Path) -> dict[str, Any]:
    ours, theirs = (load_file(last(f) / "model.safetensors") for f in (folder, reference))
    begun = load_file(start / "model.safetensors")
    gaps = {n: (ours[n].double() - theirs[n].double()).abs().max().item() for n in theirs if n in ours}
    worst = max(gaps, key=lambda n: gaps[n])
    history = json.loads((folder / "log_history.json").read_text())
    return {
        "largest_difference": gaps[worst],
        "in": worst,
        "largest_movement": max((theirs[n].double() - begun[n].double()).abs().max().item() for n in theirs),
        "same_names_as_one_process": sorted(ours) == sorted(theirs),
        "media_counted_per_evaluation": sorted({line["eval_n"] for line in history if "eval_n" in line}),
        "eval_srcc": [line["eval_srcc"] for line in history if "eval_srcc" in line],
    }


def resumed(folder: Path, words: list[str]) -> float:
    """Loses the second half of a run and goes on; the largest difference of the last weights to those lost."""
    found = sorted((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
    before = load_file(found[-1] / "model.safetensors")
    for lost in found[len(found) // 2 :]:
        shutil.rmtree(lost)
    train(folder, [*words, "--train.resume", "true"], processes=2)
    after = load_file(last(folder) / "model.safetensors")
    return max((after[n].double() - before[n].double()).abs().max().item() for n in before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--models", nargs="+", default=["nano", "qwen2_5_vl"])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--lr", default="1e-4")
    args = parser.parse_args()
    results: dict[str, Any] = {
        "command": "python scripts/bench/train_parallel.py",
        "machine": f"{os.cpu_count()}-core {platform.machine()} VM, no GPU, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        "learning_rate": float(args.lr),
        "models": {},
    }
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        labels = make_set(work / "noise", train=32, val=8)
        for name in args.models:
            extra = make_model(name, work / name)
            words = [
                *("--model.path", str(work / name), "--data.train", str(labels), "--data.mos_range", "[1,5]"),
                *("--train.epochs", "2", "--train.eval_every", "0.5", "--train.lr", args.lr, "--train.warmup", "0"),
                *("--train.workers", "0", "--train.report_to", "[]", "--train.eval_batch_size", "3", *extra),
            ]
            seconds = train(work / f"{name}_one", [*words, "--train.batch_size", "4"], processes=1)
            found: dict[str, Any] = {"one_process": {"seconds": round(seconds, 1)}}
            for mode in args.modes:
                folder = work / f"{name}_{mode}"
                more = ["--train.batch_size", "2", "--train.engine", MODES[mode]]
                seconds = train(folder, [*words, *more], processes=2)
                found[mode] = {"seconds": round(seconds, 1), **compare(folder, work / f"{name}_one", work / name)}
                found[mode]["largest_difference_when_resumed"] = resumed(folder, [*words, *more])
                print(name, mode, json.dumps(found[mode]), flush=True)
            results["models"][name] = found
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
