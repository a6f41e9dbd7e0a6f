"""What the loss of one batch needs of the other processes' batches, and of the others of the same optimizer update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from q_align.losses.base import Prediction, Targets
from q_align.readout.encoder import IGNORE

Record = TypeVar("Record", Prediction, Targets)


def select_rows(record: Record, keep: Tensor) -> Record:
    """The same record of the rows where `keep` (B,) is True."""
    return replace(record, **{name: value[keep] for name, value in _per_row(record).items()})


def gather_rows(prediction: Prediction, targets: Targets, usable: Tensor, *, most: int) -> tuple[Prediction, Targets]:
    """The usable rows of all processes, in the order of their ranks; only this process's own carry a gradient.

    The processes' batches may differ in size. Every process calls this at the same step.

    Args:
        usable: (B,) False for rows that do not count in the loss.
        most: rows of the largest batch of any process.
    """
    own = {**_per_row(prediction), **_per_row(targets)}
    rows, rank = len(usable), dist.get_rank()
    # one matrix of all fields: float64 holds float32 and indices exactly
    columns = [usable[:, None].double(), *(value.detach().reshape(rows, -1).double() for value in own.values())]
    packed = torch.cat(columns, dim=1)  # (B, D)
    packed = torch.cat([packed, packed.new_zeros(most - rows, packed.shape[1])])  # (most, D); padding is not usable
    parts = [torch.empty_like(packed) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, packed)
    # (rows, D) usable rows of each process
    found = [part[part[:, 0] > 0].split([column.shape[1] for column in columns], dim=1)[1:] for part in parts]
    joined = {}
    for number, (name, value) in enumerate(own.items()):
        pieces = [part[number].reshape(-1, *value.shape[1:]).to(value.dtype) for part in found]
        pieces[rank] = value[usable]
        joined[name] = torch.cat(pieces)
    return (
        replace(prediction, **{name: joined[name] for name in _per_row(prediction)}),
        replace(targets, **{name: joined[name] for name in _per_row(targets)}),
    )


def mean_answer_tokens(batches: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor:
    """() answer tokens of the usable rows of an average batch, of those given and of the other processes' own."""
    counts = [((batch["answer"] != IGNORE) & batch["usable"][:, None]).sum() for batch in batches]
    total = torch.stack(counts).sum().to(device)
    batches_of_all = len(batches)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        batches_of_all *= dist.get_world_size()
    return total / batches_of_all


def _per_row(record: Prediction | Targets) -> dict[str, Tensor]:
    """The fields of a record that have one entry per row."""
    shared = getattr(record, "SHARED", ())
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: value for name, value in values.items() if value is not None and name not in shared}
