"""Our configuration as transformers.TrainingArguments."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from q_align.config.schema import RunConfig
from q_align.errors import ConfigError, require
from q_align.train.distributed import import_group_holders
from q_align.train.sharding import check_launch, engine_settings

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def training_arguments(config: RunConfig, folder: Path, *, items: int, evaluate: bool) -> Any:
    """TrainingArguments for a run.

    Args:
        config: resolved configuration.
        folder: where checkpoints go.
        items: sampled in one epoch.
        evaluate: whether there are rows to evaluate on; the best checkpoint is then the one with the highest SRCC.
    """
    import torch
    from transformers import TrainingArguments

    train = config.train
    check_launch(train.engine, os.environ, gpus=torch.cuda.device_count())
    for tool in train.report_to:
        require(tool, extra="train" if tool == "tensorboard" else tool)
    if train.liger:
        if not torch.cuda.is_available():
            raise ConfigError("train.liger: Liger kernels run on GPUs only, and there is none; leave the key out")
        require("liger_kernel", extra="liger")
    cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    world = int(os.environ.get("WORLD_SIZE", "1"))
    steps = math.ceil(items / (train.batch_size * train.accumulate * world))  # updates in one epoch
    every = max(1, round(train.eval_every * steps))
    if train.max_steps > 0:
        every = min(every, train.max_steps)
    # the only way to name these folders in transformers 5
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.parent / "tensorboard")
    os.environ.setdefault("WANDB_PROJECT", "q_align")
    os.environ.setdefault("WANDB_DIR", str(folder.parent))
    precision = forward_precision(config)
    if world > 1:
        import_group_holders()  # TrainingArguments joins the other processes
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=train.epochs,
        max_steps=train.max_steps,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.eval_batch_size or train.batch_size,
        gradient_accumulation_steps=train.accumulate,
        learning_rate=train.lr,
        weight_decay=train.weight_decay,
        warmup_steps=train.warmup,
        lr_scheduler_type=train.schedule,
        max_grad_norm=train.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        torch_compile=train.compile,
        use_liger_kernel=train.liger,
        dataloader_num_workers=train.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        eval_strategy="steps" if evaluate else "no",
        eval_steps=every if evaluate else None,
        # for callbacks of transformers, which read state.best_metric
        metric_for_best_model="srcc" if evaluate else None,
        greater_is_better=True,
        # checkpoints are pruned, and the best one found, by `q_align.train.checkpoints`
        save_strategy="steps",
        save_steps=every,
        disable_tqdm=True,  # we have a bar of our own
        logging_steps=train.log_every,
        report_to=list(train.report_to) or "none",
        # explicit: otherwise several processes without GPUs do not find each other
        use_cpu=cpu,
        ddp_backend="gloo" if cpu and "WORLD_SIZE" in os.environ else None,
        seed=train.seed,
        data_seed=train.seed,
        run_name=folder.parent.name,
        **engine_settings(train.engine),
        average_tokens_across_devices=False,
        ddp_find_unused_parameters=False,
    )


def forward_precision(config: RunConfig) -> str:
    """What the forward pass computes in: "fp32", "bf16" or "fp16".

    With LoRA also what the frozen weights are held in: bf16 takes half the memory, on every device.
    """
    given = config.train.precision
    if given is None:
        return "bf16" if config.model.lora.enabled else "fp32"
    return _fastest_precision() if given == "auto" else given


def _fastest_precision() -> str:
    """bf16 where the device has instructions for it; emulating it is slower than fp32."""
    import torch

    from q_align.models.device import has_instructions

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if has_instructions("bfloat16") else "fp32"
