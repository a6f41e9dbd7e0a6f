"""One training run, from a resolved configuration to a folder that scores (see `q_align.train.run_dir`).

Knows how the parts are put together; no command line.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.config.schema import RunConfig
from q_align.data.epoch_sampler import EpochSampler
from q_align.data.image_header import pixel_counts
from q_align.data.labels import Labels
from q_align.data.mixture_sampler import epoch_counts
from q_align.data.rated_dataset import Augmentation, RatedDataset, source_groups
from q_align.data.samplers import build_sampler, source_batch_size
from q_align.errors import ConfigError, require
from q_align.log import log
from q_align.losses import check_offers, get_loss, losses_of
from q_align.models.backbone import Backbone, read_card
from q_align.models.card import FILE, ModelCard
from q_align.models.device import check_precision, warn_of_emulation
from q_align.models.families import family_of
from q_align.models.parts import freeze, part_of
from q_align.readout import ReadoutSpec
from q_align.train.average import average
from q_align.train.checkpoints import ends, metric_of, ranked, stage
from q_align.train.datasets import open_sets, reader, split
from q_align.train.distributed import leave_group
from q_align.train.run_dir import CHECKPOINTS, CONFIG, claim, publish, report_changes, write
from q_align.train.sharding import check_started, plain_memory, plain_names

__all__ = ["run", "split"]

# What a fine-tuned model's card keeps of the remarks on its base.
LASTING = ("licence", "paper", "authors", "code")
FEW = 10  # held-out media, below which a rank correlation says next to nothing


def run(config: RunConfig) -> Path:
    """Trains, and returns the run folder.

    Raises:
        ConfigError: when the output folder holds another run (unless train.resume), or settings contradict each other.
        LabelError: when labels or media are missing or broken.
        TrainingError: when the loss is not finite or the disk is full.
        TerminatedError: after SIGTERM, once a checkpoint is written.
    """
    require("accelerate", extra="train")
    from q_align.train.progress import tidy
    from q_align.train.terminate import TerminatedError

    with tidy():
        output, stopped_at = _run(config)
        leave_group()
    if stopped_at is not None:
        raise TerminatedError(stopped_at, output)
    return output


def _run(config: RunConfig) -> tuple[Path, int | None]:
    """The run folder, and the step at which SIGTERM ended the run."""
    from q_align.train.arguments import training_arguments
    from q_align.train.progress import Progress
    from q_align.train.restart import Restart
    from q_align.train.terminate import StopOnTerminate

    output, start = claim(config.train.output_dir, resume=config.train.resume)
    readout = ReadoutSpec("levels", config.scheme())
    card = dataclasses.replace(read_card(config.model.path), readout=readout, media=config.media)
    training, validation = open_sets(config)
    card = _trained_card(card, training, config)
    held_out = sum(len(labels) for labels in validation)
    if 0 < held_out < FEW:
        log.warning(
            "%d held-out media are too few to choose a checkpoint by; data.val_share 0 trains on all (the "
            "configuration nano_finetune does), or name more rows val",
            held_out,
        )
    draws = order(config, training)
    args = training_arguments(config, output / CHECKPOINTS, media=len(draws), evaluate=bool(validation))
    precision = "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"
    check_precision(config.model.attn, precision, "train.precision")
    warn_of_emulation(args.device, precision, "train.precision")
    backbone = _backbone(config, card)
    check_offers(losses_of(config.loss.name, config.loss.weights), backbone.readout.offers)
    train_set, eval_set = _datasets(config, backbone, training, validation)
    progress, stop = Progress(), StopOnTerminate()
    callbacks: list[Any] = [progress, stop]
    if config.train.runs > 1:
        callbacks.append(Restart(backbone.model, config.train.runs))
    trainer = _trainer(config, args, backbone, train_set, eval_set, draws=draws, callbacks=callbacks)
    check_started(trainer.accelerator, config.train.engine, os.environ)
    first = trainer.is_world_process_zero()
    if first:
        output.mkdir(parents=True, exist_ok=True)
        report_changes(output / CONFIG, config.to_yaml())
        write(output / CONFIG, config.to_yaml())
    shown = ", ".join(f"{len(labels)} of {labels.source}" for labels in training)
    log.info("training on %s (%d an epoch); %d held out", shown, len(draws), len(eval_set or ()))
    try:
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    finally:
        progress.close()
        stop.close()
        if first:
            _keep_history(trainer.state.log_history, output / "log_history.json")
    _report_broken(trainer, output)
    if stop.stopped_at is None and first:
        _publish(output, config.train.average, trainer.run_steps)
    trainer.accelerator.wait_for_everyone()
    return output, stop.stopped_at


def _trained_card(card: ModelCard, sets: Sequence[Labels], config: RunConfig) -> ModelCard:
    """The card of the model that this run makes: what it is trained on, and from what it started."""
    fresh = config.model.init == "random"
    records: list[dict[str, Any]] = [
        {
            "source": labels.source,
            "task": str(task),
            "rows": int((labels.column("task") == task).sum()),
            "mos_range": list(labels.mos_range),
            "higher_is_better": labels.higher_is_better,
        }
        for labels in sets
        for task in np.unique(labels.column("task"))
    ]
    tasks = {record["task"] for record in records}
    about = {} if fresh else {key: value for key, value in card.about.items() if key in LASTING}
    sources = ", ".join(dict.fromkeys(record["source"] for record in records))
    return dataclasses.replace(
        card,
        tasks=tuple(sorted(tasks | set(() if fresh else card.tasks))),
        trained_on=[*([] if fresh else card.trained_on), *records],
        base=_home(config.model.path),
        calibration={},
        about=about | {"name": Path(config.train.output_dir).name, "data": f"trained with q_align on {sources}"},
    )


def _home(path: str) -> str:
    """Where a base lies, for adapters that are loaded from another folder than the one they were trained in."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _datasets(
    config: RunConfig, backbone: Backbone, training: list[Labels], validation: list[Labels]
) -> tuple[RatedDataset, RatedDataset | None]:
    data, card, encoder = config.data, backbone.card, backbone.encoder
    show = Augmentation(paraphrase=data.questions == "pool", flip=data.flip, crop=data.crop, seed=config.train.seed)

    def dataset(sets: list[Labels], shown: Augmentation | None) -> RatedDataset:
        read = reader(data, training=shown is not None)
        if read is None:
            return RatedDataset(sets, card, encoder.opens, shown)
        if encoder.stores is None or (data.crop and encoder.stores != encoder.opens):
            raise ConfigError(
                "data.cache and data.fast_decode scale frames to media.max_pixels, but media.tiles and data.crop need "
                "them whole; drop one of the two"
            )
        return RatedDataset(sets, card, encoder.stores, shown, read=read)

    return dataset(training, show), dataset(validation, None) if validation else None


def order(config: RunConfig, labels: Sequence[Labels]) -> EpochSampler:
    """In which order, and how often, the training rows are visited."""
    data, train, loss = config.data, config.train, get_loss(config.loss.name, config.loss.weights, config.loss.options)
    sets = config.sets()
    sizes = [len(one) for one in labels]
    weights, caps = [entry.weight for entry in sets], [entry.cap for entry in sets]
    processes = int(os.environ.get("WORLD_SIZE", "1"))

    def lengths() -> np.ndarray:
        paths = [str(path) for one in labels for path in one.column("media")]
        return pixel_counts(paths, most=config.media.max_pixels)

    return build_sampler(
        sizes,
        epoch_counts(sizes, weights=weights, caps=caps, temperature=data.temperature),
        batch_size=source_batch_size(train.batch_size, group_size=loss.group_size, processes=processes),
        seed=train.seed,
        tasks=np.concatenate([one.column("task").astype(str) for one in labels]) if data.balance else None,
        sources=source_groups(labels)[1] if loss.pairwise else None,
        lengths=lengths if data.bucket else None,
    )


def _backbone(config: RunConfig, card: ModelCard) -> Backbone:
    from transformers import set_seed

    set_seed(config.train.seed)
    options = {name: getattr(config.model, name) for name in ("attn", "quantize") if getattr(config.model, name)}
    # weights stay in float32; lower precision is autocast (train.precision)
    backbone = Backbone.from_pretrained(config.model.path, dtype="float32", card=card, **options)
    if config.model.init == "random":
        backbone = Backbone.join(type(backbone.model)(backbone.model.config), backbone.encoder, backbone.card)
    if config.train.engine != "auto":
        plain_names(backbone.model)
        plain_memory(backbone.model)
    family = family_of(card.family)
    if config.model.lora.enabled:
        from q_align.models.peft import add_lora

        backbone.model = add_lora(backbone.model, family, config.model.lora)
    freeze(backbone.model, family, config.model.freeze)
    if config.train.checkpointing:
        from q_align.train.recompute import recompute

        recompute(backbone.model, family, config.train.checkpointing)
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
            recent=train.average,
            runs=train.runs,
        ),
        callbacks=callbacks,
    )


def _keep_history(history: list[dict[str, float]], path: Path) -> None:
    try:
        write(path, json.dumps(history, indent=1) + "\n")
    except OSError as error:
        # on a full disk the run's own error says more, and must come through
        log.warning("%s: cannot be written (%s)", path, error)


def _report_broken(trainer: Any, output: Path) -> None:
    """Lists the media that were skipped, of all processes: in the log and in broken_media.json."""
    from accelerate.utils import gather_object

    reasons = sorted(set(gather_object(list(trainer.broken))))
    if not trainer.is_world_process_zero() or not reasons:
        return
    write(output / "broken_media.json", json.dumps(reasons, indent=1, ensure_ascii=False) + "\n")
    log.info("%d unreadable media were skipped (broken_media.json):", len(reasons))
    for reason in reasons:
        log.info("  %s", reason)


def _publish(output: Path, count: int, length: int) -> None:
    """Makes the run's folder a model: the best checkpoint, or the mean of the last `count` of each run of `length`."""
    folder = output / CHECKPOINTS
    taken = ranked(folder)[:1] if count == 1 else ends(folder, count, length)
    if count == 1:
        publish(taken[0], output)
    else:
        publish(average(taken, stage(folder) / "mean"), output)
        stage(folder)  # the files have their second name
    found = [metric_of(checkpoint) for checkpoint in taken]
    rated = ", ".join(f"{metric:.4f}" for metric in found if metric is not None)
    said = f"validation SRCC {rated}" if rated else "no validation rows"
    names = ", ".join(checkpoint.name for checkpoint in taken)
    what = "best checkpoint" if count == 1 else "mean of"
    log.info("%s %s (%s); model in %s (%s)", what, names, said, output, FILE)
