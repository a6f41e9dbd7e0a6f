"""A loss that is not finite: the run ends, the batch is written down. Knows records and files; no trainer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from q_align.errors import TrainingError
from q_align.types import Sample


def stop_at_nonfinite(step: int, terms: Mapping[str, Tensor], samples: Sequence[Sample], place: Path) -> None:
    """Writes down which media made the loss infinite, and ends the run.

    Args:
        step: steps done before.
        terms: of the loss, by name.
        samples: the media of the batch.
        place: JSON file that gets all of them.

    Raises:
        TrainingError: always.
    """
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
