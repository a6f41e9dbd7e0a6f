"""Parameter groups of the optimizer: learning rates per part of the model, weight decay for matrices only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    part_of: Callable[[str], str | None],
    rates: Mapping[str, float],
    rate: float,
    decay: float,
    decayed: Collection[str],
) -> list[dict[str, Any]]:
    """Groups for an optimizer.

    Args:
        parameters: names and parameters; frozen ones are left out.
        part_of: name -> part of the model; None for one that belongs to no part.
        rates: part -> learning rate, where it differs from `rate`.
        rate: learning rate of everything else.
        decay: weight decay of the parameters named in `decayed`; the others have none.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in parameters:
        if parameter.requires_grad:
            groups[rates.get(part_of(name) or "", rate), name in decayed].append(parameter)
    return [
        {"params": members, "lr": lr, "weight_decay": decay if with_decay else 0.0}
        for (lr, with_decay), members in groups.items()
    ]
