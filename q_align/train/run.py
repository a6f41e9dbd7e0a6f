"""One training run, from a resolved configuration to a folder that is a model (see `q_align.train.run_dir`)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.config.schema import RunConfig
from q_align.data.epoch_sampler import EpochSampler
from q_align.data.image_header import pixel_counts
from q_align.data.labels import Labels
from q_align.data.mixture_sampler import LengthGroupedSampler, Mixture, counts
from q_align.data.rated_dataset import Asking, RatedDataset
from q_align.data.same_source_sampler import SameSourceBatchSampler
from q_align.errors import ConfigError, require
from q_align.log import log
from q_align.losses import answer_of, get_loss, is_pairwise
from q_align.models.backbone import Backbone, locate, read_card
from q_align.models.card import ModelCard
from q_align.models.families import family_of
from q_align.models.numeric import ANSWERS, NUMBERS
from q_align.models.parts import freeze, part_of
from q_align.models.peft import add_lora, base_dtype
from q_align.models.quantize import check_precision, warn_of_software
from q_align.train.checkpoints import trainer_state
from q_align.train.datasets import frame_reader, open_sets, with_opened
from q_align.train.distributed import close_process_group
from q_align.train.inheritance import inherit
from q_align.train.quiet import quiet_libraries
from q_align.train.run_dir import CHECKPOINTS, prepare_run_dir, record_start
from q_align.train.run_result import RunResult, TerminatedError, publish_best, read_result, report_broken, write_history
from q_align.train.sharding import check_world, make_contiguous, save_under_loaded_names

FEW = 10  # validation items, below which a rank correlation means next to nothing


def run(config: RunConfig, *, data: Sequence[Labels] = (), callbacks: Sequence[Any] = ()) -> RunResult:
    """Trains a model.

    Args:
        config: resolved configuration.
        data: opened labels in place of the files that the configuration names.
        callbacks: `transformers.TrainerCallback`s, besides our own.

    Raises:
        ConfigError: when the output folder holds another run (unless train.resume), or settings contradict each other.
        LabelError: when labels, images or videos are missing or broken.
        TrainingError: when the loss is not finite or the disk is full.
        TerminatedError: after SIGTERM, once a checkpoint is written.
    """
    with quiet_libraries():
        require("accelerate", extra="train")
        output, stopped_at, history = _run(config, data, callbacks)
        close_process_group()
    if stopped_at is not None:
        raise TerminatedError(stopped_at, output)
    return read_result(output, history)


def _run(
    config: RunConfig, data: Sequence[Labels], callbacks: Sequence[Any]
) -> tuple[Path, int | None, list[dict[str, Any]]]:
    """The run folder, the step at which SIGTERM ended the run, and the lines of the log."""
    from q_align.train.arguments import training_arguments
    from q_align.train.early_stopping import SaveWhenStopped, StopWithoutProgress, evaluations_without_progress
    from q_align.train.progress import Progress
    from q_align.train.terminate import StopOnTerminate

    output, start = prepare_run_dir(config.train.output_dir, resume=config.train.resume)
    joined = inherit(with_opened(config, data), read_card(config.model.path))
    config, card = joined.config, joined.card
    training, validation = open_sets(config, card.levels, data)
    card = _taught(card, training, config)
    train_set, eval_set = _datasets(config, card, training, validation)
    if eval_set is None and config.train.patience:
        raise ConfigError("train.patience needs validation rows; set data.val_share, or mark rows split=val")
    if eval_set is not None and len(eval_set) < FEW:
        log.warning(
            "only %d validation items: too few to select a checkpoint by SRCC; set data.val_share 0 to train on all "
            "rows, or mark more rows split=val",
            len(eval_set),
        )
    draws = order(config, train_set)
    args = training_arguments(config, output / CHECKPOINTS, items=len(draws), evaluate=eval_set is not None)
    precision = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    check_precision(config.model.attn, precision, "train.precision")
    warn_of_software(args.device, precision, "train.precision")
    backbone = _backbone(config, card)
    progress, stop, patience = Progress(), StopOnTerminate(), config.train.patience
    ours = [progress, stop, *([StopWithoutProgress(patience)] if patience else [])]
    trainer = _trainer(
        config, args, backbone, train_set, eval_set, draws=draws, callbacks=[*ours, *callbacks, SaveWhenStopped()]
    )
    check_world(trainer.accelerator, config.train.engine, os.environ)
    first = trainer.is_world_process_zero()
    if first:
        record_start(output, config.to_yaml(), training, validation)
        for line in joined.lines(config.model.path):
            log.info("%s", line)
        log.info("%d training items per epoch", len(draws))
    history: list[dict[str, Any]] = trainer_state(start)["log_history"] if start else []
    if patience and evaluations_without_progress(history) >= patience:
        log.info("%s: had stopped without progress (train.patience); a larger train.patience continues it", output)
    else:
        try:
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        finally:
            progress.close()
            stop.close()
            history = trainer.state.log_history
            if first:
                write_history(history, output)
    report_broken(trainer, output)
    if stop.stopped_at is None and first:
        publish_best(output)
    trainer.accelerator.wait_for_everyone()
    return output, stop.stopped_at, history


def _taught(card: ModelCard, sets: Sequence[Labels], config: RunConfig) -> ModelCard:
    """The card of the model that this run makes: what it was taught, and from what it started."""
    records = [
        {
            "source": labels.source,
            "rows": len(labels),
            "mos_range": list(labels.mos_range),
            "higher_is_better": labels.higher_is_better,
        }
        for labels in sets
    ]
    tasks = {str(task) for labels in sets for task in np.unique(labels.column("task"))}
    history = [] if config.model.init == "random" else card.trained_on
    known = () if config.model.init == "random" else card.tasks
    return dataclasses.replace(
        card,
        tasks=tuple(sorted(tasks | set(known))),
        trained_on=[*history, *records],
        base=_home(config.model.path),
        calibration={},
        about=_about(card, config),
    )


def _about(card: ModelCard, config: RunConfig) -> dict[str, Any]:
    about = {} if config.model.init == "random" else {k: v for k, v in card.about.items() if k != ANSWERS}
    return about | ({ANSWERS: NUMBERS} if config.loss.name == "numeric" else {})


def _home(path: str) -> str:
    """Where a base lies, for adapters that are loaded from another folder than the one they were trained in."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _datasets(
    config: RunConfig, card: ModelCard, training: list[Labels], validation: list[Labels]
) -> tuple[RatedDataset, RatedDataset | None]:
    data, taught = config.data, config.loss
    answer = answer_of(taught.name, card.levels, taught.weights)
    asking = Asking(paraphrase=data.questions == "pool", flip=data.flip, crop=data.crop, seed=config.train.seed)
    train_set = RatedDataset(training, card, answer, asking, read=frame_reader(data, training=True))
    read = frame_reader(data, training=False)
    return train_set, RatedDataset(validation, card, answer, read=read) if validation else None


def order(config: RunConfig, train_set: RatedDataset) -> EpochSampler:
    """In which order, and how often, the training media are shown."""
    data, train, taught = config.data, config.train, config.loss
    sets = config.sets()
    sizes = [len(labels) for labels in train_set.sets]
    weights, caps = [entry.weight for entry in sets], [entry.cap for entry in sets]
    drawn = counts(sizes, weights=weights, caps=caps)
    tasks = np.concatenate([labels.column("task").astype(str) for labels in train_set.sets])
    draws: EpochSampler = Mixture(sizes, drawn, seed=train.seed, kinds=tasks if data.balance else None)
    if is_pairwise(taught.name, taught.weights):
        return SameSourceBatchSampler(draws, train_set.groups, run=train.batch_size, seed=train.seed)
    if data.bucket:
        paths = [str(path) for labels in train_set.sets for path in labels.column("media")]
        pixels = pixel_counts(paths, most=config.media.max_pixels or None)
        return LengthGroupedSampler(draws, pixels, batch=train.batch_size, seed=train.seed)
    return draws


def _backbone(config: RunConfig, card: ModelCard) -> Backbone:
    from transformers import set_seed

    from q_align.train.arguments import DTYPES, forward_precision

    set_seed(config.train.seed)
    options = {name: getattr(config.model, name) for name in ("attn", "quantize") if getattr(config.model, name)}
    # what is trained is float32; lower precision is autocast (train.precision)
    frozen, dtype = DTYPES[forward_precision(config)], "float32"
    if config.model.lora.enabled:
        dtype = base_dtype(locate(config.model.path), frozen, quantized=config.model.quantize is not None)
    backbone = Backbone.from_pretrained(config.model.path, dtype=dtype, card=card, **options)
    if config.model.init == "random":
        backbone.model = type(backbone.model)(backbone.model.config)
    if config.train.engine != "auto":
        save_under_loaded_names(backbone.model)
        make_contiguous(backbone.model)
    family = family_of(card.family)
    if config.model.lora.enabled:
        lora = {name: value for name, value in dataclasses.asdict(config.model.lora).items() if name != "enabled"}
        backbone.model = add_lora(backbone.model, family, frozen=frozen, **lora)
    freeze(backbone.model, family, config.model.freeze)
    if config.train.checkpointing:
        from q_align.train.activation_checkpointing import checkpoint_activations

        checkpoint_activations(backbone.model, family, config.train.checkpointing)
    return backbone


def _trainer(
    config: RunConfig,
    args: Any,
    backbone: Backbone,
    train_set: RatedDataset,
    eval_set: RatedDataset | None,
    *,
    draws: EpochSampler,
    callbacks: list[Any],
) -> Any:
    from q_align.train.trainer import Options, RatingTrainer

    taught, train = config.loss, config.train
    family = family_of(backbone.card.family)
    return RatingTrainer(
        backbone,
        args,
        train_set=train_set,
        eval_set=eval_set,
        loss=get_loss(taught.name, taught.weights, taught.options),
        draws=draws,
        options=Options(
            part_of=lambda name: part_of(family, name),
            lr_parts=train.lr_parts,
            max_bad_media=train.max_bad_media,
            keep=train.keep,
        ),
        callbacks=callbacks,
    )
