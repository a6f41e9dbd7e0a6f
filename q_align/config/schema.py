"""The training configuration: what can be set, what it means, and what it is when nobody says anything.

YAML files state differences only and are merged left to right; `--section.key value` comes last. Keys and types are
strict. The resolved configuration travels with the run (`config.yaml`), never the path of a file.
Knows no model and no data; jsonargparse does the parsing.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from q_align.config.files import find_config, read_config
from q_align.config.overrides import check_keys, check_overrides
from q_align.errors import ConfigError, nearest
from q_align.levels import VALUES, WORDS, LevelScheme
from q_align.types import MediaSpec

# Dictionaries take any key: train.lr_parts.vision.
FREE = ("train.lr_parts", "loss.weights", "loss.options")
# Parts of every backbone (see `q_align.models.families`).
PARTS = ("vision", "connector", "language")


@dataclass
class LoraConfig:
    """Low-rank adapters; the family's own targets and ranks unless said otherwise."""

    enabled: bool = False
    r: int = 128
    alpha: int = 256
    dropout: float = 0.05
    targets: list[str] | None = None  # names of linear modules; None: the family's
    also_train: list[str] = field(default_factory=list)  # parts trained in full beside the adapters: connector, vision
    dora: bool = False  # weight-decomposed adapters


@dataclass
class ModelConfig:
    path: str = "nano"  # folder, hub id, or "nano" for the embedded model
    init: Literal["pretrained", "random"] = "pretrained"  # random: the same architecture from scratch
    attn: str | None = None  # eager, sdpa, flash_attention_2; None: the model's default
    quantize: Literal["8bit", "4bit", "int8"] | None = None  # 4bit with adapters: QLoRA
    freeze: list[str] = field(default_factory=list)  # parts kept as they are: vision, connector, language
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class SetConfig:
    """One labelled set of a mixture."""

    labels: str = ""  # labels file (CSV, JSONL, Parquet, published JSON) or the name of a data set card
    media_root: str | None = None  # folder that media paths are relative to; None: the labels file's folder
    task: str | None = None  # iqa, iaa, vqa; None: as the labels or the card say
    source: str | None = None  # name of the set; None: the labels file's name, or its folder's
    mos_range: list[float] | None = None  # [min, max] of the MOS as written; None: the card's, else from the train rows
    higher_is_better: bool | None = None  # false for DMOS; None: the card's, else false for a column "dmos"
    weight: float = 1.0  # how often the set is drawn, relative to its size
    cap: int | None = None  # at most so many media of the set per epoch


@dataclass
class DataConfig:
    train: str | None = None  # labels file or card: shorthand for one set; `sets` for several
    media_root: str | None = None  # with `train`
    task: str | None = None  # with `train`
    mos_range: list[float] | None = None  # with `train`
    higher_is_better: bool | None = None  # with `train`
    sets: list[SetConfig] = field(default_factory=list)
    val_share: float = 0.1  # share of the training rows held out, by content, where the labels have no "val" split
    questions: Literal["pool", "fixed"] = "pool"  # a paraphrase drawn at random, or the scoring question always
    flip: bool = True  # mirror at random: does not change what people see in quality
    crop: int | None = None  # random crops of at most this many pixels a side, at native scale; None: whole frames
    temperature: float = 1.0  # of mixing sets by size: 1 as they are, towards 0 all alike
    balance: bool = True  # every batch holds the tasks in the proportions of the epoch
    cache: str | None = None  # folder that keeps opened media for the next epochs and runs; wants media.max_pixels
    fast_decode: bool = False  # training decodes large JPEGs at a reduced scale: faster, pixels differ a little
    bucket: bool = False  # images of like size share a batch: less padding; reads every image's header first


@dataclass
class LevelsConfig:
    words: list[str] = field(default_factory=lambda: list(WORDS))  # best first
    values: list[float] = field(default_factory=lambda: list(VALUES))  # strictly falling


@dataclass
class LossConfig:
    name: str = "hard"  # what is taught; see `q_align.losses`: hard is the paper
    weights: dict[str, float] = field(default_factory=dict)  # with blend: loss -> weight
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # loss -> its own settings


@dataclass
class TrainConfig:
    output_dir: str = ""  # folder of the run: config.yaml, checkpoints, the best model
    epochs: float = 3.0  # of each run
    runs: int = 1  # so many runs from the same start, one after the other; their mean with train.average
    max_steps: int = -1  # overrides epochs where positive
    batch_size: int = 8  # media per device and step
    accumulate: int = 1  # steps per update
    lr: float = 2e-5
    lr_parts: dict[str, float] = field(default_factory=dict)  # vision, connector, language -> its own learning rate
    weight_decay: float = 0.0
    warmup: float = 0.03  # share of the steps
    schedule: Literal["cosine", "linear", "polynomial", "inverse_sqrt", "constant", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = 1.0
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"  # auto: bf16 where the device computes in it, else fp32
    checkpointing: bool | list[str] = False  # recompute activations: less memory, a third more time; true, or parts
    engine: Literal["auto", "zero2", "zero3", "zero3_offload", "fsdp"] = "auto"  # how several devices share the model
    devices: int | None = None  # processes that must take part, else the run refuses to start; None: any
    unused_parameters: bool = False  # some weights take no part: several devices look for them every step
    compile: bool = False  # torch.compile
    liger: bool = False  # Liger kernels, where they know the model (GPUs)
    workers: int = 2  # processes that decode and encode
    eval_every: float = 1.0  # epochs between evaluations, each with a checkpoint
    eval_batch_size: int | None = None  # None: batch_size
    keep: int = 2  # best checkpoints kept (by SRCC); the last one is kept besides
    average: int = 1  # the model is the mean of the weights of so many last checkpoints of each run; 1: the best one
    log_every: int = 10  # steps
    report_to: list[Literal["tensorboard", "wandb"]] = field(
        default_factory=lambda: ["tensorboard"]
    )  # where the log goes
    seed: int = 0
    resume: bool = False  # go on from the last checkpoint in output_dir
    max_bad_media: int = 0  # broken media tolerated (skipped and listed) before the run stops


@dataclass
class RunConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    media: MediaSpec = field(default_factory=MediaSpec)
    levels: LevelsConfig = field(default_factory=LevelsConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def scheme(self) -> LevelScheme:
        return LevelScheme(words=tuple(self.levels.words), values=tuple(self.levels.values))

    def sets(self) -> list[SetConfig]:
        """The labelled sets, with `data.train` spelled out as one of them.

        Raises:
            ConfigError: when there is none, or both ways are used at once.
        """
        data = self.data
        if data.train and data.sets:
            raise ConfigError("data.train and data.sets are both given; put the set into data.sets")
        if data.train:
            return [
                SetConfig(
                    labels=data.train,
                    media_root=data.media_root,
                    task=data.task,
                    mos_range=data.mos_range,
                    higher_is_better=data.higher_is_better,
                )
            ]
        if not data.sets:
            raise ConfigError("no training data: give data.train (a labels file or a card) or data.sets")
        return data.sets

    def to_yaml(self) -> str:
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)


def resolve(files: Sequence[str | Path], overrides: Sequence[str] = ()) -> RunConfig:
    """YAML files merged left to right, then `--section.key value` overrides -> one checked configuration.

    A file is a path, or the name of a configuration that comes with q_align ("nano", "qwen3_5/4b").

    Raises:
        ConfigError: for a missing or malformed file, an unknown key (with the nearest valid one), or a wrong type.
    """
    found = [find_config(file) for file in files]
    for file in found:
        check_keys(read_config(file), RunConfig, str(file))
    check_overrides(overrides, RunConfig, FREE)
    from jsonargparse import ArgumentParser
    from jsonargparse import Namespace as Parsed

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    for name, section in typing.get_type_hints(RunConfig).items():
        parser.add_argument(f"--{name}", type=section)
    arguments = [word for file in found for word in ("--config", str(file))]
    try:
        parsed: Parsed = parser.instantiate_classes(parser.parse_args([*arguments, *overrides]))
    except Exception as error:  # jsonargparse raises several kinds; all of them speak of the user's input
        raise ConfigError(_one_line(error)) from error
    config = RunConfig(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(RunConfig)})
    _check_values(config)
    return config


def _check_values(config: RunConfig) -> None:
    train, data = config.train, config.data
    checks = [
        (train.batch_size > 0, "train.batch_size", train.batch_size, "positive"),
        (train.accumulate > 0, "train.accumulate", train.accumulate, "positive"),
        (train.lr > 0, "train.lr", train.lr, "positive"),
        (train.epochs > 0, "train.epochs", train.epochs, "positive"),
        (train.eval_every > 0, "train.eval_every", train.eval_every, "positive"),
        (train.keep > 0, "train.keep", train.keep, "positive"),
        (train.average > 0, "train.average", train.average, "positive"),
        (train.runs > 0, "train.runs", train.runs, "positive"),
        (0 <= train.warmup < 1, "train.warmup", train.warmup, "a share in [0, 1)"),
        (0 <= data.val_share < 1, "data.val_share", data.val_share, "a share in [0, 1)"),
        (train.workers >= 0, "train.workers", train.workers, "0 or more"),
        (train.log_every > 0, "train.log_every", train.log_every, "positive"),
        (train.max_bad_media >= 0, "train.max_bad_media", train.max_bad_media, "0 or more"),
        (train.seed >= 0, "train.seed", train.seed, "0 or more"),
        (
            train.eval_batch_size is None or train.eval_batch_size > 0,
            "train.eval_batch_size",
            train.eval_batch_size,
            "positive",
        ),
        (data.crop is None or data.crop > 0, "data.crop", data.crop, "positive"),
        (config.model.lora.r > 0, "model.lora.r", config.model.lora.r, "positive"),
    ]
    if data.cache and config.media.max_pixels is None:
        raise ConfigError("data.cache keeps media as large as they are; set media.max_pixels to what the model needs")
    for fine, key, value, wanted in checks:
        if not fine:
            raise ConfigError(f"{key} must be {wanted}, got {value}")
    if train.runs > 1:
        if train.max_steps > 0 or train.epochs % 1:
            raise ConfigError(
                f"train.runs {train.runs}: needs whole train.epochs and no train.max_steps; or set train.runs 1"
            )
        if train.engine != "auto":
            raise ConfigError(f"train.runs {train.runs}: engine {train.engine} shares one run only; set train.runs 1")
    recomputed = train.checkpointing if isinstance(train.checkpointing, list) else []
    for part in [*config.model.freeze, *config.model.lora.also_train, *train.lr_parts, *recomputed]:
        if part not in PARTS:
            raise ConfigError(f"unknown part of the model {part!r}{nearest(part, PARTS)}; parts are {', '.join(PARTS)}")
    config.scheme()  # its own checks


def _one_line(error: Exception) -> str:
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)
