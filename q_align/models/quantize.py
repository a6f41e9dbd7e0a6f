"""Quantization at loading: the linear layers of the language model in 8 or 4 bits.

The vision encoder, the connector and the output head keep their precision: they are small beside the language model,
and quality scores are sensitive to them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from q_align.errors import ConfigError, nearest, require

QUANTIZERS = ("8bit", "4bit", "int8")


def quantization(name: str, dtype: str, keep: Sequence[str]) -> Any:
    """The quantization configuration that transformers takes.

    Args:
        name: "8bit" or "4bit" (bitsandbytes; NF4 with double quantisation), "int8" (torchao, weights only).
        dtype: what is computed in, and the precision of what is not quantized.
        keep: modules that are not quantized, by the beginning or the end of their name.

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
        # at import it lists the kernels for other machines that it cannot load
        logging.getLogger("torchao").setLevel(logging.ERROR)
        torchao = require("torchao.quantization", extra="quant")
        from transformers import TorchAoConfig

        return TorchAoConfig(torchao.Int8WeightOnlyConfig(), modules_to_not_convert=skip)
    require("bitsandbytes", extra="quant")
    from transformers import BitsAndBytesConfig

    if name == "8bit":
        # at every matrix product it reports that it computes in float16
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
def warm_up_quantized_layers(model: nn.Module) -> None:
    """Calls each bitsandbytes layer on a CPU once: the first call repacks its weights, and is not thread-safe.

    Raises:
        ConfigError: when the CPU's 4-bit kernel does not support a layer's shape.
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
                f"{name} ({wide} x {high}) cannot run in 4 bits on this CPU, whose kernel needs multiples of 64 x 32; "
                "use quantize: int8 or 8bit"
            ) from error
