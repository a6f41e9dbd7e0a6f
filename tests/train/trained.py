"""A run by the package's own function, for tests that look at its folder only."""

from __future__ import annotations

from pathlib import Path

from q_align.config.schema import RunConfig
from q_align.train.run import run as train


def run(config: RunConfig) -> Path:
    return train(config).folder
