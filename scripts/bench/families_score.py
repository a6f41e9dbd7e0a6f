"""Scoring throughput of a mid-size chat model against the plain way: one image at a time, whole logits, softmax.

    python scripts/bench/families_score.py --output scripts/bench/results/families_score.json

Both score the same 64 generated pictures of mixed sizes with the same random weights, pixel budget and threads; their
level probabilities must agree within 1e-5. Also timed: two tasks in one pass against one. Rounds alternate, since other
work on the machine comes and goes; ratios are medians over rounds. Knows no real checkpoint: speed depends on shapes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tiny_models import make

from q_align import Scorer
from q_align.models.backbone import Backbone, read_card
from q_align.models.chat.processor import load_processor
from q_align.models.families import family_of
from q_align.tasks import TASKS
from q_align.types import Item, MediaSpec, Turn


def pictures(count: int) -> list[Image.Image]:
    """Smooth random pictures between 160 and 900 pixels a side."""
    rng = np.random.default_rng(0)
    sides = rng.integers(160, 900, (count, 2))
    coarse = [Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)) for _ in range(count)]
    return [c.resize((int(w), int(h)), Image.Resampling.BICUBIC) for c, (w, h) in zip(coarse, sides)]


def mid_size(folder: Path, args: argparse.Namespace) -> Path:
    """A Qwen3-VL of 100 to 200 M parameters: its real vocabulary and patch, fewer and narrower layers."""
    return make(
        "qwen3_vl",
        folder,
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=3 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 64,
        num_key_value_heads=args.hidden // 128,
        head_dim=64,
        rope_parameters={"rope_type": "default", "rope_theta": 5e6, "mrope_section": [12, 10, 10]},
        tie_word_embeddings=True,
        vision={
            "depth": args.vision_layers,
            "hidden_size": args.vision,
            "intermediate_size": 4 * args.vision,
            "out_hidden_size": args.hidden,
            "num_heads": args.vision // 64,
            "patch_size": 16,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [],
        },
        images={"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}},
    )


class Plain:
    """As the library's documentation and the peers' quick starts do it."""

    def __init__(self, folder: Path, model: torch.nn.Module, spec: MediaSpec) -> None:
        self.processor = load_processor(folder, family_of("qwen3_vl"), "qwen3_vl")
        self.model = model
        self.options = {"size": {"shortest_edge": 65536, "longest_edge": spec.max_pixels}}
        words = ("excellent", "good", "fair", "poor", "bad")
        self.ids = [self.processor.tokenizer(f" {w}", add_special_tokens=False)["input_ids"][0] for w in words]

    @torch.inference_mode()
    def __call__(self, picture: Image.Image, task: str = "iqa") -> list[float]:
        asked = [{"type": "image"}, {"type": "text", "text": TASKS[task].question}]
        text = self.processor.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True)
        inputs = self.processor(
            text=[text + TASKS[task].stem], images=[picture], return_tensors="pt", images_kwargs=self.options
        )
        probs: list[float] = self.model(**inputs).logits[0, -1, self.ids].float().softmax(-1).tolist()
        return probs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("images", 64), ("rounds", 2), ("vocab", 151936), ("hidden", 640), ("layers", 10), ("vision", 384),
        ("vision-layers", 8), ("budget", 65536), ("batch-size", 4), ("workers", 2), ("threads", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = mid_size(Path(name), args)
        card = dataclasses.replace(read_card(folder), media=MediaSpec(max_pixels=args.budget), tasks=("iqa", "iaa"))
        backbone = Backbone.from_pretrained(folder, card=card)
        scorer = Scorer(backbone, device="cpu", batch_size=args.batch_size, workers=args.workers)
        plain = Plain(folder, backbone.model, card.media)
        images = pictures(args.images)
        items = [Item(str(n), image) for n, image in enumerate(images)]
        tokens = [backbone.encoder.length(_turn(image)) for image in images]

        def ours(tasks: list[str]) -> list[tuple[float, ...]]:
            return [score.probs or () for score in scorer.stream(items, task=tasks)]

        ways = {
            "plain": lambda: [plain(image) for image in images],
            "ours": lambda: ours(["iqa"]),
            "ours_two_tasks": lambda: ours(["iqa", "iaa"]),
        }
        plain(images[0]), scorer.score(images[0])  # warm up
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        processor: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            found = {}
            for way, work in ways.items():
                start, cpu = time.perf_counter(), time.process_time()
                found[way] = work()
                seconds[way].append(time.perf_counter() - start)
                processor[way].append(time.process_time() - cpu)
            apart = max(
                np.abs(np.array(found["plain"]) - np.array(found["ours"])).max(),
                np.abs(np.array(found["plain"]) - np.array(found["ours_two_tasks"][::2])).max(),
            )
            assert apart < 1e-5, f"scores differ by {apart}"
            print(
                {w: (round(t[-1], 2), round(processor[w][-1], 2)) for w, t in seconds.items()},
                f"difference {apart:.1e}",
                flush=True,
            )
    rounds, cpu_rounds = list(zip(*seconds.values())), list(zip(*processor.values()))
    result = {
        "command": f"python scripts/bench/families_score.py {' '.join(sys.argv[1:])}".strip(),
        "machine": f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, float32, shared",
        "parameters": sum(p.numel() for p in backbone.model.parameters()),
        "images": args.images,
        "tokens_per_image": {"min": min(tokens), "mean": round(float(np.mean(tokens))), "max": max(tokens)},
        "seconds": {way: [round(t, 2) for t in times] for way, times in seconds.items()},
        "processor_seconds": {way: [round(t, 2) for t in times] for way, times in processor.items()},
        "images_per_second": {way: round(args.images / statistics.median(times), 2) for way, times in seconds.items()},
        "speedup": round(statistics.median(p / o for p, o, _ in rounds), 2),
        "speedup_processor": round(statistics.median(p / o for p, o, _ in cpu_rounds), 2),
        "second_task_share": round(statistics.median(t / o - 1 for _, o, t in rounds), 3),
        "second_task_share_processor": round(statistics.median(t / o - 1 for _, o, t in cpu_rounds), 3),
        "largest_difference": float(apart),
    }
    print(json.dumps(result, indent=1))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


def _turn(image: Image.Image) -> Turn:
    return Turn([image], TASKS["iqa"].question, TASKS["iqa"].stem)


if __name__ == "__main__":
    main()
