"""Kill a training run with SIGKILL at random moments, resume it, and compare with a run that nobody touched.

    python scripts/kill_drill.py --trials 24 --output scripts/bench/results/kill_drill.json

Each trial is killed up to three times: at a random moment, or while a checkpoint is being written; the process alone,
or together with its loader workers. Then it resumes and ends. Its last checkpoint and its published model must equal
the uninterrupted run's bit for bit (CPU, float32). Runs are forked from this process, which has everything imported,
so that the moments of the kills fall into training and not into start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent / "bench"))
from train_parallel import make_model, make_set

from q_align.config.resolve import resolve_config
from q_align.config.schema import RunConfig
from q_align.train import trainer  # noqa: F401  (imported before the forks, with all that it needs)
from q_align.train.run import run


def settings(model: Path, labels: Path, output: Path) -> RunConfig:
    """A run of 48 steps in 3 epochs, with a checkpoint every fifth step, mostly in the middle of an epoch."""
    words = {
        "model.path": model,
        "data.train": labels,
        "data.mos_range": [1, 5],
        "train.output_dir": output,
        "train.epochs": 3,
        "train.batch_size": 2,
        "train.lr": 1e-3,
        "train.eval_every": 0.31,
        "train.workers": 2,
        "train.report_to": [],
        "train.resume": True,
    }
    return resolve_config([], [word for key, value in words.items() for word in (f"--{key}", str(value))])


def start(config: RunConfig, log: Path) -> int:
    """Forks a process (and a group) that trains; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        run(config)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def kill(pid: int, folder: Path, *, rng: random.Random, length: float) -> dict[str, Any] | None:
    """Waits for the chosen moment and kills; None where the run ended before it."""
    how = {"while_saving": rng.random() < 0.5, "whole_group": rng.random() < 0.5}
    begun = time.monotonic()
    moment = rng.uniform(0.0, length)
    partial = folder / "checkpoints" / ".partial"
    while True:
        if (code := ended(pid)) is not None:
            if code:
                raise SystemExit(f"{folder}: the run failed by itself, see its log")
            return None
        late = time.monotonic() - begun >= moment
        if late and (not how["while_saving"] or any(partial.glob("checkpoint-*/*"))):
            break
        time.sleep(0.0005)
    if how["while_saving"]:
        time.sleep(rng.uniform(0.0, 0.03))
    (os.killpg if how["whole_group"] else os.kill)(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    left = sorted(p.name for p in partial.glob("checkpoint-*"))
    whole = sorted(int(p.name[11:]) for p in (folder / "checkpoints").glob("checkpoint-*"))
    return {**how, "after_seconds": round(time.monotonic() - begun, 2), "half_left": left, "checkpoints": whole}


def finish(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("a run failed by itself, see its log")


def equal(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def last(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))


def drill(work: Path, trials: int, seed: int) -> dict[str, Any]:
    """Runs all trials in a folder; returns the record."""
    torch.set_num_threads(1)
    labels, model = make_set(work / "noise", train=32, val=8, side=24), work / "model"
    make_model("nano", model)
    reference = work / "reference"
    begun = time.monotonic()
    finish(start(settings(model, labels, reference), work / "reference.log"))
    length = time.monotonic() - begun
    rng = random.Random(seed)
    records = []
    for number in range(trials):
        folder, log = work / f"trial{number}", work / f"trial{number}.log"
        config = settings(model, labels, folder)
        kills = []
        for _ in range(rng.randint(1, 3)):
            pid = start(config, log)
            record = kill(pid, folder, rng=rng, length=length)
            if record is None:
                break
            kills.append(record)
        finish(start(config, log))
        same = equal(last(folder), last(reference)) and equal(folder, reference)
        records.append({"bit_for_bit": same, "kills": kills})
        print(f"trial {number}: {len(kills)} kills, {'equal' if same else 'DIFFERENT'}", flush=True)
        if same:
            shutil.rmtree(folder)
    return {
        "trials": trials,
        "bit_for_bit": sum(record["bit_for_bit"] for record in records),
        "kills": sum(len(record["kills"]) for record in records),
        "kills_that_left_half_a_checkpoint": sum(bool(k["half_left"]) for r in records for k in r["kills"]),
        "seconds_of_the_uninterrupted_run": round(length, 1),
        "records": records,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = drill(Path(place), args.trials, args.seed)
    found = {
        "command": f"python scripts/kill_drill.py --trials {args.trials} --seed {args.seed}",
        "machine": f"{os.cpu_count()}-core {platform.machine()} VM, no GPU, Python {platform.python_version()}, "
        f"torch {torch.__version__}",
        **found,
    }
    print({key: value for key, value in found.items() if key != "records"})
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n")
    return int(found["bit_for_bit"] != found["trials"])


if __name__ == "__main__":
    raise SystemExit(main())
