"""One forward pass in scoring: a batch goes to the device, rows come back to the CPU; and the size of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from q_align.errors import ConfigError
from q_align.readout import Readout
from q_align.score.engine import Batch
from q_align.types import Turn

CACHED_PIXELS = 2**17  # per forward pass on one core; measured with the embedded model (docs/scoring.md)
CACHED_TOKENS = 2**9  # the same for models that count tokens
DEVICE_TOKENS = 2**15  # per forward pass on a GPU: 16 sequences of 2048


class Bounds(NamedTuple):
    """The limits of one batch: frames at most, and pixels or padded tokens at most (0: any number)."""

    frames: int
    pixels: int
    tokens: int


def bounds(
    device: torch.device,
    length: Callable[[Turn], int] | None,
    batch_size: int | None,
    batch_tokens: int | None,
) -> Bounds:
    """What was asked for, or what suits the device.

    Args:
        device: on a processor each worker runs the model, and large batches only fall out of its cache.
        length: tokens of a turn, where the encoder counts them; pixels are what is bounded elsewhere.

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
    return Bounds(frames, pixels, tokens)


@dataclass(frozen=True, slots=True)
class Forward:
    """Runs the model on one batch; see `engine.batching.Forward`.

    Attributes:
        model: on its device, in eval mode.
        readout: reads its answers.
        device, dtype: of the model.
    """

    model: Any
    readout: Readout
    device: torch.device
    dtype: torch.dtype

    def __call__(self, batch: Batch) -> Callable[[], Tensor]:
        """Starts the model; what is returned waits for the (B, R) rows, or (B, n, R) of n questions."""
        # streams and events belong to the current device, which is the first one unless set otherwise
        here = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with here, torch.inference_mode():
            rows = self.readout.rows(self.readout.read(self.model, self._place(batch)))
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

    def _place(self, value: Any) -> Any:
        """A batch, which may hold batches, on the device."""
        if isinstance(value, Mapping):
            return {name: self._place(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._place(inner) for inner in value]
        dtype = self.dtype if value.is_floating_point() else None
        if self.device.type != "cuda":
            return value.to(self.device, dtype)
        # converted there: here it would cost the one thread that feeds the device, and leave the pinned memory
        return value.pin_memory().to(self.device, non_blocking=True).to(dtype)
