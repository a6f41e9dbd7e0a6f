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
from q_align.data.labels import Labels, LevelLabels
from q_align.data.mixture_sampler import epoch_counts
from q_align.data.rated_dataset import Augmentation, RatedDataset, source_groups
from q_align.data.samplers import build_sampler, source_batch_size
from q_align.errors import ConfigError, require
from q_align.log import log
from q_align.losses import check_offers, get_loss, losses_of
from q_align.models.backbone import Backbone, locate, read_card
from q_align.models.card import ModelCard
from q_align.models.device import check_precision, warn_of_emulation
from q_align.models.families import family_of
from q_align.models.parts import freeze, part_of, train_fully
from q_align.models.peft import add_lora, base_dtype
from q_align.score.pooling import check_pooling
from q_align.train.caller_state import preserved_caller_state
from q_align.train.checkpoints import trainer_state
from q_align.train.datasets import frame_reader, open_sets, with_opened
from q_align.train.distributed import close_process_group
from q_align.train.inheritance import inherit
from q_align.train.quiet import quiet_libraries
from q_align.train.run_dir import CHECKPOINTS, lock_run_dir, prepare_run_dir, record_start
from q_align.train.run_result import RunResult, TerminatedError, publish_best, read_result, report_broken, write_history
from q_align.train.safe_resume import tensors_only
from q_align.train.sharding import check_world, make_contiguous, save_under_loaded_names
from q_align.train.trained_card import trained_card

FEW = 10  # validation items, below which a rank correlation means next to nothing


def run(config: RunConfig, *, data: Sequence[Labels] = (), callbacks: Sequence[Any] = ()) -> RunResult:
    """Trains a model. The random state and the environment of the caller are as before when it returns.

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
    with quiet_libraries(), preserved_caller_state():
        require("accelerate", extra="train")
        lock = lock_run_dir(config.train.output_dir)
        try:
            output, stopped_at, history = _run(config, data, callbacks)
        finally:
            if lock is not None:
                lock.release()
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
    check_pooling(card.media.pool)
    training, validation = open_sets(config, card.levels, data)
    card = trained_card(card, training, config)
    held_out = _validation_items(config, validation)
    sampler = training_sampler(config, training)
    args = training_arguments(config, output / CHECKPOINTS, items=len(sampler), evaluate=bool(held_out))
    precision = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    check_precision(config.model.attn, precision, "train.precision")
    warn_of_emulation(args.device, precision, "train.precision")
    backbone = _backbone(config, card)
    check_offers(losses_of(config.loss.name, config.loss.weights), backbone.readout.offers)
    train_set, eval_set = _datasets(config, backbone, training, validation)
    progress, stop, patience = Progress(), StopOnTerminate(), config.train.patience
    ours = [progress, stop, *([StopWithoutProgress(patience)] if patience else [])]
    trainer = _trainer(
        config, args, backbone, train_set, eval_set, sampler=sampler, callbacks=[*ours, *callbacks, SaveWhenStopped()]
    )
    check_world(trainer.accelerator, config.train.engine, os.environ)
    first = trainer.is_world_process_zero()
    if first:
        record_start(output, config.to_yaml(), training, validation)
        for line in joined.lines(config.model.path):
            log.info("%s", line)
        log.info("%d training items per epoch", len(sampler))
    history: list[dict[str, Any]] = trainer_state(start)["log_history"] if start else []
    if patience and evaluations_without_progress(history) >= patience:
        log.info("%s: had stopped without progress (train.patience); a larger train.patience continues it", output)
    else:
        try:
            with tensors_only(start, config.train.engine):
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


def _validation_items(config: RunConfig, validation: Sequence[LevelLabels]) -> int:
    """Their number; refuses early stopping without any, and warns of few."""
    count = sum(len(labels) for labels in validation)
    if not count and config.train.patience:
        raise ConfigError("train.patience needs validation rows; set data.val_share, or mark rows split=val")
    if 0 < count < FEW:
        log.warning(
            "only %d validation items: too few to select a checkpoint by SRCC; set data.val_share 0 to train on all "
            "rows, or mark more rows split=val",
            count,
        )
    return count


def _datasets(
    config: RunConfig, backbone: Backbone, training: list[LevelLabels], validation: list[LevelLabels]
) -> tuple[RatedDataset, RatedDataset | None]:
    data, card, encoder = config.data, backbone.card, backbone.encoder
    show = Augmentation(paraphrase=data.questions == "pool", flip=data.flip, crop=data.crop, seed=config.train.seed)

    def dataset(sets: list[LevelLabels], shown: Augmentation | None) -> RatedDataset:
        read = frame_reader(data, training=shown is not None)
        if read is None:
            return RatedDataset(sets, card, encoder.opens, shown)
        if encoder.stores is None or (data.crop and encoder.stores != encoder.opens):
            raise ConfigError(
                "data.cache and data.fast_decode scale frames to media.max_pixels, but media.tiles and data.crop need "
                "them whole; drop one of the two"
            )
        return RatedDataset(sets, card, encoder.stores, shown, read=read)

    return dataset(training, show), dataset(validation, None) if validation else None


def training_sampler(config: RunConfig, labels: Sequence[LevelLabels]) -> EpochSampler:
    """The order in which the training rows are visited, and how often."""
    data, train, loss = config.data, config.train, get_loss(config.loss.name, config.loss.weights, config.loss.options)
    sets = config.sets()
    sizes = [len(one) for one in labels]
    weights, caps = [entry.weight for entry in sets], [entry.cap for entry in sets]
    processes = int(os.environ.get("WORLD_SIZE", "1"))

    def lengths() -> np.ndarray:
        paths = [str(path) for one in labels for path in one.column("media")]
        return pixel_counts(paths, most=config.media.max_pixels or None)

    return build_sampler(
        sizes,
        epoch_counts(sizes, weights=weights, caps=caps),
        batch_size=source_batch_size(train.batch_size, group_size=loss.group_size, processes=processes),
        seed=train.seed,
        tasks=np.concatenate([one.column("task").astype(str) for one in labels]) if data.balance else None,
        sources=source_groups(labels)[1] if loss.pairwise else None,
        lengths=lengths if data.bucket else None,
    )


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
        backbone = Backbone.join(type(backbone.model)(backbone.model.config), backbone.encoder, backbone.card)
    if config.train.engine != "auto":
        save_under_loaded_names(backbone.model)
        make_contiguous(backbone.model)
    family = family_of(card.family)
    if config.model.lora.enabled:
        lora = {name: value for name, value in dataclasses.asdict(config.model.lora).items() if name != "enabled"}
        backbone.model = add_lora(backbone.model, family, frozen=frozen, **lora)
        if backbone.readout.module:
            train_fully(backbone.model, backbone.readout.module)
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
    sampler: EpochSampler,
    callbacks: list[Any],
) -> Any:
    from q_align.train.trainer import Options, RatingTrainer

    loss, train = config.loss, config.train
    family = family_of(backbone.card.family)
    return RatingTrainer(
        backbone,
        args,
        train_set=train_set,
        eval_set=eval_set,
        loss=get_loss(loss.name, loss.weights, loss.options),
        sampler=sampler,
        options=Options(
            part_of=lambda name: part_of(family, name),
            lr_parts=train.lr_parts,
            max_bad_media=train.max_bad_media,
            keep=train.keep,
        ),
        callbacks=callbacks,
    )
