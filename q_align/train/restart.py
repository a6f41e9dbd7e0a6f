"""Several runs from one start within one: what each ends with differs, and the mean of all rates better than any.

Wortsman et al., "Model soups" (ICML 2022), of runs that differ in the order of their media and in their windows. Knows
weights and steps; no files.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Restart(TrainerCallback):
    """Before each later run: puts the weights back to those of the start, and empties the optimizer's memory."""

    def __init__(self, model: nn.Module, runs: int) -> None:
        """Args:
        model: before its training; what of it is trained is copied to the processor's memory.
        runs: equal parts of the training.
        """
        self.runs = runs
        self.start = {name: value.detach().to("cpu", copy=True) for name, value in _moving(model).items()}

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **_: Any,
    ) -> None:
        # by steps: a run that is resumed within an epoch begins it a second time
        if not state.global_step or state.global_step % (state.max_steps // self.runs):
            return
        assert model is not None and optimizer is not None
        with torch.no_grad():
            for name, value in _moving(model).items():
                value.copy_(self.start[name])
        optimizer.state.clear()


def _moving(model: nn.Module) -> dict[str, Tensor]:
    """What training changes: weights that are not frozen, and buffers (running statistics)."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    return trained | dict(model.named_buffers())
