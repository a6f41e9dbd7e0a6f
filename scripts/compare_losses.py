"""Do two versions of q_align give the same scores and training losses? Records each version, then compares the records.

    python scripts/compare_losses.py record --checkout OLD --models FOLDER --output before.json
    python scripts/compare_losses.py record --checkout NEW --models FOLDER --output after.json
    python scripts/compare_losses.py compare before.json after.json

`record` runs the code of a checkout in processes of its own (CPU, one thread, float32): runs of 20 training steps, and
scores of what they trained, of the embedded model, of the reference mPLUG-Owl2 and of tiny random chat models.
It uses `q_align.Scorer` and `python -m q_align train` only, so that one script measures versions of different layout.
The tiny models are built once, by tests/tiny_models.py of the checkout `--builder`; both versions read those folders.
The test data are in `--data` (default: $Q_ALIGN_TEST_DATA, else the folder `shared` beside the repository).

`compare` exits with 1 if the inputs differ, a score is not bit-identical, or a number of a training run differs by more
than 1e-6 (gradient norms above 1: relative). Floats are stored by `repr`, which is exact. Make both records on one
machine with the same libraries: other processors and versions round differently. `compare` prints where these differ.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIMIT = 1e-6
ALL_TASKS = ["iqa", "iaa", "vqa"]
# In the folder of the tiny models: sys.argv[1] is where tiny_models.py lies.
BUILD = """import sys, pathlib; sys.path.insert(0, sys.argv[1]); import tiny_models
for name in tiny_models.TINY: tiny_models.make(name, pathlib.Path(name))"""
LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "numpy", "pillow", "decord", "sentencepiece")
# Losses and learning rate by model; what else matters is stated, so that a new default does not look like a fault.
RUNS = {"nano": ("hard soft fidelity", 8e-4), "qwen2_5_vl": ("hard soft", 1e-3), "mplug_owl2": ("hard soft", 1e-4)}
STEPS = 20
TRAINING = f"""
--data.val_share 0 --data.mos_range [1,5] --data.questions pool --data.flip true --train.seed 0 --train.batch_size 4
--train.max_steps {STEPS} --train.schedule cosine --train.warmup 0.1 --train.weight_decay 0.05 --train.max_grad_norm 1.0
--train.precision fp32 --train.workers 0 --train.log_every 1 --train.report_to []""".split()


def job(group: str, model: str, media: list[Any], tasks: list[str], batch_size: int) -> dict[str, Any]:
    """What is scored together: tasks asked in one pass, at most `batch_size` frames in one forward pass."""
    return {"group": group, "model": model, "media": [*map(str, media)], "tasks": tasks, "batch_size": batch_size}


def score_jobs(data: Path, models: dict[str, str]) -> list[dict[str, Any]]:
    tables = sorted(data.glob("data/mos/*/labels.csv"))
    rated = [path.parent / row["image"] for path in tables for row in csv.DictReader(path.open(encoding="utf-8"))]
    many, few = ([rated[i * len(rated) // count] for i in range(count)] for count in (200, 12))
    golden, video = sorted((data / "golden/mplug_owl2/images").iterdir()), [data / "data/videos/dj_1.mp4"]
    jobs = [job("nano, iqa", "nano", many, ["iqa"], 1), job("nano, batches of 8", "nano", many[::8], ["iqa"], 8)]
    for name, model in models.items():
        media = golden if name == "mplug_owl2" else few
        if name != "nano":
            jobs += [job(f"{name}, {task}", model, media, [task], 1) for task in ("iqa", "iaa")]
        jobs += [job(f"{name}, all tasks", model, media, ALL_TASKS, 4), job(f"{name}, video", model, video, ["vqa"], 1)]
    return jobs


def score(path: Path) -> None:
    """Runs in a process of the checkout: carries out the jobs of a file, and writes their scores beside it."""
    import q_align

    wanted = json.loads(path.read_text(encoding="utf-8"))
    if not Path(q_align.__file__).resolve().is_relative_to(wanted["checkout"]):
        raise SystemExit(f"{q_align.__file__} was imported, but {wanted['checkout']} is to be measured")
    rows: dict[str, dict[str, str]] = {}
    for asked in wanted["jobs"]:
        print(f"scoring: {asked['group']}", file=sys.stderr, flush=True)
        options = {"device": "cpu", "dtype": "float32", "workers": 0, "batch_size": asked["batch_size"]}
        scorer = q_align.Scorer.from_pretrained(asked["model"], **options)
        scores = list(scorer.stream(asked["media"], task=asked["tasks"], on_error="raise"))
        pairs = [(medium, task) for medium in asked["media"] for task in asked["tasks"]]
        if [(one.id, one.task) for one in scores] != pairs:
            raise SystemExit(f"{asked['group']}: the scores are not those that were asked for, in their order")
        names = [f"{Path(medium).relative_to(wanted['data'])} {task}" for medium, task in pairs]
        numbers = [(one.value, *one.probs, one.std, one.mass) for one in scores]
        rows[asked["group"]] = {name: " ".join(repr(float(x)) for x in row) for name, row in zip(names, numbers)}
    path.with_name("scores.json").write_text(json.dumps(rows), encoding="utf-8")


def call(words: list[Any], checkout: Path, folder: Path) -> None:
    """Runs Python with a checkout's code in a folder: one thread, no GPU, no network."""
    ones = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE")
    more = {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(checkout)}
    env, command = {**os.environ, **dict.fromkeys(ones, "1"), **more}, [sys.executable, *map(str, words)]
    done = subprocess.run(command, check=False, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed ({done.returncode}):\n{(done.stdout + done.stderr)[-8000:]}")


def train(words: list[Any], checkout: Path, output: Path) -> dict[str, str]:
    """Loss and gradient norm of every step of a run."""
    call(["-m", "q_align", "train", "--train.output_dir", output, *words], checkout, output.parent)
    history = json.loads(next(output.rglob("log_history.json")).read_text(encoding="utf-8"))
    lines = [line for line in history if "loss" in line]
    if len(lines) != STEPS:
        raise SystemExit(f"{output.name}: {len(lines)} steps in log_history.json, not {STEPS}")
    return {f"{key}, step {line['step']}": repr(float(line[key])) for key in ("loss", "grad_norm") for line in lines}


def record(args: argparse.Namespace, work: Path) -> None:
    checkout, data, start = args.checkout.resolve(), args.data.resolve(), time.monotonic()
    tiny, builder = (args.models or work / "models").resolve(), (args.builder or checkout).resolve()
    if not tiny.is_dir():
        (work / "new").mkdir()
        call(["-c", BUILD, builder / "tests"], builder, work / "new")
        shutil.move(work / "new", tiny)
    models = {"nano": "nano", "mplug_owl2": str(data / "golden/mplug_owl2/ckpt")}
    models |= {path.name: str(path) for path in sorted(tiny.iterdir())}
    jobs, labels, training = score_jobs(data, models), data / "data/mos/avt_h265/labels.csv", {}
    loss_key = "--loss.name" if (checkout / "q_align/losses").is_dir() else "--syllabus.name"
    for name, loss, lr in ((name, loss, lr) for name, (losses, lr) in RUNS.items() for loss in losses.split()):
        run, output = f"{name} {loss}", work / f"{name}-{loss}"
        print(f"training: {run}", file=sys.stderr, flush=True)
        words = ["--model.path", models[name], "--data.train", labels, loss_key, loss, "--train.lr", lr, *TRAINING]
        training[run] = train([*words, *args.also.split()], checkout, output)
        jobs.append(job(run, str(output), jobs[0]["media"][-4:], ["iqa"], 1))
    print(f"scoring: {len(jobs)} groups", file=sys.stderr, flush=True)
    (work / "jobs.json").write_text(json.dumps({"checkout": str(checkout), "data": str(data), "jobs": jobs}))
    call([Path(__file__).resolve(), "score", work / "jobs.json"], checkout, work)
    scores = json.loads((work / "scores.json").read_text(encoding="utf-8"))
    for run, numbers in training.items():
        numbers.update({f"score of {name}": row for name, row in scores.pop(run).items()})
    files = {name: sorted(Path(path).iterdir()) for name, path in models.items() if name != "nano"}
    files["media and labels"] = [labels, *sorted({Path(path) for one in jobs for path in one["media"]})]
    inputs = {name: hashlib.sha256(b"".join(map(Path.read_bytes, paths))).hexdigest() for name, paths in files.items()}
    made = {"about": described(checkout), "inputs": inputs, "scores": scores, "training": training}
    made["about"]["seconds"] = round(time.monotonic() - start)
    args.output.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def described(checkout: Path) -> dict[str, Any]:
    import torch

    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    code = subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip()
    about = {"code": code, "python": platform.python_version(), "processor": torch.backends.cpu.get_cpu_capability()}
    return about | {name: version(name) for name in LIBRARIES}


def difference(name: str, a: str, b: str) -> float:
    pairs = [(float(x), float(y)) for x, y in zip(a.split(), b.split(), strict=True)]
    return max(abs(x - y) / (max(1.0, abs(x)) if name.startswith("grad_norm") else 1.0) for x, y in pairs)


def compare(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Prints a line for every group; says whether all of them are within their limits."""
    for part in ("about", "inputs"):
        for name in sorted(old[part].keys() | new[part].keys()):
            if name != "seconds" and old[part].get(name) != new[part].get(name):
                print(f"{part}: {name} was {old[part].get(name)}, is {new[part].get(name)}")
    fine = old["inputs"] == new["inputs"]
    print(f"\n{'what':44}{'rows':>6}{'identical':>11}{'largest difference':>20}{'limit':>8}")
    for part, limit in (("scores", 0.0), ("training", LIMIT)):
        for group in sorted(old[part].keys() | new[part].keys()):
            a, b = old[part].get(group, {}), new[part].get(group, {})
            same = sum(a.get(name) == row for name, row in b.items())
            apart = [difference(name, a[name], b[name]) for name in a.keys() & b.keys() if a[name] != b[name]]
            good = a.keys() == b.keys() and all(0 < x <= limit for x in apart)
            fine &= good
            numbers = f"{len(a.keys() | b.keys()):6}{same:11}{max(apart, default=0):20.1e}{limit:8.0e}"
            print(f"{part + ': ' + group:44}{numbers}{'' if good else '  FAULT'}")
    print("the same" if fine else "NOT the same")
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("record", help="run a checkout's code and write its numbers").add_argument
    add("--checkout", type=Path, required=True, help="folder of the repository that is measured")
    add("--output", type=Path, required=True, metavar="FILE.json")
    data = os.environ.get("Q_ALIGN_TEST_DATA", Path(__file__).resolve().parents[2] / "shared")
    add("--data", type=Path, default=data, help="test data: data/mos, data/videos, golden/mplug_owl2")
    add("--models", type=Path, help="folder of the tiny models, built if there is none (default: a temporary one)")
    add("--builder", type=Path, help="checkout whose tests/tiny_models.py builds them (default: --checkout)")
    add("--also", default="", metavar="WORDS", help="further words for every training: '--data.crop null'")
    add = commands.add_parser("compare", help="exit with 1 if two records differ").add_argument
    add("records", type=Path, nargs=2, metavar="FILE.json")
    commands.add_parser("score", help="what `record` starts").add_argument("jobs", type=Path)
    args = parser.parse_args()
    if args.command == "compare":
        return not compare(*(json.loads(path.read_text(encoding="utf-8")) for path in args.records))
    with tempfile.TemporaryDirectory() as folder:
        score(args.jobs) if args.command == "score" else record(args, Path(folder).resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
