"""The keys of a training configuration: name, type, default and meaning of each.

`q-align config --help-keys` prints them from here. None as a default of `readout` and `media` stands for the base
checkpoint's own setting (`q_align.train.inheritance`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import yaml

from q_align.errors import ConfigError, nearest
from q_align.levels import LevelScheme
from q_align.types import MediaSpec

# Dictionaries take any key: train.lr_parts.vision.
FREE = ("train.lr_parts", "loss.weights", "loss.options")
# Parts of every backbone (see `q_align.models.families`).
PARTS = ("vision", "connector", "language")
Precision = Literal["fp32", "bf16", "fp16", "auto"]


@dataclass
class LoraConfig:
    """Low-rank adapters; the frozen weights under them are held in the precision of the forward pass."""

    enabled: bool = False
    r: int = 128
    alpha: int = 256
    dropout: float = 0.05
    targets: list[str] | None = None  # names of the linear modules to adapt; None: the family's own
    also_train: list[str] = field(default_factory=list)  # parts trained in full beside the adapters: connector, vision
    dora: bool = False  # weight-decomposed adapters (DoRA)


@dataclass
class ModelConfig:
    path: str = "nano"  # folder, hub id, or "nano" for the packaged model
    init: Literal["pretrained", "random"] = "pretrained"  # random: the same architecture from scratch
    attn: str | None = None  # eager, sdpa or flash_attention_2; None: the model's default
    quantize: Literal["8bit", "4bit", "int8"] | None = None  # of the frozen language layers; 4bit with LoRA is QLoRA
    freeze: list[str] = field(default_factory=list)  # parts that are not trained: vision, connector, language
    lora: LoraConfig = field(default_factory=LoraConfig)


@dataclass
class LabelOptions:
    """Facts that a labels file does not state. Under `data` they hold for every set that does not set its own."""

    media_root: str | None = None  # folder that paths in the labels are relative to; None: the labels file's folder
    task: str | None = None  # iqa, iaa or vqa; None: as in the labels or the data set card
    mos_range: list[float] | None = None  # [min, max] of the MOS scale; None: the card's, else that of the train rows
    higher_is_better: bool | None = None  # false for DMOS; None: the card's, else false for a column "dmos"


@dataclass
class SetConfig(LabelOptions):
    """One labelled data set."""

    labels: str = ""  # labels file (CSV, JSONL, Parquet, published JSON) or the name of a data set card
    source: str | None = None  # name of the data set; None: the labels file's name, or its folder's
    weight: float = 1.0  # how often the set is sampled, relative to its size
    cap: int | None = None  # most items of the set in one epoch


@dataclass
class DataConfig(LabelOptions):
    train: str | None = None  # labels file or data set card: the short way to name a single set
    sets: list[SetConfig] = field(default_factory=list)  # several sets
    val_share: float = 0.1  # share of the contents held out for validation where the labels have no "val" split
    questions: Literal["pool", "fixed"] = "pool"  # pool: a random paraphrase; fixed: always the scoring question
    flip: bool = True  # random horizontal flip
    crop: int | None = None  # random crops of at most this many pixels a side, not scaled; None: whole frames
    balance: bool = True  # every batch holds the tasks in the proportions of the epoch
    cache: str | None = None  # folder that caches opened images and videos between epochs and runs
    fast_decode: bool = False  # decode large training JPEGs at a reduced scale: faster, pixels differ slightly
    bucket: bool = False  # batches of images of similar size: less padding; reads every image's header first


@dataclass
class MediaConfig:
    """How images and videos are opened, in training and afterwards in scoring."""

    max_pixels: int | None = None  # pixels of a frame, larger ones are scaled down; 0: no limit; None: the base's
    fps: float | None = None  # frames sampled per second of a video; 0: max_frames over all of it; None: the base's
    max_frames: int | None = None  # most frames of a video, evenly spread; None: the base's
    clip: int | None = None  # consecutive frames at each sampling position; None: the base's
    tiles: int | None = None  # extra crops at native resolution of large images, of max_pixels each; None: the base's
    pool: str | None = None  # frames to video score: model, mean, min, p10, or a registered one; None: the base's

    def given(self) -> dict[str, Any]:
        """The settings that are set, as fields of `MediaSpec`."""
        found = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return found | ({"max_pixels": found["max_pixels"] or None} if "max_pixels" in found else {})


@dataclass
class ReadoutConfig:
    """How an answer is written and read."""

    kind: str | None = None  # levels (words), numbers, head (regression), or a registered one; None: the base's
    words: list[str] | None = None  # level words, best first; None: the base's
    values: list[float] | None = None  # value of each word, strictly falling; None: the base's


@dataclass
class LossConfig:
    name: str = "hard"  # training objective, see docs/labels.md; hard: cross-entropy on one level word, as in the paper
    weights: dict[str, float] = field(default_factory=dict)  # with blend: loss -> weight
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # loss -> its own settings


@dataclass
class TrainConfig:
    output_dir: str = ""  # folder of the run: config.yaml, checkpoints/, and the final model
    epochs: float = 3.0
    max_steps: int = -1  # overrides epochs where positive
    batch_size: int = 8  # items per device and step
    accumulate: int = 1  # gradient accumulation: batches per optimizer step
    lr: float = 2e-5  # peak learning rate
    lr_parts: dict[str, float] = field(default_factory=dict)  # vision, connector or language -> its own learning rate
    weight_decay: float = 0.0  # of weight matrices; biases and norms have none
    warmup: float = 0.03  # share of the steps
    schedule: Literal["cosine", "linear", "polynomial", "inverse_sqrt", "constant", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = 1.0  # gradient clipping
    precision: Precision | None = None  # auto: bf16 where the device computes in it; None: bf16 with LoRA, else fp32
    checkpointing: bool | list[str] = False  # gradient checkpointing: true, or the parts to recompute
    engine: Literal["auto", "zero2", "zero3", "zero3_offload", "fsdp"] = "auto"  # auto: one device or DDP
    compile: bool = False  # torch.compile
    liger: bool = False  # Liger kernels, on GPUs
    workers: int = 2  # data loading processes
    eval_every: float = 1.0  # epochs between evaluations; each one saves a checkpoint
    eval_batch_size: int | None = None  # None: batch_size
    patience: int = 0  # stop after this many evaluations without a better SRCC; 0: never
    keep: int = 2  # number of checkpoints to keep, by best SRCC; the last one is kept as well
    log_every: int = 10  # steps
    report_to: list[Literal["tensorboard", "wandb"]] = field(default_factory=lambda: ["tensorboard"])  # loggers
    seed: int = 0
    resume: bool = False  # resume from the last checkpoint in output_dir
    max_bad_media: int = 0  # unreadable images and videos tolerated (skipped and listed) before the run stops


@dataclass
class RunConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    media: MediaConfig = field(default_factory=MediaConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def sets(self) -> list[SetConfig]:
        """The labelled sets, with the defaults under `data` filled in.

        Raises:
            ConfigError: when there is none, or both ways are used at once.
        """
        data = self.data
        if data.train and data.sets:
            raise ConfigError("data.train and data.sets are both given; put the set into data.sets")
        sets = data.sets or ([SetConfig(labels=data.train)] if data.train else [])
        if not sets:
            raise ConfigError("no training data: give data.train (a labels file or a card) or data.sets")
        common = {f.name: getattr(data, f.name) for f in fields(LabelOptions)}
        return [
            replace(entry, **{key: value for key, value in common.items() if getattr(entry, key) is None})
            for entry in sets
        ]

    def to_yaml(self) -> str:
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)


def check_values(config: RunConfig) -> None:
    """Refuses numbers and names that make no sense, whatever the base is.

    Raises:
        ConfigError: names the key, what is wanted and what was given.
    """
    train, data, readout = config.train, config.data, config.readout
    checks = [
        ("train.batch_size", train.batch_size, train.batch_size > 0, "positive"),
        ("train.accumulate", train.accumulate, train.accumulate > 0, "positive"),
        ("train.lr", train.lr, train.lr > 0, "positive"),
        ("train.epochs", train.epochs, train.epochs > 0, "positive"),
        ("train.eval_every", train.eval_every, train.eval_every > 0, "positive"),
        ("train.keep", train.keep, train.keep > 0, "positive"),
        ("train.patience", train.patience, train.patience >= 0, "0 or more"),
        ("train.warmup", train.warmup, 0 <= train.warmup < 1, "a share in [0, 1)"),
        ("train.workers", train.workers, train.workers >= 0, "0 or more"),
        ("train.log_every", train.log_every, train.log_every > 0, "positive"),
        ("train.max_bad_media", train.max_bad_media, train.max_bad_media >= 0, "0 or more"),
        ("train.seed", train.seed, train.seed >= 0, "0 or more"),
        ("train.eval_batch_size", train.eval_batch_size, (train.eval_batch_size or 1) > 0, "positive"),
        ("data.val_share", data.val_share, 0 <= data.val_share < 1, "a share in [0, 1)"),
        ("data.crop", data.crop, data.crop is None or data.crop > 0, "positive"),
        ("model.lora.r", config.model.lora.r, config.model.lora.r > 0, "positive"),
        ("media.max_pixels", config.media.max_pixels, (config.media.max_pixels or 0) >= 0, "0 or more"),
    ]
    for key, value, fine, wanted in checks:
        if not fine:
            raise ConfigError(f"{key} must be {wanted}, got {value}")
    recomputed = train.checkpointing if isinstance(train.checkpointing, list) else []
    for part in [*config.model.freeze, *config.model.lora.also_train, *train.lr_parts, *recomputed]:
        if part not in PARTS:
            raise ConfigError(f"unknown part of the model {part!r}{nearest(part, PARTS)}; parts are {', '.join(PARTS)}")
    known = {f.name for f in fields(MediaSpec)}
    try:
        MediaSpec(**{key: value for key, value in config.media.given().items() if key in known})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if readout.words or readout.values:  # checked as far as they are known; the base gives the others
        count = len(readout.words or readout.values or ())
        words = readout.words or [str(number) for number in range(count)]
        LevelScheme(tuple(words), tuple(readout.values or range(count, 0, -1)))
