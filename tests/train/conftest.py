"""A small rated set and a tiny nano on disk: what every test of training starts from."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from q_align.config.resolve import resolve_config
from q_align.config.schema import RunConfig


def _make_set(folder: Path, *, count: int = 24, task: str = "iqa", seed: int = 0, side: int = 24) -> Path:
    """Noise of rising strength on smooth pictures, with the MOS that falls with it; three of four rows train."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mos", "std", "task", "split"])
        for i in range(count):
            strength = i / (count - 1)
            base = np.linspace(60, 190, side)[None, :, None] + np.zeros((side, side, 3))
            noisy = base + rng.normal(0, 90 * strength, base.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03d}.png")
            split = "val" if i % 4 == 1 else "train"
            writer.writerow([f"{i:03d}.png", round(5 - 4 * strength, 3), 0.4, task, split])
    return folder / "labels.csv"


@pytest.fixture(scope="session")
def make_set() -> Callable[..., Path]:
    return _make_set


@pytest.fixture(scope="session")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of 18 training and 6 validation rows."""
    return _make_set(tmp_path_factory.mktemp("rated") / "noise")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a nano with few channels and random weights."""
    from q_align.models.nano import build

    folder = tmp_path_factory.mktemp("tiny")
    build(seed=0, channels=[8, 12], blocks=[0, 1], hidden=32, layers=2, heads=2, mlp=48, tile=64).save(folder)
    return folder


Settle = Callable[..., RunConfig]


@pytest.fixture
def settle(tiny: Path, rated: Path, tmp_path: Path) -> Settle:
    """Configuration of a short run: 2 epochs of 6 steps, evaluated every half epoch; `**{"train.lr": 1}` changes it."""

    def make(**changes: object) -> RunConfig:
        settings = {
            "model.path": tiny,
            "data.train": rated,
            "data.mos_range": [1, 5],
            "train.output_dir": tmp_path / "run",
            "train.epochs": 2,
            "train.batch_size": 3,
            "train.lr": 1e-3,
            "train.eval_every": 0.5,
            "train.keep": 9,
            "train.workers": 0,
            "train.log_every": 1,
            "train.report_to": [],
            **changes,
        }
        return resolve_config([], [word for key, value in settings.items() for word in (f"--{key}", str(value))])

    return make
