"""The mean of several checkpoints: by hand, of adapters, of runs that were interrupted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from q_align import Scorer
from q_align.errors import ConfigError, TrainingError
from q_align.train.average import average
from q_align.train.run import run


def checkpoint(folder: Path, **weights: torch.Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "q_align.json").write_text(folder.name)
    (folder / "optimizer.pt").write_text("serves resuming only")
    return folder


def test_by_hand(tmp_path: Path) -> None:
    parts = [
        checkpoint(tmp_path / str(n), a=torch.tensor([1.0 * n, 0.5]), b=torch.tensor([n]), c=torch.tensor([n]).half())
        for n in (1, 2, 6)
    ]
    mean = average(parts, tmp_path / "mean")
    found = load_file(mean / "model.safetensors")
    assert found["a"].tolist() == [3.0, 0.5]
    assert found["b"].tolist() == [6], "a counter has no mean"
    assert found["c"].dtype == torch.float16 and found["c"].tolist() == [3.0]
    assert (mean / "q_align.json").read_text() == "6"
    assert not (mean / "optimizer.pt").exists()


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    one, two = checkpoint(tmp_path / "1", a=torch.ones(1)), checkpoint(tmp_path / "2", b=torch.ones(1))
    with pytest.raises(TrainingError, match="other weights"):
        average([one, two], tmp_path / "mean")
    (one / "model.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"not every checkpoint has model.safetensors"):
        average([one, two], tmp_path / "mean2")
    with pytest.raises(TrainingError, match="nowhere: no weights"):
        average([two, tmp_path / "nowhere"], tmp_path / "mean3")


@pytest.mark.parametrize("adapters", [False, True])
def test_a_run_ends_with_the_mean_of_its_last_checkpoints(settle, tmp_path: Path, adapters: bool) -> None:
    lora = {"model.lora.enabled": True, "model.lora.r": 4} if adapters else {}
    changes = {"train.average": 3, "train.keep": 1, **lora}
    output = run(settle(**changes))
    left = sorted(p.name for p in (output / "checkpoints").iterdir() if p.name.startswith("checkpoint"))
    assert {"checkpoint-6", "checkpoint-9", "checkpoint-12"} <= set(left)
    name = "adapter_model.safetensors" if adapters else "model.safetensors"
    found = load_file(output / name)
    parts = [load_file(output / "checkpoints" / f"checkpoint-{step}" / name) for step in (6, 9, 12)]
    moving = [key for key, value in found.items() if value.is_floating_point()]
    assert any(not torch.equal(found[key], parts[-1][key]) for key in moving)
    for key in moving:
        assert torch.allclose(found[key], sum(part[key] for part in parts) / 3, atol=1e-7)
    assert 1 <= Scorer.from_pretrained(output, workers=0).score(torch.zeros(40, 40, 3).byte().numpy()).value <= 5
    # a run that was broken off after its ninth step ends the same
    shutil.copytree(output / "checkpoints", tmp_path / "again" / "checkpoints")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "checkpoint-12")
    again = run(settle(**changes, **{"train.output_dir": tmp_path / "again", "train.resume": True}))
    assert all(torch.equal(value, found[key]) for key, value in load_file(again / name).items())


def test_more_than_there_are_is_the_mean_of_all(settle) -> None:
    output = run(settle(**{"train.average": 99}))
    parts = [load_file(p / "model.safetensors") for p in (output / "checkpoints").glob("checkpoint-*")]
    assert len(parts) == 4
    for key, value in load_file(output / "model.safetensors").items():
        if value.is_floating_point():
            assert torch.allclose(value, sum(part[key] for part in parts) / 4, atol=1e-7)
    with pytest.raises(ConfigError, match="average must be positive"):
        settle(**{"train.average": 0})
