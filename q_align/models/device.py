"""What a machine can do: devices, cores, and which precisions and attention kernels run on them."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec

import torch

from q_align.errors import ConfigError, MissingExtraError, nearest
from q_align.log import log

AUTO_DTYPE = "auto"
DTYPES = (AUTO_DTYPE, "float32", "bfloat16", "float16")
ATTENTION = ("eager", "sdpa", "flash_attention_2")
X86 = ("x86_64", "AMD64")
# x86 processors multiply in these types when they have one of these sets, as torch calls them
INSTRUCTIONS = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}
_logged: set[str] = set()  # choices that were reported in this process


def best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of a name; None: the best one.

    Raises:
        ConfigError: when this machine has no such device.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # each backend raises its own
        raise ConfigError(f"device {str(name)!r}: not on this machine; leave it out to take {best_device()}") from error
    return device


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_dtype(dtype: str, device: str | torch.device | None, preferred: str | None = None) -> str:
    """The precision that a model is loaded in for scoring; a choice made here is logged once.

    Args:
        dtype: "float32", "bfloat16" or "float16", which are taken as they are, or "auto": float32 on a CPU, `preferred`
            or bfloat16 on an accelerator, float16 where it has no bfloat16.
        device: where the model will run; None: the best device of this machine.
        preferred: what the checkpoint asks for on an accelerator (its card).

    Raises:
        ConfigError: for another name.
    """
    for name in (dtype, preferred):
        if name is not None and name not in DTYPES:
            raise ConfigError(f"unknown dtype {name!r}{nearest(name, DTYPES)}; known: {', '.join(DTYPES)} (dtype)")
    if dtype != AUTO_DTYPE:
        return dtype
    device = find_device(device)
    if device.type == "cpu":
        chosen = "float32"
    elif preferred and preferred != AUTO_DTYPE:
        chosen = preferred
    else:
        chosen = "bfloat16" if has_bfloat16(device) else "float16"
    message = f"dtype auto: {chosen} on {device.type}"
    if message not in _logged:
        _logged.add(message)
        log.info(message)
    return chosen


def has_bfloat16(device: torch.device) -> bool:
    """Whether an accelerator computes in bfloat16 without emulation."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)


def check_attention(name: str | None) -> None:
    """Raises:
    ConfigError: for an unknown attention kernel.
    MissingExtraError: when flash attention is not installed.
    """
    if name is None or name in ("eager", "sdpa"):
        return
    if name not in ATTENTION:
        raise ConfigError(f"unknown attention {name!r}{nearest(name, ATTENTION)}; known: {', '.join(ATTENTION)} (attn)")
    if find_spec("flash_attn") is None:
        raise MissingExtraError(
            "flash_attn is not installed (attn: flash_attention_2); pip install flash-attn on a machine with CUDA, or "
            "use attn: sdpa"
        )


def check_precision(attention: str | None, precision: str, option: str) -> None:
    """Refuses flash attention in float32, which it does not support.

    Args:
        attention: name of the kernel.
        precision: what the model computes in; with autocast this may differ from the dtype of its weights.
        option: what sets the precision, for the message.

    Raises:
        ConfigError: for that combination.
    """
    if attention == "flash_attention_2" and precision == "float32":
        raise ConfigError(f"flash_attention_2 needs {option} bfloat16 or float16, got float32; or use attn: sdpa")


def has_instructions(dtype: str) -> bool:
    """Whether this CPU has instructions for a dtype ("float32", "bfloat16" or "float16"); else it is emulated."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return dtype not in INSTRUCTIONS or any(known.get(name) for name in INSTRUCTIONS[dtype])


def warn_of_emulation(device: torch.device, dtype: str, option: str) -> None:
    """Warns when a CPU is asked to compute in a dtype that it has to emulate (x86 only; elsewhere it is not known).

    Args:
        device: what the model runs on.
        dtype: what it computes in.
        option: what sets the precision, for the message.
    """
    if device.type == "cpu" and platform.machine() in X86 and not has_instructions(dtype):
        log.warning(
            "%s: this processor has no instructions for %s and emulates it, many times slower than float32",
            option,
            dtype,
        )
