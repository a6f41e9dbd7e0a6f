"""Memory and time of a training step with a vocabulary of 248,320, against the model's own `labels=` path.

    python scripts/bench/families_train.py --output scripts/bench/results/families_train.json

Batch 8, about 300 tokens each, the geometry of a small Qwen3-VL with Qwen3.5's vocabulary, float32. Every step runs in
a fresh process, so that the highest memory is its own; rounds alternate. `predict` keeps logits of supervised positions
only; `labels=` makes them for all positions, in float32. Knows nothing of real checkpoints: cost depends on shapes.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

VOCAB = 248320


def step(folder: str, way: str, batch_size: int, threads: int) -> dict[str, float]:
    """One training step in this process: seconds (wall and processor), and MB above what was there before it."""
    import dataclasses

    from PIL import Image

    from q_align.models.backbone import Backbone, read_card
    from q_align.readout.encoder import IGNORE
    from q_align.tasks import TASKS
    from q_align.types import MediaSpec, Turn

    torch.set_num_threads(threads)
    card = dataclasses.replace(read_card(folder), media=MediaSpec(max_pixels=256 * 256))
    backbone = Backbone.from_pretrained(folder, card=card)
    model, encoder = backbone.model.train(), backbone.encoder
    frames = [Image.effect_noise((256, 256), 40).convert("RGB")]
    turns = [Turn(frames, TASKS["iqa"].question, TASKS["iqa"].stem, "good") for _ in range(batch_size)]
    inputs = encoder(turns)
    before = resident()
    start, cpu = time.perf_counter(), time.process_time()
    if way == "ours":
        nll = backbone.readout.read(model, inputs).nll
        assert nll is not None
        loss = nll.sum() / (inputs["answer"] != IGNORE).sum()
        logits = inputs["answer"].shape[1] + 1
    else:
        answer = inputs.pop("answer")
        labels = torch.full_like(inputs["input_ids"], IGNORE)
        labels[:, -answer.shape[1] :] = answer
        loss = model(**inputs, labels=labels).loss
        logits = inputs["input_ids"].shape[1]
    loss.backward()
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "tokens": inputs["input_ids"].shape[1],
        "logits_mb": batch_size * logits * VOCAB * 4 / 2**20,
        "loss": loss.item(),
    }


def resident() -> float:
    """MB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # folder and way, in a process of their own
    args = parser.parse_args()
    if args.one:
        print(json.dumps(step(*args.one, args.batch_size, args.threads)))
        return
    from tiny_models import make

    found: dict[str, list[dict[str, float]]] = {"labels": [], "ours": []}
    with tempfile.TemporaryDirectory() as name:
        text = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 64}
        rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [12, 10, 10]}
        folder = make(
            "qwen3_vl",
            Path(name),
            vocab_size=VOCAB,
            rope_parameters=rope,
            tie_word_embeddings=True,
            vision={"out_hidden_size": 256},
            **text,
        )
        for _ in range(args.rounds):
            for way, steps in found.items():
                command = [sys.executable, __file__, "--one", str(folder), way]
                command += ["--batch-size", str(args.batch_size), "--threads", str(args.threads)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                steps.append(json.loads(output.splitlines()[-1]))
                print(way, steps[-1], flush=True)

    def middle(way: str, key: str) -> float:
        return statistics.median(one[key] for one in found[way])

    assert abs(middle("labels", "loss") - middle("ours", "loss")) < 1e-4, "not the same loss"
    pairs = list(zip(found["labels"], found["ours"]))
    keys = ("seconds", "processor_seconds", "peak_mb", "logits_mb", "tokens", "loss")
    result = {
        "command": f"python scripts/bench/families_train.py {' '.join(sys.argv[1:])}".strip(),
        "machine": f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, float32, shared",
        "vocabulary": VOCAB,
        "batch_size": args.batch_size,
        **{way: {key: round(middle(way, key), 4) for key in keys} for way in found},
        "logits_memory_ratio": round(middle("labels", "logits_mb") / middle("ours", "logits_mb"), 1),
        "peak_memory_ratio": round(middle("labels", "peak_mb") / middle("ours", "peak_mb"), 1),
        "speedup": round(statistics.median(a["seconds"] / b["seconds"] for a, b in pairs), 2),
        "speedup_processor": round(
            statistics.median(a["processor_seconds"] / b["processor_seconds"] for a, b in pairs), 2
        ),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
