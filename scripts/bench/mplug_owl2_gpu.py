"""mPLUG-Owl2 at its published size (8 B) with random weights on a GPU: images/s from JPEG files to scores.

    python scripts/bench/mplug_owl2_gpu.py --output scripts/bench/results/mplug_owl2_gpu.json

For each batch size: images/s of the whole way through `Scorer.stream` (decoding, encoding and copying included), of the
forward pass alone, the share of the ceiling (a large matrix product on the same device), and peak memory, in bfloat16.
`--small` runs the same script on a CPU in a minute with the 88 M geometry, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))

from mplug_owl2 import gflop
from owl2_tiny import CARD, tokenizer
from score import owl88, photographs

from q_align import Scorer
from q_align.models.backbone import Backbone
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config
from q_align.models.mplug_owl2.encoder import OwlEncoder
from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM
from q_align.types import Turn


def published_size(device: str, attn: str) -> Backbone:
    """Vision 1024 x 24, abstractor 1024 x 6, LLaMA-2 7B, made where it runs."""
    config = MPLUGOwl2Config(rms_norm_eps=1e-5, max_position_embeddings=4096)
    config._attn_implementation = attn
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = MPLUGOwl2LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return Backbone.join(model, OwlEncoder(tokenizer(), config.frame_tokens), CARD)


def ceiling(device: str, size: int) -> float:
    """TFLOP/s of a matrix product in bfloat16: the best of ten."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return max(2 * size**3 / seconds(lambda: left @ right, device) / 1e12 for _ in range(10))


def seconds(work: Callable[[], Any], device: str) -> float:
    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    sync()
    start = time.perf_counter()
    work()
    sync()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--attn", default="sdpa")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 32, 64, 128])
    parser.add_argument("--images", type=int, default=1024)
    args = parser.parse_args()
    device = "cpu" if args.small else "cuda"
    if args.small:
        args.images = min(args.images, 4)
        args.batches = [batch for batch in args.batches if batch <= args.images]
        owl = owl88()[0]
        owl.model.to(torch.bfloat16)
    else:
        owl = published_size(device, args.attn)
    turn = Turn([Image.new("RGB", (512, 384))], CARD.question("iqa"), CARD.stem("iqa"))
    text = owl.encoder([turn])["input_ids"].shape[1] - owl.model.config.frame_tokens
    work = gflop(owl.model.config, text) / 1000
    top = ceiling(device, 1536 if args.small else 8192)
    name = "CPU" if args.small else torch.cuda.get_device_name()
    result: dict[str, Any] = {
        "device": name, "torch": torch.__version__, "attn": args.attn, "tflop_per_image": round(work, 3),
        "ceiling_tflops": round(top, 2), "parameters": owl.model.num_parameters(), "batches": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        files = photographs(Path(folder), min(args.images, 64), (1024, 768))
        files = [files[i % len(files)] for i in range(args.images)]
        for batch in args.batches:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            scorer = Scorer(owl, device=device, batch_size=batch)
            rate = whole_way(scorer, files, batch, device)
            alone = forward_alone(owl, turn, batch, device)
            record = {
                "images_per_s": round(rate, 2), "forward_images_per_s": round(alone, 2),
                "share_of_ceiling": round(rate * work / top, 3), "forward_share": round(alone * work / top, 3),
                "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if device == "cuda" else None,
            }  # fmt: skip
            result["batches"][batch] = record
            print(batch, record, flush=True)
    if args.output:
        args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def whole_way(scorer: Scorer, files: list[Path], batch: int, device: str) -> float:
    """Images/s from files to scores, after a warm-up."""
    list(scorer.stream(files[: 2 * batch], "iqa", on_error="raise"))
    files = files[: max(2 * batch, min(len(files), 16 * batch))]
    return len(files) / seconds(lambda: list(scorer.stream(files, "iqa", on_error="raise")), device)


@torch.inference_mode()
def forward_alone(owl: Backbone, turn: Turn, batch: int, device: str) -> float:
    """Images/s of the model on a batch that lies on the device already."""
    inputs = {name: value.to(device) for name, value in owl.encoder([turn] * batch).items()}

    def once() -> None:
        owl.readout.read(owl.model, inputs)

    once()
    return max(batch / seconds(once, device) for _ in range(3))


if __name__ == "__main__":
    main()
