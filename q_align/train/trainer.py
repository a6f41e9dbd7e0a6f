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
from q_align.models.numeric import ANSWERS, NUMBERS, read_numbers
from q_align.models.predict import predict
from q_align.train.broken_items import BrokenItems
from q_align.train.eval_metrics import rating_metrics
from q_align.train.nonfinite import LossCheck
from q_align.train.optimizer import parameter_groups
from q_align.train.saving_trainer import SavingTrainer
from q_align.train.throughput import Throughput

# What a batch holds beside the model's own inputs.
NOT_MODEL = ("index", "usable", "broken", "targets", "readings")


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
        draws: EpochSampler,
        options: Options | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        """Args:
        backbone: what is trained; its model may carry adapters.
        args: of transformers; what this class relies on is set here.
        loss: loss terms of a batch; their sum is minimised.
        draws: sampler of the training set.
        """
        args.remove_unused_columns = False
        args.label_names = ["targets"]
        args.logging_nan_inf_filter = False  # a NaN is an error here, not a number to leave out of the log
        self.loss, self.draws = loss, draws
        self.options = options or Options()
        self.broken = BrokenItems(self.options.max_bad_media)
        self.loss_check = LossCheck(Path(str(args.output_dir)) / f"not_finite_{args.process_index}.json")
        self.terms: dict[str, list[Tensor]] = defaultdict(list)
        self.throughput = Throughput()
        encoder, scheme = backbone.encoder, backbone.card.levels
        says_numbers = backbone.card.about.get(ANSWERS) == NUMBERS
        at_once = args.per_device_eval_batch_size if says_numbers else None
        self.eval_collator = Collator(encoder, scheme, numbers_at_once=at_once)
        super().__init__(
            backbone,
            args,
            keep=self.options.keep,
            train_dataset=train_set,
            eval_dataset=eval_set,
            data_collator=Collator(encoder, scheme),
            compute_metrics=self.rating_metrics,
            callbacks=[SetEpoch(draws), *(callbacks or [])],
        )
        self.remove_callback(PrinterCallback)  # it prints to stdout

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        return self.draws

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> Any:
        with self.throughput.waiting():
            batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            self.throughput.count_batch(batch)
        return batches, items

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # apart: DeepSpeed would round opinions to the model's half precision with everything else
        targets = {name: value.to(self.args.device) for name, value in inputs["targets"].items()}
        return {**super()._prepare_inputs({k: v for k, v in inputs.items() if k != "targets"}), "targets": targets}

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Prediction, Targets]:
        """Prediction and targets of the rows that could be read."""
        fields = {k: v for k, v in inputs.items() if k not in NOT_MODEL}
        encoder = self.backbone.encoder
        return predict(model, fields, encoder.level_ids, encoder.tail), Targets(**inputs["targets"])

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
        taught, known = prediction, targets
        if inputs["broken"]:
            # unreadable media stay in the batch, so that all processes keep step, and teach nothing
            taught, known = _rows(prediction, inputs["usable"]), _rows(targets, inputs["usable"])
        if len(known.mos):
            terms = self.loss(taught, known)
        else:
            terms = {"none": prediction.level_logp.sum() * 0.0}
        loss = torch.stack(list(terms.values())).sum()
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
        """Loss, (B, K) level log-probabilities, and per medium: position, set, MOS (NaN where it is unreadable)."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            result = self.compute_loss(model, inputs, return_outputs=True)
            assert isinstance(result, tuple)
            loss, prediction = result
            level_logp = prediction.level_logp
            if "readings" in inputs:  # a model that says numbers
                level_logp = torch.cat([self.read_numbers(model, answers) for answers in inputs["readings"]])
        targets = inputs["targets"]
        # exact: positions below 2 ** 24 fit into the widest type that Apple's GPUs have
        wide = torch.float32 if self.args.device.type == "mps" else torch.float64
        mos = targets["mos"].to(wide).masked_fill(~inputs["usable"], torch.nan)
        rows = torch.stack([inputs["index"].to(wide), targets["source"].to(wide), mos], dim=-1)
        return loss.detach(), level_logp, rows

    def read_numbers(self, model: nn.Module, answers: list[dict[str, Tensor]]) -> Tensor:
        """(1, K) level log-probabilities of one medium, from every number it could be given."""
        encoder = self.backbone.encoder
        found = [predict(model, part, encoder.level_ids, encoder.tail) for part in answers]
        whole = Prediction(found[0].level_logp, nll=torch.cat([part.nll for part in found if part.nll is not None]))
        return read_numbers(whole, self.backbone.card.levels)

    def get_eval_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """The library has one collator for both; a model that says numbers is validated on more than one answer."""
        training, self.data_collator = self.data_collator, self.eval_collator
        try:
            return super().get_eval_dataloader(*args, **kwargs)
        finally:
            self.data_collator = training

    def rating_metrics(self, output: EvalPrediction) -> dict[str, float]:
        logp = np.asarray(output.predictions, dtype=np.float64)
        probs = np.exp(logp - np.logaddexp.reduce(logp, axis=-1, keepdims=True))
        assert isinstance(self.eval_dataset, RatedDataset)
        scores = self.backbone.card.levels.expect(probs)
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

    def __init__(self, draws: EpochSampler) -> None:
        self.draws = draws

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self.draws.set_epoch(int(state.epoch))


def _rows(record: Any, usable: Tensor) -> Any:
    """The same record of fewer rows; fields that are not one per row stay as they are."""
    fields = {name: getattr(record, name) for name in record.__slots__}
    return type(record)(**{n: v[usable] if v is not None and n != "values" else v for n, v in fields.items()})
