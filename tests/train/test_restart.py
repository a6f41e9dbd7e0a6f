"""train.runs: several runs from one start, one after the other, and the mean of what they end with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from q_align.errors import ConfigError
from q_align.train.run import run

# 12 steps a run, a checkpoint every third
TWO = {"train.runs": 2, "train.average": 2, "train.warmup": 0.3, "train.keep": 1}


def weights(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return {key: value for key, value in load_file(folder / name).items() if value.is_floating_point()}


def far(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    # running statistics go the same way in every run
    return float(sum((a[key] - b[key]).double().square().sum() for key in a if "running" not in key)) ** 0.5


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in b)


def test_each_run_begins_anew_and_the_model_is_the_mean_of_their_ends(settle, tiny: Path, tmp_path: Path) -> None:
    alone = run(settle(**TWO | {"train.runs": 1, "train.output_dir": tmp_path / "alone"}))
    both = run(settle(**TWO | {"train.keep": 99}))
    kept = {int(p.name[11:]): weights(p) for p in (both / "checkpoints").glob("checkpoint-*")}
    assert sorted(kept) == [3, 6, 9, 12, 15, 18, 21, 24]
    # the first is what it would be by itself; the second begins where the first began, and ends elsewhere
    assert same(kept[12], weights(alone / "checkpoints" / "checkpoint-12"))
    start = weights(tiny)
    assert far(kept[15], start) < 0.5 * far(kept[12], start)
    assert far(kept[24], start) == pytest.approx(far(kept[12], start), rel=0.5)
    assert far(kept[24], kept[12]) > 0.2 * far(kept[12], start)
    mean = {key: sum(kept[step][key] for step in (9, 12, 21, 24)) / 4 for key in start}
    found = weights(both)
    assert all(torch.allclose(found[key], mean[key], atol=1e-7) for key in mean)
    log = json.loads((both / "log_history.json").read_text())
    rates = {line["step"]: line["learning_rate"] for line in log if "learning_rate" in line}
    assert all(rates[step + 12] == rates[step] for step in range(1, 12))
    assert rates[2] > rates[1]  # it warms up


def test_an_interrupted_one_ends_the_same(settle, tmp_path: Path) -> None:
    whole = run(settle(**TWO))
    left = sorted(p.name for p in (whole / "checkpoints").glob("checkpoint-*"))
    assert {"checkpoint-9", "checkpoint-12", "checkpoint-21", "checkpoint-24"} <= set(left) and len(left) <= 5
    # within the second run, and at its very beginning
    for name, last in (("within", 21), ("between", 12)):
        broken = tmp_path / name
        shutil.copytree(whole / "checkpoints", broken / "checkpoints")
        for path in (broken / "checkpoints").glob("checkpoint-*"):
            if int(path.name[11:]) > last:
                shutil.rmtree(path)
        again = run(settle(**TWO | {"train.output_dir": broken, "train.resume": True}))
        assert same(weights(again), weights(whole))


def test_adapters(settle) -> None:
    lora = {"model.lora.enabled": True, "model.lora.r": 4}
    output = run(settle(**TWO | lora | {"train.keep": 99}))
    name = "adapter_model.safetensors"
    kept = {step: weights(output / "checkpoints" / f"checkpoint-{step}", name) for step in (12, 15, 24)}
    outer = [key for key in kept[12] if "lora_B" in key]  # zero at the start
    norm = {step: sum(float(kept[step][key].norm()) for key in outer) for step in kept}
    assert 0 < norm[15] < 0.5 * norm[12] < norm[24]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"train.runs": 0}, "runs must be positive"),
        ({"train.epochs": 1.5}, "whole train.epochs"),
        ({"train.max_steps": 10}, "no train.max_steps"),
        ({"train.engine": "zero2"}, "one run only"),
    ],
)
def test_what_does_not_go_together_is_refused(settle, change: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settle(**TWO | change) if "train.runs" not in change else settle(**change)
