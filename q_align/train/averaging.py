"""Weight averaging: the mean of checkpoints of one run, or of several runs from the same base, as one model.

Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018); Wortsman et al., "Model
soups" (ICML 2022). N times the training cost for N runs, no extra cost when scoring.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from q_align.errors import TrainingError
from q_align.file_modes import apply_umask
from q_align.models.backbone import read_card
from q_align.models.card import FILE
from q_align.models.model_page import PAGE, save_card
from q_align.models.peft import CONFIG as ADAPTER
from q_align.models.peft import is_adapter
from q_align.train.run_dir import link_or_copy, model_files

SUFFIX = ".safetensors"
ADAPTER_WEIGHTS = f"adapter_model{SUFFIX}"
# Of a card: what averaged models may differ in.
MAY_DIFFER = ("tasks", "trained_on", "validation", "calibration", "about")


def average(folders: Sequence[Path], target: Path) -> Path:
    """Writes a model whose weights are the mean of the given models' weights.

    Floating-point tensors (with the running statistics of batch normalisation) are averaged in double precision;
    integer buffers are the last model's. Of LoRA adapters not the factors but the weight changes B A are averaged: the
    result is one adapter of the summed rank, which is exact.

    Args:
        folders: checkpoints, or runs with their final model.
        target: folder to make; other files than weights are the last model's.

    Raises:
        TrainingError: when the models are not of one kind.
    """
    check_same_kind(folders)
    newest = folders[-1]
    adapters = is_adapter(newest)
    files = model_files(newest)
    if not any(path.suffix == SUFFIX for path in files):
        raise TrainingError(f"{newest}: no weights ({SUFFIX}) to average")
    for path in files:
        name = path.relative_to(newest)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if adapters and name.name == ADAPTER_WEIGHTS:
            _average_adapters(folders, target)
        elif path.suffix == SUFFIX:
            _average_file(folders, name, target)
        elif name.name == FILE:
            _write_card(folders, target)
        elif name.name == PAGE:  # written with the card
            continue
        elif not (adapters and name.name == ADAPTER):
            link_or_copy(path, target / name)
    apply_umask(target)
    return target


def check_same_kind(folders: Sequence[Path]) -> None:
    """Refuses models of different families, levels, media settings, prompts or bases.

    Raises:
        TrainingError: names the two models and what they differ in.
    """
    first = read_card(folders[0])
    for folder in folders[1:]:
        card = read_card(folder)
        if is_adapter(folder) != is_adapter(folders[0]):
            raise TrainingError(f"{folders[0]} and {folder}: one is an adapter, the other a whole model")
        for field in dataclasses.fields(first):
            ours, theirs = getattr(first, field.name), getattr(card, field.name)
            if field.name not in MAY_DIFFER and ours != theirs:
                raise TrainingError(
                    f"{folders[0]} and {folder} differ in {field.name} ({ours!r}, {theirs!r}); their mean is no model"
                )


def _average_file(folders: Sequence[Path], name: Path, target: Path) -> None:
    from safetensors.torch import save_file

    with ExitStack() as stack:
        opened = [_open(stack, folder / name) for folder in folders]
        keys = _same_keys(folders, name, opened)
        mean = {key: _mean([file.get_slice(key) for file in opened]) for key in keys}
        save_file(mean, target / name, opened[-1].metadata())


def _average_adapters(folders: Sequence[Path], target: Path) -> None:
    """The adapter whose weight changes are the mean of the others': their factors side by side, scaled by 1 / n."""
    from safetensors.torch import save_file

    configs = [json.loads((folder / ADAPTER).read_text(encoding="utf-8")) for folder in folders]
    for folder, config in zip(folders, configs):
        if config.get("use_dora"):
            raise TrainingError(
                f"{folder}: DoRA adapters have no exact mean; `q-align export` each, then average the exports"
            )
        if config.get("rank_pattern") or config.get("alpha_pattern") or config.get("peft_type") != "LORA":
            raise TrainingError(f"{folder}: only LoRA adapters of one rank can be averaged")
    scales = [c["lora_alpha"] / (math.sqrt(c["r"]) if c.get("use_rslora") else c["r"]) for c in configs]
    name = Path(ADAPTER_WEIGHTS)
    with ExitStack() as stack:
        opened = [_open(stack, folder / name) for folder in folders]
        mean: dict[str, Tensor] = {}
        for key in _same_keys(folders, name, opened):
            values = [file.get_tensor(key) for file in opened]
            if ".lora_A." in key:
                mean[key] = torch.cat(values, dim=0)  # (sum of ranks, in)
            elif ".lora_B." in key:
                scaled = [
                    (value.double() * scale / len(values)).to(value.dtype) for value, scale in zip(values, scales)
                ]
                mean[key] = torch.cat(scaled, dim=1)  # (out, sum of ranks)
            elif ".lora_" in key:
                raise TrainingError(f"{folders[-1]}: {key} does not belong to a LoRA adapter of linear layers")
            else:
                mean[key] = _mean([file.get_slice(key) for file in opened])  # trained in full beside the adapters
        save_file(mean, target / name, opened[-1].metadata())
    rank = sum(config["r"] for config in configs)
    config = {**configs[-1], "r": rank, "lora_alpha": rank, "use_rslora": False}  # scaled by alpha / r = 1
    (target / ADAPTER).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(folders: Sequence[Path], target: Path) -> None:
    """The last model's card, with all that the others were trained on; a calibration holds for one model's scores."""
    cards = [read_card(folder) for folder in folders]
    records: list[dict[str, Any]] = []
    for card in cards:
        records += [record for record in card.trained_on if record not in records]
    tasks = tuple(sorted({task for card in cards for task in card.tasks}))
    mean = dataclasses.replace(cards[-1], trained_on=records, tasks=tasks, validation={}, calibration={})
    save_card(mean, target)


def _open(stack: ExitStack, path: Path) -> Any:
    from safetensors import safe_open

    try:
        return stack.enter_context(safe_open(path, framework="pt"))
    except FileNotFoundError as error:
        raise TrainingError(f"{path.parent}: no {path.name}, which the other models have") from error


def _same_keys(folders: Sequence[Path], name: Path, opened: Sequence[Any]) -> list[str]:
    keys = [sorted(file.keys()) for file in opened]
    for folder, other in zip(folders, keys):
        if other != keys[-1]:
            raise TrainingError(f"{folder} and {folders[-1]}: {name} holds other weights")
    return keys[-1]


def _mean(slices: Sequence[Any]) -> Tensor:
    """In double precision, returned in the weights' own; counters are the last model's."""
    last: Tensor = slices[-1][...]
    if not last.is_floating_point():
        return last
    total = last.double()
    for one in slices[:-1]:
        value = one[...]
        if value.shape != last.shape:
            raise TrainingError(f"weights of shape {tuple(value.shape)} and {tuple(last.shape)} have no mean")
        total += value
    return (total / len(slices)).to(last.dtype)
