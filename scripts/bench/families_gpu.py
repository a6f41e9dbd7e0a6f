"""Qwen3.5-0.8B's geometry with random weights on a GPU: images/s, scoring and training, and share of the ceiling.

    python scripts/bench/families_gpu.py --output scripts/bench/results/families_gpu.json

Scoring by batch size and pixel budget, training full and with adapters, in bfloat16, on pictures of one size that were
encoded beforehand: what the model alone can do. The ceiling is the rate of a large matrix product on the same device.
`--small` runs the script on a CPU with few layers, to see that it works. No weights are downloaded: speed depends on
shapes only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from tiny_models import make

from q_align.models.backbone import Backbone, read_card
from q_align.models.families import family_of
from q_align.models.peft import add_lora
from q_align.tasks import TASKS
from q_align.types import MediaSpec, Turn


def build(folder: Path, small: bool) -> Path:
    """As Qwen/Qwen3.5-0.8B describes itself; its weights are not needed."""
    layers, depth = (4, 2) if small else (24, 12)
    return make(
        "qwen3_5",
        folder,
        vocab_size=2000 if small else 248320,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=256,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_num_key_heads=16,
        linear_num_value_heads=16,
        layer_types=["full_attention" if i % 4 == 3 else "linear_attention" for i in range(layers)],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e7,
            "mrope_section": [11, 11, 10],
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.25,
        },
        tie_word_embeddings=True,
        vision={
            "depth": depth,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_heads": 12,
            "out_hidden_size": 1024,
            "patch_size": 16,
            "num_position_embeddings": 2304,
        },
        images={"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}},
    )


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Seconds of one call, the median of several after two to warm up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for number in range(repeats + 2):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def ceiling(device: torch.device, repeats: int) -> float:
    """TFLOP/s of a large bfloat16 matrix product."""
    side = 8192 if device.type == "cuda" else 1024
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / timed(lambda: a @ a, device, repeats) / 1e12


def flops(backbone: Backbone, tokens: int, batch_size: int) -> float:
    """Of one forward pass of a batch: two per weight and token in layers and vision, one position in the head."""
    sizes = {"visual": 0, "layers": 0}
    for name, parameter in backbone.model.named_parameters():
        for part in sizes:
            sizes[part] += parameter.numel() if part in name and parameter.dim() > 1 else 0
    head = backbone.model.config.text_config.vocab_size * backbone.model.config.text_config.hidden_size
    # four patches per visual token; the prompt's own tokens see no vision
    return 2.0 * batch_size * (sizes["visual"] * 4 * max(tokens - 40, 0) + sizes["layers"] * tokens + head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="+", default=[200704, 401408, 786432])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--output")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() and not args.small else "cpu")
    top = ceiling(device, args.repeats)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = build(Path(name), args.small)
        for budget in args.budgets:
            card = dataclasses.replace(read_card(folder), media=MediaSpec(max_pixels=budget))
            backbone = Backbone.from_pretrained(folder, card=card, dtype="bfloat16")
            rows += measure(backbone, device, args, top, budget)
            del backbone
    name_of = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    result = {"device": name_of, "torch": torch.__version__, "ceiling_tflops": round(top, 1), "rows": rows}
    print(json.dumps(result, indent=1))
    if args.output:
        Path(args.output).write_text(json.dumps(result, indent=1) + "\n")


def step(model: Any, inputs: dict[str, torch.Tensor], readout: Any) -> None:
    """A forward pass, and a backward one where the batch is taught."""
    if "answer" not in inputs:
        with torch.inference_mode():
            readout.read(model, inputs)
        return
    nll = readout.read(model, inputs).nll
    assert nll is not None
    nll.mean().backward()
    model.zero_grad(set_to_none=True)


def measure(
    backbone: Backbone, device: torch.device, args: argparse.Namespace, top: float, budget: int
) -> list[dict[str, Any]]:
    """One row per way and batch size; out of memory ends a way."""
    encoder, rows = backbone.encoder, []
    side = int(budget**0.5)
    for way in ("score", "train_full", "train_lora"):
        model: Any = backbone.model.to(device)
        if way == "train_lora":
            model = add_lora(model, family_of(backbone.card.family), r=64, alpha=128)
        model.train(way != "score")
        for batch_size in args.batch_sizes:
            level = None if way == "score" else "good"
            turn = Turn([Image.new("RGB", (side, side))], TASKS["iqa"].question, TASKS["iqa"].stem, level)
            inputs = {k: v.to(device) for k, v in encoder([turn] * batch_size).items()}
            inputs["pixel_values"] = inputs["pixel_values"].bfloat16()

            try:
                seconds = timed(partial(step, model, inputs, backbone.readout), device, args.repeats)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            tokens = inputs["input_ids"].shape[1]
            rate = flops(backbone, tokens, batch_size) / seconds / 1e12
            row = {
                "way": way,
                "budget": budget,
                "tokens": tokens,
                "batch_size": batch_size,
                "images_per_second": round(batch_size / seconds, 2),
                # a backward pass costs two forward passes; with adapters, one
                "share_of_ceiling": round(rate * {"score": 1, "train_full": 3, "train_lora": 2}[way] / top, 3),
            }
            rows.append(row)
            print(row, flush=True)
    return rows


if __name__ == "__main__":
    main()
