"""Parts of a model (vision, connector, language): which parameter belongs where, and freezing. Knows names only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from q_align.errors import ConfigError
from q_align.models.families import Family

PEFT_PREFIX = "base_model.model."


def part_of(family: Family, name: str) -> str | None:
    """The part that a parameter belongs to, by the family's prefixes; None for one that the table does not place."""
    name = name.removeprefix("module.").removeprefix(PEFT_PREFIX)
    for part in ("vision", "connector", "language"):
        if name.startswith(getattr(family, part)):
            return part
    return None


def train_fully(model: nn.Module, name: str) -> None:
    """Trains a module in float32, whatever adapters have frozen and rounded: a readout's own weights.

    Args:
        model: perhaps with adapters.
        name: of the module, without the prefixes of wrappers.
    """
    for path, parameter in model.named_parameters():
        if f".{name}." in f".{path}":
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)


def freeze(model: nn.Module, family: Family, parts: Sequence[str]) -> None:
    """Stops the training of whole parts.

    Raises:
        ConfigError: when a part has no parameters in this family, or nothing is left to train.
    """
    for part in parts:
        mine = [p for name, p in model.named_parameters() if part_of(family, name) == part]
        if not mine:
            raise ConfigError(f"model.freeze: this model has no parameters in its part {part!r}")
        for parameter in mine:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f"model.freeze: {', '.join(parts)} leaves nothing to train")
