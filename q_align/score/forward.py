"""The model's turn in scoring: a batch goes to the device, level log-probabilities come back to the CPU.

Also says how much goes through at once. Knows a model and tensors; no media, no scores.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from q_align.errors import ConfigError
from q_align.levels import LevelScheme
from q_align.models.numeric import read_numbers
from q_align.models.predict import predict
from q_align.models.shared_prefix import predict_shared
from q_align.score.engine import Batch
from q_align.types import Turn

CACHED_PIXELS = 2**17  # per forward pass on one core; measured with the embedded model (docs/scoring.md)
CACHED_TOKENS = 2**9  # the same for models that count tokens
DEVICE_TOKENS = 2**15  # per forward pass on a GPU: 16 sequences of 2048


class Bounds(NamedTuple):
    """What goes through the model at once: frames at most, and pixels or padded tokens at most (0: any number)."""

    frames: int
    pixels: int
    tokens: int


def bounds(
    device: torch.device,
    length: Callable[[Turn], int] | None,
    batch_size: int | None,
    batch_tokens: int | None,
    *,
    answers: int = 1,
) -> Bounds:
    """What was asked for, or what suits the device.

    Args:
        device: on a processor each worker runs the model, and large batches only fall out of its cache.
        length: tokens of a turn, where the encoder counts them; pixels are what is bounded elsewhere.
        answers: sequences that a turn becomes (41 where a model says numbers), each with its frames.

    Raises:
        ConfigError: for numbers that make no sense, or tokens of a model that does not count them.
    """
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    if batch_tokens is not None and batch_tokens < 0:
        raise ConfigError(f"batch_tokens must be 0 or more, got {batch_tokens}")
    if batch_tokens and length is None:
        raise ConfigError(f"batch_tokens={batch_tokens}: this model counts no tokens beforehand; use batch_size")
    small, free = device.type == "cpu", batch_size is None and batch_tokens is None
    frames = batch_size or (8 if small else 16)
    pixels = CACHED_PIXELS if free and small and length is None else 0
    tokens = batch_tokens or ((CACHED_TOKENS if small else DEVICE_TOKENS) if free and length else 0)
    # 0 stays 0, which means any number
    return Bounds(max(1, frames // answers), -(-pixels // answers), -(-tokens // answers))


@dataclass(frozen=True, slots=True)
class Forward:
    """Runs the model on one batch; see `engine.parts.Forward`.

    Attributes:
        model: on its device, in eval mode.
        encoder: says where the level words stand.
        device, dtype: of the model.
        numbers: the levels, of a model that answers with numbers.
    """

    model: Any
    encoder: Any
    device: torch.device
    dtype: torch.dtype
    numbers: LevelScheme | None = None

    def __call__(self, batch: Batch) -> Callable[[], Tensor]:
        """Starts the model; what is returned waits for the (B, K) rows, or (B, n, K) of n questions."""
        # streams and events belong to the current device, which is the first one unless somebody says otherwise
        here = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with here, torch.inference_mode():
            inputs = {name: self._place(value) for name, value in batch.items()}
            if "ask_0" in inputs:
                several = predict_shared(self.model, inputs, self.encoder.level_ids)
                rows = torch.stack([one.level_logp for one in several], dim=1)  # (B, n, K)
            else:
                found = predict(self.model, inputs, self.encoder.level_ids, self.encoder.tail)
                rows = read_numbers(found, self.numbers) if self.numbers else found.level_logp  # (B, K)
            if self.device.type != "cuda":
                return rows.cpu
            # copied while the next batch runs; waiting for the event waits for this copy only
            host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True).copy_(rows, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()

        def wait() -> Tensor:
            copied.synchronize()
            return host

        return wait

    def _place(self, value: Tensor) -> Tensor:
        dtype = self.dtype if value.is_floating_point() else None
        if self.device.type != "cuda":
            return value.to(self.device, dtype)
        # converted there: here it would cost the one thread that feeds the device, and leave the pinned memory
        return value.pin_memory().to(self.device, non_blocking=True).to(dtype)
