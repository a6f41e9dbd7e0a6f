"""Folders -> a model with every weight in place: strict, no remote code, no unpickling beyond plain tensors.

Layouts: full models (safetensors or sharded .bin), adapters over a base (the authors' LoRA with
`non_lora_trainables.bin`, DeQA-Score's, our own). Knows files; no prompts and no images.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from q_align.errors import CheckpointError
from q_align.models.device import check_attention
from q_align.models.mplug_owl2.configuration import MPLUGOwl2Config
from q_align.models.mplug_owl2.modeling import MPLUGOwl2LlamaForCausalLM
from q_align.models.quantize import quantization

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Parts that stay in full precision when the language model is quantised.
KEEP_PRECISE = ("lm_head", "model.vision_model", "model.visual_abstractor")


def full_model(
    folder: Path,
    *,
    dtype: str = "float32",
    attn: str | None = None,
    device_map: Any = None,
    quantize: str | None = None,
) -> MPLUGOwl2LlamaForCausalLM:
    """Loads a full checkpoint.

    Args:
        folder: holds `config.json` and `model.safetensors` or `pytorch_model*.bin`.
        dtype: "float32", "bfloat16" or "float16".
        attn: "eager", "sdpa", "flash_attention_2", ...; None: the library's default.
        device_map: as in transformers, for models larger than one device.
        quantize: "8bit" or "4bit" (bitsandbytes), "int8" (torchao), of the language layers.

    Raises:
        CheckpointError: for missing files, or keys that are missing, left over, or of another shape.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    check_attention(attn)
    config = MPLUGOwl2Config.from_pretrained(folder)
    options: dict[str, Any] = {"device_map": device_map} if device_map is not None else {}
    if quantize is not None:
        options["quantization_config"] = quantization(quantize, dtype, KEEP_PRECISE)
    try:
        loaded: Any = MPLUGOwl2LlamaForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=DTYPES[dtype],
            attn_implementation=attn,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with everything else that does not fit
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
    except (OSError, UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot load the weights ({_one_line(error)})") from error
    model, info = loaded
    complain(folder, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model


def complain(folder: Path, missing: Any, leftover: Any, mismatched: Any = ()) -> None:
    """Raises when anything does not fit, with every name; a model with a random part must never score."""
    wrong = [("missing", missing), ("left over", leftover), ("of another shape", mismatched)]
    text = "; ".join(f"{len(keys)} {what}: {', '.join(sorted(map(str, keys)))}" for what, keys in wrong if keys)
    if text:
        raise CheckpointError(f"{folder}: the weights do not fit this architecture, keys {text}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
