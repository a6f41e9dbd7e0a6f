"""Scoring from files to scores against the plain loop: open, encode, forward, softmax, one image after another.

    python scripts/bench/score.py --output scripts/bench/results/score.json
    python scripts/bench/score.py --growth 1000 10000 100000 --output scripts/bench/results/score_growth.json

The plain loop is what a careful user writes with transformers: the model as `from_pretrained` gives it, one image at a
time, on as many threads as --threads says (one run for each). Ours is `Scorer.stream` with its defaults. All score the
same JPEG files with the same weights; their values must agree within 1e-5. Rounds alternate, since other work on the
machine comes and goes; ratios are medians.
--growth scores lists of growing length and reports seconds and peak memory of a process for each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from q_align import Scorer
from q_align.media import open_frames
from q_align.models.backbone import Backbone
from q_align.types import Turn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "models"))


def photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files of about a photograph's weight: smooth shapes with some noise."""
    rng, made = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse, dtype=np.int16) + rng.integers(-12, 13, (size[1], size[0], 1), dtype=np.int16)
        made.append(folder / f"{number}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(made[-1], quality=90)
    return made


def nano() -> tuple[Backbone, Backbone]:
    """As a user of transformers loads it, and as the scorer does."""
    return Backbone.from_pretrained("nano"), Backbone.from_pretrained("nano", only_score=True)


def owl88() -> tuple[Backbone, Backbone]:
    """mPLUG-Owl2 of 88 M parameters at 448 px, random weights."""
    from owl2_tiny import CARD, tokenizer

    from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config
    from q_align.models.mplug_owl2.encoder import OwlEncoder, Pixels
    from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM

    config = MPLUGOwl2Config(
        vocab_size=32000, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        visual_config={
            "visual_model": {
                "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6,
                "image_size": 448, "patch_size": 14,
            },
            "visual_abstractor": {
                "hidden_size": 384, "encoder_hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 2,
                "num_attention_heads": 6, "num_learnable_queries": 64, "grid_size": 32,
            },
        },
    )  # fmt: skip
    torch.manual_seed(0)
    model = MPLUGOwl2LlamaForCausalLM(config).eval()
    encoder = OwlEncoder(tokenizer(), config.frame_tokens, pixels=Pixels(size=448))
    backbone = Backbone.join(model, encoder, CARD)
    return backbone, backbone


MODELS: dict[str, Callable[[], tuple[Backbone, Backbone]]] = {"nano": nano, "owl88": owl88}


def plain(backbone: Backbone, path: Path) -> float:
    """One image the usual way: whole logits, softmax over the five words."""
    image = Image.open(path).convert("RGB")
    card, encoder = backbone.card, backbone.encoder
    inputs = encoder([Turn([image], card.question("iqa"), card.stem("iqa"))])
    logits = backbone.model(**inputs).logits[:, -1, list(backbone.readout.level_ids)].float()
    return float(logits.softmax(-1)[0] @ torch.tensor(card.levels.values))


def loop(backbone: Backbone, paths: list[Path], threads: int) -> list[float]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    values = [plain(backbone, path) for path in paths]
    torch.set_num_threads(before)
    return values


def shares(backbone: Backbone, paths: list[Path]) -> dict[str, float]:
    """Milliseconds of processor time per image for each stage, one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = dict.fromkeys(("decode", "encode", "forward"), 0.0)
    card, encoder = backbone.card, backbone.encoder
    for path in paths:
        marks = [time.process_time()]
        frames, _ = open_frames(path, card.media)
        marks.append(time.process_time())
        inputs = encoder([Turn(frames, card.question("iqa"), card.stem("iqa"))])
        marks.append(time.process_time())
        backbone.readout.read(backbone.model, inputs)
        marks.append(time.process_time())
        for name, start, end in zip(spent, marks, marks[1:]):
            spent[name] += (end - start) * 1000 / len(paths)
    torch.set_num_threads(before)
    return {name: round(value, 2) for name, value in spent.items()}


@torch.inference_mode()
def compare(name: str, paths: list[Path], args: argparse.Namespace) -> dict[str, object]:
    usual, fast = MODELS[name]()
    usual.model.eval(), fast.model.eval()
    scorer = Scorer(fast, device="cpu", workers=args.workers, batch_size=args.batch_size)
    ways: dict[str, Callable[[], list[float]]] = {
        f"plain_{threads}": lambda threads=threads: loop(usual, paths, threads) for threads in args.threads
    }
    ways["ours"] = lambda: [score.value or 0.0 for score in scorer.stream(paths, "iqa")]
    loop(usual, paths[:1], 1), scorer.score(paths[0])  # warm up
    wall: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(args.rounds):
        found = {}
        for way, work in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            found[way] = work()
            wall[way].append(time.perf_counter() - start)
            processor[way].append(time.process_time() - cpu)
            print(name, way, round(wall[way][-1], 2), round(processor[way][-1], 2), flush=True)
        apart = max(float(np.abs(np.array(f) - np.array(found["ours"])).max()) for f in found.values())
        assert apart < 1e-5, f"values differ by {apart}"
    rate = {way: round(len(paths) / statistics.median(times), 2) for way, times in wall.items()}
    ratios = {way: [p / o for p, o in zip(wall[way], wall["ours"])] for way in ways}
    ours = statistics.median(processor["ours"])
    return {
        "parameters_m": round(sum(p.numel() for p in usual.model.parameters()) / 1e6, 1),
        "images_per_s": rate,
        "wall_time_against_ours": {way: round(statistics.median(r), 2) for way, r in ratios.items()},
        "processor_time_against_ours": {way: round(statistics.median(p) / ours, 2) for way, p in processor.items()},
        "rounds": {way: [round(t, 2) for t in times] for way, times in wall.items()},
        "ms_per_image_on_one_core": shares(fast, paths[:16]),
        "largest_difference": apart,
    }


def grow(lengths: list[int], folder: Path) -> list[dict[str, float]]:
    """Seconds and peak memory of a process that scores so many (small) images into shards."""
    paths = photographs(folder, 1000, (64, 48))
    results = []
    for length in lengths:
        manifest = folder / f"{length}.csv"
        manifest.write_text("id,path\n" + "".join(f"{i},{paths[i % 1000]}\n" for i in range(length)))
        command = ["-m", "q_align", "score", str(manifest), "--output", str(folder / f"out{length}/")]
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *command])
        _, code, usage = os.wait4(child.pid, 0)
        assert code == 0, f"exit status {code}"
        seconds = time.perf_counter() - start
        results.append(
            {
                "images": length,
                "seconds": round(seconds, 1),
                "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
                "peak_mb": usage.ru_maxrss // 1024,
            }
        )
        print(results[-1], flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 320), help="width and height of the files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count()], help="of the plain loop")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--growth", type=int, nargs="+")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    machine = (
        f"{os.cpu_count()}-core {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    result: dict[str, object] = {"machine": machine, "load_at_start": [round(x, 1) for x in os.getloadavg()]}
    with tempfile.TemporaryDirectory() as place:
        if args.growth:
            result["growth"] = grow(args.growth, Path(place))
        else:
            paths = photographs(Path(place), args.images, tuple(args.size))
            for name in args.models:
                result[name] = compare(name, paths, args)
                print(name, json.dumps(result[name]), flush=True)
    result["peak_mb_of_this_process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
