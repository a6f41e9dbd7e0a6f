"""transformers.Trainer with atomic checkpoints, each of which is a complete model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from q_align.models.backbone import Backbone
from q_align.models.model_page import save_card
from q_align.train import checkpoints


class SavingTrainer(Trainer):
    """Every checkpoint it writes is a complete model folder (weights, tokenizer, q_align.json)."""

    def __init__(self, backbone: Backbone, args: TrainingArguments, *, keep: int, **parts: Any) -> None:
        """Args:
        backbone: what is trained.
        args: of transformers.
        keep: best checkpoints kept; the last one is kept as well.
        parts: forwarded whole to `transformers.Trainer`.
        """
        self.backbone, self.keep = backbone, keep
        self.staging: Path | None = None
        super().__init__(model=backbone.model, args=args, **parts)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The library's checkpoint, written aside and renamed when it is complete."""
        folder = Path(str(self.args.output_dir))
        self.staging = folder / checkpoints.PARTIAL
        if self.args.should_save:
            checkpoints.staging_folder(folder)
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.commit_checkpoint(self.staging / f"checkpoint-{self.state.global_step}", folder)
        except Exception as error:
            if checkpoints.is_disk_full(error):
                raise checkpoints.disk_full_error(folder, self.state.global_step) from error
            raise
        finally:
            self.staging = None
        if self.args.should_save:
            checkpoints.prune_checkpoints(folder, self.keep)
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
            save_card(self.backbone.card, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The library loads by name and skips names that do not fit.

        Many families are saved under the names of their first release, so that it would silently resume from the base;
        their own loader knows both names.
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
    """Whether a parameter's name is inside the module of that name; never for ""."""
    return bool(module) and f"{module}." in name
