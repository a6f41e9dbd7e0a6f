"""Training of chat models through the package's own run: full and with adapters, resumed exactly, scored by path."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import TINY, make
from transformers.utils import logging as transformers_logging

from q_align import Scorer
from q_align.config.resolve import resolve_config
from q_align.train.run import run

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

# two families with unlike towers in every run; all of them, and adapters, where slow tests run
QUICK = ("qwen3_5", "llava")
CASES = [
    pytest.param(family, lora, marks=[] if family in QUICK and not lora else pytest.mark.slow)
    for family in sorted(TINY)
    for lora in (False, True)
]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rated")
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "mos", "std", "split"])
        for i in range(8):
            name = f"{i}.png"
            Image.fromarray(rng.integers(0, 255, (30 + i, 60 - i, 3), dtype=np.uint8)).save(folder / name)
            rows.writerow([name, 1 + 4 * i / 7, 0.5, "train" if i < 6 else "val"])
    return folder / "labels.csv"


def settings(model: Path, labels: Path, output: Path, *more: str) -> list[str]:
    given = {
        "model.path": model,
        "data.train": labels,
        "data.mos_range": "[1, 5]",
        "train.output_dir": output,
        "train.batch_size": 3,
        "train.epochs": 2,
        "train.lr": 1e-3,
        "train.workers": 0,
        "train.report_to": "[]",
        "model.lora.r": 2,
        "model.lora.also_train": "[connector]",
    }
    return [word for key, value in given.items() for word in (f"--{key}", str(value))] + list(more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    name = "adapter_model.safetensors" if (folder / "adapter_config.json").is_file() else "model.safetensors"
    return load_file(folder / name)


@pytest.mark.parametrize(("family", "lora"), CASES)
def test_resumed_run_ends_with_the_same_weights(family: str, lora: bool, labels: Path, tmp_path: Path) -> None:
    base = make(family, tmp_path / "base")
    more = ("--model.lora.enabled", str(lora).lower())
    whole = run(resolve_config([], settings(base, labels, tmp_path / "whole", *more))).folder
    last = weights(whole / "checkpoints" / "checkpoint-4")
    # as a run that was stopped after its first epoch leaves things
    first = tmp_path / "stopped" / "checkpoints" / "checkpoint-2"
    shutil.copytree(whole / "checkpoints" / "checkpoint-2", first)
    words = settings(base, labels, tmp_path / "stopped", *more, "--train.resume", "true")
    again = run(resolve_config([], words)).folder
    resumed = weights(again / "checkpoints" / "checkpoint-4")
    assert last.keys() == resumed.keys()
    assert all(torch.equal(last[name], resumed[name]) for name in last)
    assert any(not torch.equal(last[name], before) for name, before in weights(first).items()), "nothing was trained"
    scores = [Scorer.from_pretrained(path, workers=0).score(labels.parent / "0.png") for path in (whole, again)]
    assert scores[0].probs == pytest.approx(scores[1].probs, abs=1e-6)
    assert scores[0].task == "iqa"
