"""The mean of several checkpoints' weights as one model: where few media teach, it rates better than any one of them.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018). Knows files of weights;
no model and no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from q_align.errors import TrainingError
from q_align.train.run_dir import link, model_files

SUFFIX = ".safetensors"


def average(checkpoints: Sequence[Path], target: Path) -> Path:
    """Writes the last of the checkpoints with the mean of all their weights, tensor by tensor.

    Args:
        checkpoints: folders of one run, whose files of weights bear the same names.
        target: folder to make; other files are those of the last checkpoint.

    Raises:
        TrainingError: when their weights are not of one kind.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    newest = checkpoints[-1]
    files = model_files(newest)
    if not any(path.suffix == SUFFIX for path in files):
        raise TrainingError(f"{newest}: no weights ({SUFFIX}) in it")
    for path in files:
        name = path.relative_to(newest)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != SUFFIX:
            link(path, target / name)
            continue
        with ExitStack() as stack:
            try:
                opened = [stack.enter_context(safe_open(c / name, framework="pt")) for c in checkpoints]
            except FileNotFoundError as error:
                raise TrainingError(f"{newest.parent}: not every checkpoint has {name}; set train.average 1") from error
            keys = [sorted(file.keys()) for file in opened]
            if any(other != keys[-1] for other in keys):
                raise TrainingError(f"{newest.parent}: {name} holds other weights in other checkpoints")
            save_file({key: _mean(opened, key) for key in keys[-1]}, target / name, opened[-1].metadata())
    return target


def _mean(files: Sequence[Any], key: str) -> Any:
    """In double precision, given back in the weights' own; counters are those of the last checkpoint."""
    last = files[-1].get_tensor(key)
    if not last.is_floating_point():
        return last
    total = last.double()
    for file in files[:-1]:
        total += file.get_tensor(key)
    return (total / len(files)).to(last.dtype)
