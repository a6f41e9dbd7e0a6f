"""Training on several devices: `train.engine` as settings of DeepSpeed and FSDP, and checks of the launch.

Engines are JSON files beside this one (`configs/engines` in a checkout): DeepSpeed's own format for ZeRO, the Trainer's
`fsdp_config` for FSDP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from q_align.errors import ConfigError, require

FOLDER = Path(__file__).parent / "engines"
HOW = "start it with scripts/train.sh, or torchrun --nproc_per_node N -m q_align train ..."
# Launchers that start several processes, by the variable that holds their number; torchrun's own is WORLD_SIZE.
OTHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def check_launch(engine: str, environ: Mapping[str, str], *, gpus: int) -> None:
    """Refuses a launch that would train in one process, or in several that know nothing of each other.

    Args:
        engine: train.engine.
        environ: environment variables of this process.
        gpus: GPUs that this process sees.

    Raises:
        ConfigError: names the sign of several processes that was found, and how to start them.
    """
    world = int(environ.get("WORLD_SIZE", "0"))  # 0: no launcher
    if world == 0:
        for name in OTHERS:
            if int(environ.get(name, "1")) > 1:
                raise ConfigError(f"{name} is {environ[name]}, but every process would train alone; {HOW}")
        if "MASTER_ADDR" in environ:
            # `accelerate launch --cpu --num_processes 2` sets it and starts one process
            raise ConfigError(f"a launcher set MASTER_ADDR but no WORLD_SIZE: only one process would train; {HOW}")
        if gpus > 1:
            raise ConfigError(f"{gpus} GPUs, but one process; {HOW}, or choose one GPU with CUDA_VISIBLE_DEVICES=0")
        if engine != "auto":
            raise ConfigError(f"train.engine {engine} must be launched with torchrun, even on one GPU: {HOW}")
    if engine == "fsdp" and gpus == 0:
        raise ConfigError("train.engine fsdp needs GPUs (on a CPU accelerate falls back to DDP); use zero3 or auto")


def engine_settings(engine: str) -> dict[str, Any]:
    """Keywords of TrainingArguments for an engine; none for "auto" (one device, or plain data parallelism).

    Raises:
        MissingExtraError: when DeepSpeed is needed and not installed.
    """
    if engine == "auto":
        return {}
    settings = json.loads((FOLDER / f"{engine}.json").read_text(encoding="utf-8"))
    if engine == "fsdp":
        return {"fsdp": "full_shard auto_wrap", "fsdp_config": settings}
    require("deepspeed", extra="train")
    return {"deepspeed": settings}


def check_world(accelerator: Any, engine: str, environ: Mapping[str, str]) -> None:
    """Checks that the libraries did what they were told: as many processes, and the engine that was asked for.

    Raises:
        ConfigError: when they fell back to something else.
    """
    world = int(environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise ConfigError(f"{world} processes were started, but {accelerator.num_processes} train together; {HOW}")
    wanted = {"auto": ("NO", "MULTI_"), "fsdp": ("FSDP",)}.get(engine, ("DEEPSPEED",))
    if not accelerator.distributed_type.name.startswith(wanted):
        raise ConfigError(f"train.engine is {engine}, but the libraries chose {accelerator.distributed_type.name}")


def save_under_loaded_names(model: Any) -> None:
    """Makes a model that was loaded under ZeRO-3 save its weights under the names it was loaded from.

    transformers remembers there every renaming that it knows for the family instead of those that applied, and undoes
    all of them when it saves: `model.language_model.model.language_model.*`, which no other reader knows.
    """
    renamings = getattr(model, "_weight_conversions", None)
    if renamings:
        model._weight_conversions = [renaming for renaming in renamings if renaming.was_used()]


def make_contiguous(model: Any) -> None:
    """Gives all weights the contiguous memory format: DeepSpeed refuses the channels-last format of convolutions."""
    import torch

    for tensor in (*model.parameters(), *model.buffers()):
        # a fresh tensor: `contiguous()` leaves the strides of 1 x 1 convolutions as they are
        tensor.data = torch.empty_like(tensor.data, memory_format=torch.contiguous_format).copy_(tensor.data)
