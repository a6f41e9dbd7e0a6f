"""Throughput of a run: items and tokens per second, the share of time spent waiting for data, peak memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class Throughput:
    """Counts items and tokens between two lines of the log; evaluating and saving do not count as training time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.start = time.perf_counter()
        self.waited = self.paused = 0.0
        self.items = 0
        self.tokens: Any = 0  # a tensor on the batch's device: reading it at every step would stall a GPU

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around fetching batches."""
        begun = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begun

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Around work that is not training."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.paused += time.perf_counter() - begun

    def count_batch(self, batch: Mapping[str, Any]) -> None:
        self.items += len(batch["index"])
        if "attention_mask" in batch:
            self.tokens = self.tokens + batch["attention_mask"].sum()

    def rates(self, processes: int) -> dict[str, float]:
        """Rates of all processes together since the last call; then starts again from zero.

        Returns:
            items_per_s, tokens_per_s (padding not counted), data_wait (share 0..1 of the time spent waiting for
            batches), memory_gb (peak of this process: the GPU's where there is one, else resident).
        """
        seconds = max(time.perf_counter() - self.start - self.paused, 1e-9)
        found = {
            "items_per_s": self.items * processes / seconds,
            "tokens_per_s": float(self.tokens) * processes / seconds,
            "data_wait": min(1.0, self.waited / seconds),
            "memory_gb": peak_memory(),
        }
        self.reset()
        return {name: round(value, 4) for name, value in found.items()}


def peak_memory() -> float:
    """Gigabytes (2**30) that this process has held at most."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return 0.0  # has no such counter
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20  # macOS counts bytes, Linux kilobytes
