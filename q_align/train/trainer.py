"""transformers.Trainer for rated images and videos: our losses, rating metrics, broken items, throughput."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import EvalPrediction, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from q_align.data.epoch_sampler import EpochSampler
from q_align.data.rated_dataset import Collator, RatedDataset
from q_align.losses.base import Loss, Prediction, Targets
from q_align.models.backbone import Backbone
from q_align.train.broken_items import BrokenItems
from q_align.train.eval_metrics import rating_metrics
from q_align.train.global_batch import gather_rows, mean_answer_tokens, select_rows
from q_align.train.nonfinite import LossCheck
from q_align.train.optimizer import parameter_groups
from q_align.train.saving_trainer import SavingTrainer
from q_align.train.throughput import Throughput

# What a batch holds beside the model's own inputs.
NOT_MODEL = ("index", "usable", "broken", "targets")


@dataclass(slots=True)
class Options:
    """Attributes:
    part_of: parameter name -> part (vision, connector, language).
    lr_parts: part -> learning rate, where it differs from the common one.
    max_bad_media: unreadable items tolerated before the run stops.
    keep: best checkpoints kept; the last one is kept as well.
    """

    part_of: Callable[[str], str | None] = lambda name: None
    lr_parts: Mapping[str, float] = field(default_factory=dict)
    max_bad_media: int = 0
    keep: int = 2


class RatingTrainer(SavingTrainer):
    """Fine-tunes a backbone on rated images and videos."""

    # The loss returns means: without this, gradients grow with the number of accumulated steps.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        backbone: Backbone,
        args: TrainingArguments,
        *,
        train_set: RatedDataset,
        eval_set: RatedDataset | None,
        loss: Loss,
        sampler: EpochSampler,
        options: Options | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """Args:
        backbone: what is trained; its model may carry adapters.
        args: of transformers; what this class relies on is set here.
        loss: loss terms of a batch; their sum is minimised.
        sampler: sampler of the training set.
        """
        args.remove_unused_columns = False
        args.label_names = ["targets"]
        args.logging_nan_inf_filter = False  # a NaN is an error here, not a number to leave out of the log
        self.loss, self.sampler = loss, sampler
        self.options = options or Options()
        self.broken = BrokenItems(self.options.max_bad_media)
        self.loss_check = LossCheck(Path(str(args.output_dir)) / f"not_finite_{args.process_index}.json")
        self.terms: dict[str, list[Tensor]] = defaultdict(list)
        self.throughput = Throughput()
        super().__init__(
            backbone,
            args,
            keep=self.options.keep,
            train_dataset=train_set,
            eval_dataset=eval_set,
            data_collator=Collator(backbone.readout),
            compute_metrics=self.rating_metrics,
            callbacks=[SetEpoch(sampler), *(callbacks or [])],
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return self.sampler

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        with self.throughput.waiting():
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and "answer" in self.loss.needs:
            items = mean_answer_tokens(batches, device)
        for batch in batches:
            self.throughput.count_batch(batch)
        return batches, items

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # apart: DeepSpeed would round opinions to the model's half precision with everything else
        targets = {name: value.to(self.args.device) for name, value in inputs["targets"].items()}
        return {**super()._prepare_inputs({k: v for k, v in inputs.items() if k != "targets"}), "targets": targets}

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Prediction, Targets]:
        """Prediction and targets of a batch."""
        fields = {k: v for k, v in inputs.items() if k not in NOT_MODEL}
        return self.backbone.readout.read(model, fields), Targets(**inputs["targets"])

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Prediction]:
        """Sum of the loss's terms for one batch."""
        self.broken.add(inputs["broken"])
        prediction, targets = self.forward(model, inputs)
        targets.batch_tokens = num_items_in_batch if isinstance(num_items_in_batch, Tensor) else None
        # unreadable items stay in the batch, so that all processes stay in step, and do not count in the loss
        rated, known = prediction, targets
        world = self.args.world_size if self.loss.pairwise and model.training else 1
        if world > 1:
            most = self.args.per_device_train_batch_size
            rated, known = gather_rows(prediction, targets, inputs["usable"], most=most)
            if known.batch_tokens is not None:
                known.batch_tokens = known.batch_tokens * world  # the batch is that of all processes now
        elif inputs["broken"]:
            rated, known = select_rows(prediction, inputs["usable"]), select_rows(targets, inputs["usable"])
        terms = self.loss(rated, known) if len(known.mos) else {}
        if not terms or len(inputs["broken"]) == len(targets.mos):
            terms["none"] = _any_field(prediction).sum() * 0.0  # a graph for the backward pass
        loss = torch.stack(list(terms.values())).sum()
        # the value of all rows, with a gradient that is right once it is averaged over processes
        loss = loss + (world - 1) * (loss - loss.detach()) if world > 1 else loss
        dataset = self.train_dataset if model.training else self.eval_dataset
        assert isinstance(dataset, RatedDataset)
        self.loss_check.add(self.state.global_step, terms, inputs["index"], dataset.sample)
        if model.training:
            for name, value in terms.items():
                self.terms[name].append(value.detach())
        return (loss, prediction) if return_outputs else loss

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.broken.load(Path(checkpoint))

    def checkup(self) -> None:
        """Checks, in all processes before they log or save: finite losses, unreadable items of all within the limit."""
        self.loss_check.check()
        self.broken.share(gather_object)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds, since the last line: the mean of every loss term, rates, waiting for data, memory."""
        if "loss" in logs:
            self.checkup()
            if len(self.terms) > 1:
                logs |= {f"loss_{name}": torch.stack(values).mean().item() for name, values in self.terms.items()}
            self.terms.clear()
            logs |= self.throughput.rates(self.args.world_size)
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self.checkup()
        with self.throughput.pause():
            metrics = super().evaluate(*args, **kwargs)
        self.checkup()
        return metrics

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.checkup()
        with self.throughput.pause():
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if output_dir and self.args.should_save:
            self.broken.save(Path(output_dir))

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Any, Any]:
        """Loss, (B, R) rows of the readout, and per item: position, set, MOS (NaN where it is unreadable)."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            result = self.compute_loss(model, inputs, return_outputs=True)
            assert isinstance(result, tuple)
            loss, prediction = result
            predicted = self.backbone.readout.rows(prediction)
        targets = inputs["targets"]
        # exact: positions below 2 ** 24 fit into the widest type that Apple's GPUs have
        wide = torch.float32 if self.args.device.type == "mps" else torch.float64
        mos = targets["mos"].to(wide).masked_fill(~inputs["usable"], torch.nan)
        rows = torch.stack([inputs["index"].to(wide), targets["source"].to(wide), mos], dim=-1)
        return loss.detach(), predicted, rows

    def rating_metrics(self, output: EvalPrediction) -> dict[str, float]:
        assert isinstance(self.eval_dataset, RatedDataset)
        scores = self.backbone.readout.values(np.asarray(output.predictions))
        return rating_metrics(scores, np.asarray(output.label_ids), self.eval_dataset.names)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The library's optimizer, with a group for each part that has its own learning rate."""
        if self.optimizer is None and self.options.lr_parts:
            target: Any = self.model if model is None else model
            groups = parameter_groups(
                target.named_parameters(),
                part_of=self.options.part_of,
                rates=self.options.lr_parts,
                rate=self.args.learning_rate,
                decay=self.args.weight_decay,
                decayed=set(self.get_decay_parameter_names(target)),
            )
            cls, options = self.get_optimizer_cls_and_kwargs(self.args, target)
            self.optimizer = cls(groups, **options)
            return self.optimizer
        return super().create_optimizer(model)


class SetEpoch(TrainerCallback):
    """Tells the sampler which epoch it is: the library does not reach it through its wrappers on a resumed run."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.sampler.set_epoch(int(state.epoch))


def _any_field(prediction: Prediction) -> Tensor:
    """A tensor of a prediction that depends on the model."""
    return next(field for field in (prediction.value, prediction.nll) if field is not None)
