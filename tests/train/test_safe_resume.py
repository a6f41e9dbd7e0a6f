"""A run folder is data: resuming it never runs a program that a file of it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from q_align.errors import TrainingError
from q_align.train.safe_resume import tensors_only


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def zero_state(folder: Path, extra: object) -> Path:
    """A model state of ZeRO, as DeepSpeed writes it."""
    path = folder / "global_step1" / "mp_rank_00_model_states.pt"
    path.parent.mkdir(parents=True)
    torch.save({"module": {"w": torch.ones(2)}, "extra": extra}, path)
    return path


def test_the_engine_runs_no_payload(tmp_path: Path) -> None:
    engines = pytest.importorskip("deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine")
    engine = engines.TorchCheckpointEngine()
    path = zero_state(tmp_path, Payload(tmp_path / "ran"))
    with pytest.raises(TrainingError, match="could run a program"), tensors_only(tmp_path, "zero2"):
        engine.load(str(path), map_location="cpu")
    assert not (tmp_path / "ran").exists()


def test_the_engine_reads_its_own_records(tmp_path: Path) -> None:
    engines = pytest.importorskip("deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine")
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    extra = [LossScaler(2.0), ZeroStageEnum(2), fragment_address(numel=3, start=1)]
    path = zero_state(tmp_path, extra)
    with tensors_only(tmp_path, "zero2"):
        found = engines.TorchCheckpointEngine().load(str(path), map_location="cpu")
    assert found["extra"][1:] == extra[1:]
    assert found["extra"][0].cur_scale == 2.0


def test_other_code_may_load_as_before_afterwards(tmp_path: Path) -> None:
    path = zero_state(tmp_path, Payload(tmp_path / "ran"))
    with tensors_only(tmp_path, "auto"):
        pass
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()
