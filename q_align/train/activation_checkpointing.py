"""Gradient checkpointing (activations are recomputed in the backward pass), for all or some parts of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from q_align.errors import ConfigError
from q_align.models.families import Family
from q_align.models.parts import part_of


def checkpoint_activations(model: nn.Module, family: Family, parts: bool | Sequence[str]) -> None:
    """Switches it on for whole layers of the model.

    Args:
        parts: True for every layer that supports it, or the names of parts (vision, connector, language).

    Raises:
        ConfigError: when the model, or one of the parts, has no layer that supports it.
    """
    # named activation_checkpointing_enable since transformers 5.x; the older name warns there
    name = "activation_checkpointing_enable"
    enable: Any = getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable", None)
    try:
        enable({"use_reentrant": False})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"train.checkpointing: {type(model).__name__} cannot recompute its layers") from error
    if parts is True or not isinstance(parts, Sequence):
        return
    able = {n: m for n, m in model.named_modules() if getattr(m, "gradient_checkpointing", False)}
    for part in parts:
        if not any(part_of(family, f"{n}.") == part for n in able):
            here = sorted({p for p in (part_of(family, f"{n}.") for n in able) if p})
            raise ConfigError(f"train.checkpointing: no layer of the part {part!r} can be recomputed; {here} can")
    for n, module in able.items():
        if part_of(family, f"{n}.") not in parts:
            module.gradient_checkpointing = False
