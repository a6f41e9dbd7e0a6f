"""A loss that is not finite ends the run and is traced to its items, without waiting for a GPU at every step."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from q_align.errors import TrainingError
from q_align.types import Sample

# Batches that an accelerator may be ahead of the check; the losses before them are computed, reading them is free.
LAG = 2


class LossCheck:
    """Remembers the losses of the last batches, and raises for the first one that is not finite.

    On a CPU the loss of a batch is checked at once, before it changes a weight. On an accelerator it is checked LAG
    batches later, and in any case before anything is logged, evaluated or saved.
    """

    def __init__(self, place: Path) -> None:
        """Args:
        place: JSON file that gets the items of the batch.
        """
        self.place = place
        self.waiting: deque[tuple[int, Mapping[str, Tensor], Tensor, Callable[[int], Sample]]] = deque()

    def add(self, step: int, terms: Mapping[str, Tensor], index: Tensor, sample: Callable[[int], Sample]) -> None:
        """Takes the loss of one batch.

        Args:
            step: optimizer steps done before.
            terms: of the loss, by name.
            index: (B,) positions of the batch's items in their data set.
            sample: item of a position.

        Raises:
            TrainingError: for a batch, this one or an earlier one, whose loss is not finite.
        """
        self.waiting.append((step, {name: value.detach() for name, value in terms.items()}, index, sample))
        on_cpu = next(iter(terms.values())).device.type == "cpu"
        self.check(0 if on_cpu else LAG)

    def check(self, lag: int = 0) -> None:
        """Checks all batches but the last `lag`.

        Raises:
            TrainingError: names the step and the items, and where all of them are written.
        """
        while len(self.waiting) > lag:
            step, terms, index, sample = self.waiting.popleft()
            if not torch.isfinite(torch.stack(list(terms.values())).sum()):
                _raise(step, terms, [sample(int(i)) for i in index], self.place)


def _raise(step: int, terms: Mapping[str, Tensor], samples: Sequence[Sample], place: Path) -> None:
    values = {name: value.item() for name, value in terms.items()}
    record = {"step": step, "loss": values, "media": [[sample.source, sample.id] for sample in samples]}
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shown = ", ".join(s.id for s in samples[:4]) + (f" and {len(samples) - 4} more" if len(samples) > 4 else "")
    parts = ", ".join(f"{name} {value}" for name, value in values.items())
    raise TrainingError(
        f"step {step}: the loss is not finite ({parts}) on {shown} (all in {place}); "
        f"lower train.lr, or use train.precision bf16 or fp32"
    )
