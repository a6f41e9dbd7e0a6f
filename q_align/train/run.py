"""One training run, from a resolved configuration to a folder that scores.

A run folder holds config.yaml, checkpoints/, log_history.json, tensorboard/, and the best checkpoint's files at its
top, so that the folder itself is a model. Knows no command line.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from q_align.config import RunConfig
from q_align.data.cards import open_dataset
from q_align.data.collate import Asking, RatedMedia
from q_align.data.draws import Draws
from q_align.data.labels import Labels
from q_align.errors import ConfigError, LabelError, require
from q_align.log import log
from q_align.model.backbone import Backbone, read_card
from q_align.model.card import FILE, ModelCard
from q_align.model.families import family_of
from q_align.model.parts import freeze, part_of
from q_align.syllabus import answer_of, get_syllabus

CHECKPOINTS = "checkpoints"
# Files of a checkpoint that serve resuming only; the published model goes without them.
RESUME_ONLY = (
    "optimizer",
    "scheduler",
    "rng_state",
    "trainer_state",
    "training_args",
    "scaler",
    "global_step",
    "latest",
)


def run(config: RunConfig) -> Path:
    """Trains, and returns the run folder.

    Raises:
        ConfigError: when the output folder holds another run (unless train.resume), or settings contradict each other.
        LabelError: when labels or media are missing or broken.
    """
    require("accelerate", extra="train")
    output = _claim(config)
    card = _card(config)
    sets = [_open(entry, config) for entry in config.sets()]
    train_sets, eval_sets = [], []
    for labels in sets:
        train, val = split(labels, val_share=config.data.val_share, seed=config.train.seed)
        train_sets.append(train)
        if val is not None:
            eval_sets.append(val)
    for labels in (*train_sets, *eval_sets):
        _check_media(labels)
    card = _taught(card, train_sets, config)
    backbone = _backbone(config, card)
    trainer = _trainer(config, backbone, train_sets, eval_sets, output)
    (output / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    try:
        trainer.train(resume_from_checkpoint=_last_checkpoint(output) if config.train.resume else None)
    finally:
        if trainer.is_world_process_zero():
            history = json.dumps(trainer.state.log_history, indent=1)
            (output / "log_history.json").write_text(history + "\n", encoding="utf-8")
    if trainer.is_world_process_zero():
        best = trainer.state.best_model_checkpoint or _last_checkpoint(output)
        assert best is not None, "the last step always saves"
        publish(Path(best), output)
        _report(trainer, Path(best), output)
    return output


def split(labels: Labels, *, val_share: float, seed: int) -> tuple[Labels, Labels | None]:
    """Training and validation rows of one set.

    Uses the labels' own "val" split where there is one; otherwise holds out a share of the training rows, whole
    contents at a time (column `content`, else the medium itself). Test rows are never looked at.

    Raises:
        LabelError: when no training rows are left.
    """
    names = set(labels.column("split").tolist()) if labels.has("split") else set()
    train = labels.split("train") if names - {None, ""} else labels
    if "val" in names:
        return train, labels.split("val")
    if val_share == 0:
        return train, None
    contents = train.column("content" if train.has("content") else "id")
    groups = np.unique(contents.astype(str))
    if len(groups) < 2:
        raise LabelError(f"{labels.source}: one content only, nothing to hold out; set data.val_share to 0")
    count = min(max(1, round(val_share * len(groups))), len(groups) - 1)
    held = np.isin(contents.astype(str), np.random.default_rng(seed).permutation(groups)[:count])
    return train.select(np.flatnonzero(~held)), train.select(np.flatnonzero(held))


def publish(checkpoint: Path, output: Path) -> None:
    """Puts the model files of a checkpoint at the top of the run folder (links where the disk allows it)."""
    for path in sorted(checkpoint.rglob("*")):
        relative = path.relative_to(checkpoint)
        if path.is_dir() or relative.parts[0].startswith(RESUME_ONLY):
            continue
        target = output / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        fresh.unlink(missing_ok=True)
        try:
            os.link(path, fresh)
        except OSError:
            shutil.copy2(path, fresh)
        fresh.replace(target)


def _claim(config: RunConfig) -> Path:
    if not config.train.output_dir:
        raise ConfigError("train.output_dir is not set: name the folder of the run")
    output = Path(config.train.output_dir)
    if output.is_dir() and any(output.iterdir()):
        if not config.train.resume:
            raise ConfigError(
                f"{output}: holds another run; give --train.resume true to continue it, or a new train.output_dir"
            )
        if _last_checkpoint(output) is None:
            log.info("%s: no checkpoint to resume from; starting from the beginning", output)
    output.mkdir(parents=True, exist_ok=True)
    return output


def _last_checkpoint(output: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    folder = output / CHECKPOINTS
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def _open(entry: Any, config: RunConfig) -> Labels:
    given = {
        "task": entry.task,
        "source": entry.source,
        "mos_range": tuple(entry.mos_range) if entry.mos_range else None,
        "higher_is_better": entry.higher_is_better,
    }
    options = {name: value for name, value in given.items() if value is not None}
    return open_dataset(entry.labels, media_root=entry.media_root, scheme=config.scheme(), **options)


def _check_media(labels: Labels) -> None:
    """Every file must be there before the first step: a run must not end after hours at a missing file."""
    missing = [path for path in labels.column("media") if not Path(path).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LabelError(f"{labels.source}: no such file {missing[0]}{more}; check data.media_root")


def _card(config: RunConfig) -> ModelCard:
    return dataclasses.replace(read_card(config.model.path), levels=config.scheme(), media=config.media)


def _taught(card: ModelCard, sets: Sequence[Labels], config: RunConfig) -> ModelCard:
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
        base=config.model.path,
        calibration={},
        about={} if config.model.init == "random" else card.about,
    )


def _backbone(config: RunConfig, card: ModelCard) -> Backbone:
    from transformers import set_seed

    set_seed(config.train.seed)
    options = {name: getattr(config.model, name) for name in ("attn", "quantize") if getattr(config.model, name)}
    # weights stay in float32; lower precision is autocast (train.precision)
    backbone = Backbone.from_pretrained(config.model.path, dtype="float32", card=card, **options)
    if config.model.init == "random":
        backbone.model = type(backbone.model)(backbone.model.config)
    family = family_of(card.family)
    if config.model.lora.enabled:
        from q_align.model.peft import add_lora

        backbone.model = add_lora(backbone.model, family, config.model.lora)
    freeze(backbone.model, family, config.model.freeze)
    return backbone


def _trainer(
    config: RunConfig, backbone: Backbone, train_sets: list[Labels], eval_sets: list[Labels], output: Path
) -> Any:
    from q_align.train.arguments import training_arguments
    from q_align.train.trainer import RatingTrainer

    taught = config.syllabus
    syllabus = get_syllabus(taught.name, taught.weights, taught.options)
    data, train = config.data, config.train
    asking = Asking(paraphrase=data.questions == "pool", flip=data.flip, crop=data.crop, seed=train.seed)
    scheme, card = config.scheme(), backbone.card

    answer = answer_of(taught.name, scheme, taught.weights)
    train_set = RatedMedia(train_sets, card, answer, asking)
    eval_set = RatedMedia(eval_sets, card, answer) if eval_sets else None
    steps = -(-len(train_set) // (train.batch_size * train.accumulate))
    log.info(
        "training on %d media of %s; %d held out",
        len(train_set),
        ", ".join(s.source for s in train_sets),
        len(eval_set or ()),
    )
    family = family_of(card.family)
    return RatingTrainer(
        backbone,
        training_arguments(config, output / CHECKPOINTS, steps_per_epoch=steps, evaluate=eval_set is not None),
        train_set=train_set,
        eval_set=eval_set,
        syllabus=syllabus,
        sampler=lambda dataset: Draws(len(dataset), seed=train.seed),
        group_of=lambda name: part_of(family, name),
        lr_parts=train.lr_parts,
        max_bad_media=train.max_bad_media,
    )


def _report(trainer: Any, best: Path, output: Path) -> None:
    best_metric = trainer.state.best_metric
    found = f"validation SRCC {best_metric:.4f}" if best_metric is not None else "no validation rows"
    log.info("best checkpoint %s (%s); model in %s (%s)", best.name, found, output, FILE)
    for reason in trainer.broken:
        log.info("skipped: %s", reason)
