"""mPLUG-Owl2 of 88 M parameters at 448 px on a CPU: files to scores and training steps, against the matrix ceiling.

    python scripts/bench/mplug_owl2.py --output scripts/bench/results/mplug_owl2.json
    python scripts/bench/mplug_owl2.py --only score --rounds 5 --images FOLDER --output ...

The ceiling is a large matrix product on the same cores, measured between the rounds, since other work on the machine
comes and goes; a share is work per second over that rate. Work is counted by formula (`gflop`). Every figure is given
twice: by the clock (best round), and by processor time, which other programs disturb less (training: with --threads 1).
Training runs in processes of their own, so that their peak memory is theirs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))

from score import owl88, photographs

from q_align import Scorer
from q_align.cli.allocator import keep_freed_memory, return_freed_memory
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config

COUNT = 16
BATCH = 8  # of a training step
# what the authors' program does on the same kind of machine
THEIRS = {"score float32": 1.4, "score bfloat16": 3.1, "train float32": 0.31}
TRAINING = {
    "train float32": ("float32", False),
    "train float32 checkpointing": ("float32", True),
    "train bfloat16 autocast": ("bfloat16", False),
    "train bfloat16 autocast checkpointing": ("bfloat16", True),
}


def gflop(config: MPLUGOwl2Config, text: int) -> float:
    """Multiplications and additions of one image's forward pass with `text` text tokens, in 1e9."""
    v, a, c = config.vision, config.abstractor, config
    n, q, h = v.tokens, a.num_learnable_queries, v.hidden_size
    vision = 2 * (n - 1) * 3 * v.patch_size**2 * h
    vision += v.num_hidden_layers * (2 * n * (4 * h * h + 2 * h * v.intermediate_size) + 4 * n * n * h)
    k, w = q + n, a.hidden_size
    layer = 2 * k * 2 * a.encoder_hidden_size * w + 2 * q * 2 * w * w + 4 * q * k * w + 6 * q * w * a.intermediate_size
    abstractor = a.num_hidden_layers * layer + 2 * q * w * c.hidden_size
    t = text + c.frame_tokens
    layer = 2 * t * (4 * c.hidden_size**2 + 3 * c.hidden_size * c.intermediate_size) + 4 * t * t * c.hidden_size
    return (vision + abstractor + c.num_hidden_layers * layer + 2 * c.hidden_size * c.vocab_size) / 1e9


def ceiling(dtype: torch.dtype, clock: Callable[[], float], threads: int) -> float:
    """GFLOP/s of a large matrix product: the best of a few."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    left, right = (torch.randn(1536, 1536).to(dtype) for _ in range(2))
    rates = []
    for _ in range(5):
        start = clock()
        left @ right
        rates.append(2 * 1536**3 / (clock() - start) / 1e9)
    torch.set_num_threads(before)
    return max(rates)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def rates(run: Callable[[], Any], dtype: torch.dtype, *, rounds: int, images: int, work: float) -> dict[str, Any]:
    """Best images/s and share of the ceiling over the rounds, with the ceiling measured around each."""
    cores = os.cpu_count() or 1
    walls, processors, tops, tops_one = [], [], [], []
    for _ in range(rounds):
        tops.append(ceiling(dtype, time.perf_counter, cores))
        tops_one.append(ceiling(dtype, time.process_time, 1))
        wall, processor = timed(run)
        walls.append(images / wall)
        processors.append(images / processor)
    return {
        "images_per_s": round(max(walls), 3),
        "all_rounds": [round(rate, 3) for rate in walls],
        "ceiling_gflops": round(max(tops)),
        "share_of_ceiling": round(max(walls) * work / max(tops), 3),
        "images_per_processor_s": round(max(processors), 3),
        "ceiling_gflops_per_core": round(max(tops_one)),
        "share_by_processor_time": round(max(processors) * work / max(tops_one), 3),
        "images_per_s_if_undisturbed": round(max(processors) * cores, 2),
    }


def score(files: list[Path], *, rounds: int) -> dict[str, Any]:
    """Files to scores through `Scorer.stream`, by precision and batch size; scores must agree within a precision."""
    found: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        owl, _ = owl88()
        backbone = dataclasses.replace(owl, model=owl.model.to(dtype))
        text = len(owl.encoder.text_ids(owl.card.question("iqa"), owl.card.stem("iqa"), None, frames=1)[0])
        work = gflop(owl.model.config, text - owl.model.config.frame_tokens)
        values = {}
        for batch in (1, 2, 4):
            scorer = Scorer(backbone, device="cpu", batch_size=batch)
            values[batch] = [one.value for one in scorer.stream(files, "iqa", on_error="raise")]
            run = partial(drain, scorer, files)
            one = rates(run, dtype, rounds=rounds, images=len(files), work=work)
            found[f"{name} batch {batch}"] = {**one, "gflop_per_image": round(work, 2)}
            print(name, batch, found[f"{name} batch {batch}"], flush=True)
        spread = max(abs(a - b) for batch in (2, 4) for a, b in zip(values[1], values[batch]))
        found[f"{name} largest difference between batch sizes"] = spread
        best = max((1, 2, 4), key=lambda b: found[f"{name} batch {b}"]["images_per_s"])
        found[name] = {**found[f"{name} batch {best}"], "batch": best, "theirs": THEIRS[f"score {name}"]}
    return found


def drain(scorer: Scorer, files: list[Path]) -> None:
    for one in scorer.stream(files, "iqa", on_error="raise"):
        assert one.value is not None


def train(name: str, *, rounds: int, threads: int) -> dict[str, Any]:
    """Full tuning, AdamW, batch 8: the step's images/s and this process's peak memory."""
    precision, recompute = TRAINING[name]
    torch.set_num_threads(threads)
    return_freed_memory() if recompute else keep_freed_memory()  # as `q-align train` does
    owl, _ = owl88()
    owl.model.train()
    if recompute:
        owl.model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(owl.model.parameters(), lr=2e-5, fused=True)
    with tempfile.TemporaryDirectory() as folder:
        from PIL import Image

        from q_align.types import Turn

        files = photographs(Path(folder), BATCH, (512, 384))
        question, stem = owl.card.question("iqa"), owl.card.stem("iqa")
        batch = owl.encoder([Turn([Image.open(file)], question, stem, "good") for file in files])
    losses = []

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            prediction = owl.readout.read(owl.model, batch)
        loss = prediction.nll.sum() / prediction.tokens.sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    step()  # makes the optimizer's state
    work = 3 * gflop(owl.model.config, batch["input_ids"].shape[1] - owl.model.config.frame_tokens)
    found = rates(step, getattr(torch, precision), rounds=rounds, images=BATCH, work=work)
    if threads > 1:  # threads that wait for each other burn processor time: the clock alone counts
        found = {key: value for key, value in found.items() if "processor" not in key and "undisturbed" not in key}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        **found,
        "threads": threads,
        "batch": BATCH,
        "peak_gib": round(peak, 2),
        "losses": [round(loss, 4) for loss in losses],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--images", type=Path, help="folder with pictures (default: made, 512 x 384 JPEG)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of a training step")
    parser.add_argument("--only", choices=["score", "train"])
    parser.add_argument("--one", choices=list(TRAINING), help="one kind of training, in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(train(args.one, rounds=args.rounds, threads=args.threads)))
        return
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, Python {platform.python_version()}"
    )
    result: dict[str, Any] = {"machine": machine, "load_before": os.getloadavg()[0], "rounds": args.rounds}
    if args.only != "train":
        with tempfile.TemporaryDirectory() as folder:
            made = photographs(Path(folder), COUNT, (512, 384)) if args.images is None else []
            result["score"] = score(made or sorted(args.images.iterdir())[:COUNT], rounds=args.rounds)
    if args.only != "score":
        result["train"] = {}
        for name in TRAINING:
            command = [sys.executable, __file__, "--one", name, "--rounds", str(args.rounds)]
            command += ["--threads", str(args.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            result["train"][name] = json.loads(done.stdout.splitlines()[-1])
            print(name, result["train"][name], flush=True)
        result["train"]["theirs, float32"] = THEIRS["train float32"]
    result["load_after"] = os.getloadavg()[0]
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
