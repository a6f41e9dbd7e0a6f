"""Times evaluation and report on many items: all but the scoring, which a stand-in does at once.

    python scripts/bench/evaluate_100k.py --items 100000 --output scripts/bench/evaluate_100k.json

Two stand-in models rate symbolic links to a few generated pictures; the opinions have std and contents, so that every
measure is computed, intervals by content included. Prints and writes seconds (by the clock, and of this process alone,
which is what counts on a machine that others use too) and sizes.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from q_align.evaluation.evaluate_models import evaluate_models
from q_align.evaluation.settings import EvaluationSettings
from q_align.levels import LevelScheme
from q_align.models.card import ModelCard
from q_align.report import write_report
from q_align.types import MediaSpec, Score


class Stand:
    """Scores that were drawn beforehand."""

    device, spec, card = "cpu", MediaSpec(), ModelCard("nano")

    def __init__(self, values: np.ndarray) -> None:
        scheme = LevelScheme()
        probs = scheme.soft(values, np.full(len(values), 0.7))
        words = [scheme.words[k] for k in probs.argmax(axis=1)]
        rows = zip(scheme.expect(probs).tolist(), words, map(tuple, probs.tolist()), scheme.std(probs).tolist())
        self.scores = [Score("", *row, 0.95) for row in rows]

    def stream(self, items: Any) -> Iterator[Score]:
        for item, score in zip(items, self.scores):
            score.id = item.id
            yield score


def make(folder: Path, items: int) -> np.ndarray:
    """labels.parquet with links to pictures; returns the MOS."""
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)).save(folder / f"picture{i}.jpg")
    names = [f"{i}.jpg" for i in range(items)]
    for i, name in enumerate(names):
        (folder / name).symlink_to(folder / f"picture{i % 20}.jpg")
    mos = np.clip(rng.normal(3, 0.9, items), 1, 5)
    contents = [f"content {i // 5}" for i in range(items)]
    table = {"image": names, "mos": mos, "std": rng.uniform(0.3, 1, items), "content": contents}
    pq.write_table(pa.table(table), folder / "labels.parquet")
    return mos


@contextmanager
def timed(result: dict[str, Any], name: str) -> Iterator[None]:
    clock, own = time.perf_counter(), time.process_time()
    yield
    result[f"{name}_clock_s"] = round(time.perf_counter() - clock, 2)
    result[f"{name}_process_s"] = round(time.process_time() - own, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mos = make(folder, args.items)
        rng = np.random.default_rng(1)
        stands = {m: Stand(np.clip(mos + rng.normal(0, s, len(mos)), 1, 5)) for m, s in (("a", 0.4), ("b", 0.41))}
        result: dict[str, Any] = {
            "items": args.items,
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
        }
        settings = EvaluationSettings(cache=False, mos_range=(1, 5))
        for model, stand in stands.items():
            data = [str(folder / "labels.parquet")]
            with timed(result, f"evaluate_{model}"):
                evaluate_models({model: stand}, data, folder / "out" / model, settings=settings)
        for title, folders in (("report_one", ["a"]), ("report_compared", ["a", "b"])):
            with timed(result, title):
                write_report([folder / "out" / m for m in folders], folder / "page.html")
            result[f"{title}_mb"] = round((folder / "page.html").stat().st_size / 1e6, 2)
        print(json.dumps(result, indent=1))
        if args.output:
            args.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
