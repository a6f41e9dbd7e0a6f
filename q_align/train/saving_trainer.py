"""transformers.Trainer, whose checkpoints are whole or absent, and each of them a model folder that scores.

Knows how the library saves and loads; nothing of losses, ratings or data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import PreTrainedModel, Trainer, TrainingArguments

from q_align.models.backbone import Backbone
from q_align.train import checkpoints


class SavingTrainer(Trainer):
    """Every checkpoint it writes is a complete model folder (weights, tokenizer, q_align.json)."""

    def __init__(
        self, backbone: Backbone, args: TrainingArguments, *, keep: int, recent: int, runs: int, **parts: Any
    ) -> None:
        """Args:
        backbone: what is trained.
        args: of transformers.
        keep: best checkpoints kept.
        recent: last checkpoints of each run kept besides.
        runs: equal parts of the training, each with a learning rate from its beginning to its end.
        parts: forwarded whole to `transformers.Trainer`.
        """
        self.backbone, self.keep, self.recent, self.runs = backbone, keep, recent, runs
        self.staging: Path | None = None
        super().__init__(model=backbone.model, args=args, **parts)

    @property
    def run_steps(self) -> int:
        return self.state.max_steps // self.runs

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """The library's schedule for one run, again for each."""
        if self.runs == 1:
            return super().create_scheduler(num_training_steps, optimizer)
        length = num_training_steps // self.runs
        scheduler = super().create_scheduler(length, optimizer)
        assert isinstance(scheduler, LambdaLR)
        scheduler.lr_lambdas = [partial(_again, rate, length) for rate in scheduler.lr_lambdas]
        return scheduler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The library's checkpoint, written aside and renamed when it is whole."""
        folder = Path(str(self.args.output_dir))
        self.staging = folder / checkpoints.PARTIAL
        if self.args.should_save:
            checkpoints.stage(folder)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.finish(self.staging / f"checkpoint-{self.state.global_step}", folder)
        except Exception as error:
            if checkpoints.no_room(error):
                raise checkpoints.full(folder, self.state.global_step) from error
            raise
        finally:
            self.staging = None
        if self.args.should_save:
            checkpoints.prune(folder, self.keep, self.recent, self.run_steps)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        if self.args.should_save and self.backbone.readout.module:
            folder.mkdir(parents=True, exist_ok=True)
            state_dict = self.backbone.readout.save(
                folder, self.backbone.model.state_dict() if state_dict is None else state_dict
            )
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.backbone.encoder.save(folder)
            self.backbone.card.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The library loads by name and passes over names that do not fit.

        Many families are written under the names of their first release, so that it would go on from the base without
        a word; their own loader knows both.
        """
        target = self.model if model is None else model
        sharded = self.is_deepspeed_enabled or self.is_fsdp_enabled
        readout = self.backbone.readout
        if not sharded and target is not None:
            readout.load(target, Path(resume_from_checkpoint))
        if sharded or not isinstance(target, PreTrainedModel) or getattr(target, "is_quantized", False):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype, local_files_only=True)
        own = {name: value for name, value in target.state_dict().items() if _inside(name, readout.module)}
        target.load_state_dict(saved.state_dict() | own)


def _inside(name: str, module: str) -> bool:
    """Whether a parameter's name lies inside the module of that name; never for ""."""
    return bool(module) and f"{module}." in name


def _again(rate: Callable[[int], float], length: int, step: int) -> float:
    return rate(step % length)
