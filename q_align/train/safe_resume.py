"""Resuming reads tensors and plain values only: a pickle in a run folder that would run a program is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from q_align.errors import TrainingError

FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own switch; it wins over weights_only=False at the call
# Plain records that DeepSpeed's ZeRO states hold besides tensors.
DEEPSPEED_RECORDS = {
    "deepspeed.runtime.zero.config": ("ZeroStageEnum",),
    "deepspeed.runtime.fp16.loss_scaler": ("LossScaler", "DynamicLossScaler"),
    "deepspeed.utils.tensor_fragment": ("fragment_address",),
}


@contextmanager
def tensors_only(checkpoint: Path | None, engine: str) -> Iterator[None]:
    """While it lasts, `torch.load` of any library runs no code from the files that it reads.

    Args:
        checkpoint: the folder that a run resumes from; None: the run is new, and nothing is read.
        engine: train.engine.

    Raises:
        TrainingError: when a file needs more than tensors and plain values.
    """
    if checkpoint is None:
        yield
        return
    import torch

    before = os.environ.get(FORCE)
    os.environ[FORCE] = "1"
    try:
        with torch.serialization.safe_globals(_records() if engine.startswith("zero") else []):
            yield
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{checkpoint}: holds a state that is no plain tensors, and could run a program; not resumed ({reason})"
        ) from error
    finally:
        if before is None:
            del os.environ[FORCE]
        else:
            os.environ[FORCE] = before


def _records() -> list[Any]:
    return [getattr(import_module(module), name) for module, names in DEEPSPEED_RECORDS.items() for name in names]
