"""transformers.Trainer, with the loss from a syllabus and the metrics from ratings. Nothing else is changed.

Knows no file formats and no configuration; `train.run` builds one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import EvalPrediction, Trainer, TrainingArguments

from q_align.data.collate import Collator, RatedMedia
from q_align.errors import MediaError, QAlignError
from q_align.evaluate.metrics import plcc, srcc
from q_align.model.backbone import Backbone
from q_align.model.predict import predict
from q_align.syllabus.base import Prediction, Syllabus, Targets


class TrainingError(QAlignError):
    """Training cannot go on; says at which step and why."""


class RatingTrainer(Trainer):
    """Fine-tunes a backbone on rated media.

    Every checkpoint it writes is a complete model folder (weights, tokenizer, q_align.json), so any of them scores.
    """

    # The syllabus returns means: without this, gradients grow with the number of accumulated steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        backbone: Backbone,
        args: TrainingArguments,
        *,
        train_set: RatedMedia,
        eval_set: RatedMedia | None,
        syllabus: Syllabus,
        sampler: Callable[[RatedMedia], Sampler[int]],
        group_of: Callable[[str], str | None] | None = None,
        lr_parts: dict[str, float] | None = None,
        max_bad_media: int = 0,
    ) -> None:
        """Args:
        backbone: what is trained; its model may carry adapters.
        args: of transformers; `label_names` and `remove_unused_columns` are set here.
        syllabus: loss terms of a batch; their sum is minimised.
        sampler: gives the order of draws (`epoch * len + index`) of a training set.
        group_of: parameter name -> part (vision, connector, language).
        lr_parts: part -> learning rate, where it differs from args.learning_rate.
        max_bad_media: unreadable media tolerated before the run stops.
        """
        args.remove_unused_columns = False
        args.label_names = ["targets"]
        self.backbone = backbone
        self.syllabus = syllabus
        self.sampler = sampler
        self.group_of = group_of
        self.lr_parts = lr_parts or {}
        self.max_bad_media = max_bad_media
        self.broken: dict[str, None] = {}  # an ordered set
        self.terms: dict[str, list[Tensor]] = defaultdict(list)
        self.source_names = [labels.source for labels in train_set.sets]
        super().__init__(
            model=backbone.model,
            args=args,
            train_dataset=train_set,
            eval_dataset=eval_set,
            data_collator=Collator(backbone.encoder, backbone.card.levels),
            compute_metrics=self.rating_metrics,
        )

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        assert isinstance(dataset, RatedMedia)
        return self.sampler(dataset)

    def forward(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Prediction, Targets]:
        inputs = {k: v for k, v in inputs.items() if k not in ("index", "broken")}
        targets = Targets(**inputs.pop("targets"))
        encoder = self.backbone.encoder
        return predict(model, inputs, encoder.level_ids, encoder.tail), targets

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: Any
    ) -> Tensor | tuple[Tensor, Prediction]:
        """Sum of the syllabus's terms for one batch."""
        self.note_broken(inputs["broken"])
        if "targets" not in inputs:
            raise MediaError(f"a whole batch was unreadable: {'; '.join(inputs['broken'])}")
        prediction, targets = self.forward(model, inputs)
        terms = self.syllabus(prediction, targets)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            dataset = self.train_dataset
            assert isinstance(dataset, RatedMedia)
            ids = [dataset.sample(int(i)).id for i in inputs["index"]]
            values = ", ".join(f"{name} {value.item()}" for name, value in terms.items())
            raise TrainingError(
                f"step {self.state.global_step}: the loss is not finite ({values}) "
                f"on {', '.join(ids)}; lower train.lr, or use train.precision bf16 or fp32"
            )
        if model.training:
            for name, value in terms.items():
                self.terms[name].append(value.detach())
        return (loss, prediction) if return_outputs else loss

    def note_broken(self, reasons: list[str]) -> None:
        """Remembers unreadable media; too many of them stop the run."""
        self.broken.update(dict.fromkeys(reasons))
        if len(self.broken) > self.max_bad_media:
            allowed = f"{self.max_bad_media} allowed by train.max_bad_media"
            raise MediaError(f"{len(self.broken)} unreadable media ({allowed}): {'; '.join(self.broken)}")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of every loss term since the last line."""
        if "loss" in logs and len(self.terms) > 1:
            logs |= {f"loss_{name}": torch.stack(values).mean().item() for name, values in self.terms.items()}
        if "loss" in logs:
            self.terms.clear()
        super().log(logs, start_time)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, (B, K) level log-probabilities, and per medium: index, source, MOS."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            result = self.compute_loss(model, inputs, return_outputs=True)
            assert isinstance(result, tuple)
            loss, prediction = result
        targets = inputs["targets"]
        rows = torch.stack([inputs["index"].double(), targets["source"].double(), targets["mos"].double()], dim=-1)
        return loss.detach(), prediction.level_logp, rows

    def rating_metrics(self, output: EvalPrediction) -> dict[str, float]:
        """SRCC and PLCC per set, and their means over the sets; the best checkpoint has the highest mean SRCC."""
        logp, rows = np.asarray(output.predictions), np.asarray(output.label_ids)
        # several processes pad the last batch with repeated media: every one counts once
        _, first = np.unique(rows[:, 0], return_index=True)
        logp, rows = logp[first], rows[first]
        probs = np.exp(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))
        score = self.backbone.card.levels.expect(probs)
        found: dict[str, list[float]] = defaultdict(list)
        metrics: dict[str, float] = {}
        for source in np.unique(rows[:, 1]).astype(int):
            mine = rows[:, 1] == source
            for name, function in (("srcc", srcc), ("plcc", plcc)):
                value = function(rows[mine, 2], score[mine])
                metrics[f"{self.source_names[source]}_{name}"] = value
                # a constant score ranks nothing: 0, so that the mean stays a number
                found[name].append(0.0 if np.isnan(value) else value)
        return metrics | {name: float(np.mean(values)) for name, values in found.items()} | {"n": len(rows)}

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The library's optimizer, with a group for each part that has its own learning rate."""
        if self.optimizer is None and self.lr_parts and self.group_of is not None:
            groups: dict[tuple[str | None, bool], list[nn.Parameter]] = defaultdict(list)
            target = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(target))
            for name, parameter in target.named_parameters():
                if parameter.requires_grad:
                    groups[self.group_of(name), name in decayed].append(parameter)
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = cls(
                [
                    {
                        "params": parameters,
                        "lr": self.lr_parts.get(part or "", self.args.learning_rate),
                        "weight_decay": self.args.weight_decay if decay else 0.0,
                    }
                    for (part, decay), parameters in groups.items()
                ],
                **options,
            )
            return self.optimizer
        return super().create_optimizer(model)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            self.backbone.encoder.save(folder)
            self.backbone.card.save(folder)
