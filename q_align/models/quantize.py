"""How weights are loaded other than as they lie: attention kernels by name, half precision, layers in 8 or 4 bits.

Only linear layers of the language model are quantised. The vision tower, what connects it and the output head stay as
they are: small next to the language model, and what a rating of quality hangs on. Knows option names; no family.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from q_align.errors import ConfigError, MissingExtraError, nearest, require
from q_align.log import log

QUANTIZERS = ("8bit", "4bit", "int8")
ATTENTION = ("eager", "sdpa", "flash_attention_2")
X86 = ("x86_64", "AMD64")
# x86 processors multiply in these types when they have one of these sets, as torch calls them
INSTRUCTIONS = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}


def check_attention(name: str | None) -> None:
    """Raises:
    ConfigError: for an unknown name.
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
    """Refuses flash attention in full precision, which it does not know.

    Args:
        attention: its name.
        precision: what the model computes in, which autocast may make another one than that of its weights.
        option: what sets the precision, for the message.

    Raises:
        ConfigError: says so.
    """
    if attention == "flash_attention_2" and precision == "float32":
        raise ConfigError(f"flash_attention_2 needs {option} bfloat16 or float16, got float32; or use attn: sdpa")


def has_instructions(dtype: str) -> bool:
    """Whether this processor computes in that type; where it does not, libraries do it in software.

    Args:
        dtype: "float32", "bfloat16" or "float16".
    """
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return dtype not in INSTRUCTIONS or any(known.get(name) for name in INSTRUCTIONS[dtype])


def warn_of_software(device: torch.device, dtype: str, option: str) -> None:
    """Says so where a processor is told to compute in what it has no instructions for (x86: elsewhere not known).

    Args:
        device: what the model runs on.
        dtype: what it computes in.
        option: what sets the precision, for the message.
    """
    if device.type == "cpu" and platform.machine() in X86 and not has_instructions(dtype):
        log.warning(
            "%s: this processor has no instructions for %s, which makes it many times slower than float32",
            option,
            dtype,
        )


def quantization(name: str, dtype: str, keep: Sequence[str]) -> Any:
    """What transformers is told to quantise.

    Args:
        name: "8bit" or "4bit" (bitsandbytes; NF4 with double quantisation), "int8" (torchao, weights only).
        dtype: of the arithmetic, and of what is not quantised.
        keep: modules that stay as they are, by the beginning or the end of their name.

    Raises:
        ConfigError: for an unknown name.
        MissingExtraError: when the library is not installed.
    """
    if name not in QUANTIZERS:
        raise ConfigError(
            f"unknown quantization {name!r}{nearest(name, QUANTIZERS)}; known: {', '.join(QUANTIZERS)} (quantize)"
        )
    skip = [part.removesuffix(".") for part in keep]
    if name == "int8":
        # says at its import which kernels for other machines it cannot load
        logging.getLogger("torchao").setLevel(logging.ERROR)
        torchao = require("torchao.quantization", extra="quant")
        from transformers import TorchAoConfig

        return TorchAoConfig(torchao.Int8WeightOnlyConfig(), modules_to_not_convert=skip)
    require("bitsandbytes", extra="quant")
    from transformers import BitsAndBytesConfig

    if name == "8bit":
        # says at every product of matrices that it computes in float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
        bnb_4bit_use_double_quant=True,
        llm_int8_skip_modules=skip,
    )


@torch.inference_mode()
def settle(model: nn.Module) -> None:
    """Lets layers of bitsandbytes rearrange their weights, which they do at their first call on a processor.

    Two threads that make the first call together would rearrange them twice.

    Raises:
        ConfigError: when a layer's shape does not suit the processor's 4-bit kernel.
    """
    if not getattr(model, "is_quantized", False):
        return
    for name, layer in model.named_modules():
        if type(layer).__name__ not in ("Linear4bit", "Linear8bitLt") or layer.weight.device.type != "cpu":
            continue
        wide, high = int(layer.in_features), int(layer.out_features)
        try:
            layer(torch.zeros(1, wide, dtype=torch.float32))
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(
                f"{name} ({wide} x {high}) cannot run in 4 bits on this processor, whose kernel wants multiples of 64 "
                "x 32; use quantize: int8 or 8bit"
            ) from error
