"""A task with a question per item: how well does the image match a text?

    export PYTHONPATH=examples Q_ALIGN_PLUGINS=text_match_task
    python examples/text_match_task.py greys                 # draws images with texts and ratings: greys/labels.csv
    q-align train --config nano --data.train greys/labels.csv --train.output_dir runs/match
    q-align evaluate --model runs/match --data greys/labels.csv --split test --output runs/match_test
    q-align score --model runs/match greys/ask.csv           # a list with the columns image, task and question

The training takes a minute and reaches SRCC .99 on the test rows: the same image gets a high score for "a bright
image" and a low one for "a dark image". From Python:

    scorer.score("photo.jpg", task="match", question=question("a dark image"))
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from q_align.tasks import TASKS, Task

TASKS.register(
    "match",
    Task(
        name="match",
        modality="image",
        questions=("How well does this image match its text?",),  # asked where an item has no question of its own
        stem="The match of the image and the text is",  # the level word follows
    ),
)


def question(text: str) -> str:
    """What is asked about an image; the column `question` of labels and lists holds it."""
    return f'How well does this image match the text "{text}"?'


def make(folder: str | Path, count: int = 320, seed: int = 0, side: int = 32) -> None:
    """Draws grey images; writes labels.csv (ratings 1 to 5 of how well the text fits) and ask.csv (no ratings)."""
    folder, rng = Path(folder), np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        brightness, word = rng.random(), rng.choice(["bright", "dark"])
        pixels = 30 + 200 * brightness + rng.normal(0, 12, (side, side, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:04d}.png")
        mos = 1 + 4 * (brightness if word == "bright" else 1 - brightness)
        split = ("train", "train", "train", "val", "test")[i % 5]
        rows.append([f"{i:04d}.png", "match", question(f"a {word} image"), round(mos, 2), split])
    header = ["image", "task", "question", "mos", "split"]
    for name, width in {"labels.csv": 5, "ask.csv": 3}.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(row[:width] for row in [header, *rows])


if __name__ == "__main__":
    make(sys.argv[1])
