"""Launches that would train in one process, or in several that know nothing of each other, are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from q_align.config.resolve import resolve_config
from q_align.errors import ConfigError
from q_align.train.sharding import check_launch, check_world, engine_settings, make_contiguous, save_under_loaded_names

ENGINES = ("zero2", "zero3", "zero3_offload", "fsdp")


@pytest.mark.parametrize(
    ("engine", "environ", "gpus"),
    [
        ("auto", {}, 0),
        ("auto", {}, 1),
        ("auto", {"WORLD_SIZE": "2", "MASTER_ADDR": "here"}, 2),
        ("zero3", {"WORLD_SIZE": "1", "MASTER_ADDR": "here"}, 1),
        ("fsdp", {"WORLD_SIZE": "8", "SLURM_STEP_NUM_TASKS": "8"}, 8),
        ("auto", {"SLURM_STEP_NUM_TASKS": "1"}, 1),
    ],
)
def test_good_launches_pass(engine: str, environ: dict[str, str], gpus: int) -> None:
    check_launch(engine, environ, gpus=gpus)


@pytest.mark.parametrize(
    ("engine", "environ", "gpus", "says"),
    [
        ("auto", {"SLURM_STEP_NUM_TASKS": "4"}, 1, "SLURM_STEP_NUM_TASKS is 4.*scripts/train.sh"),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "2"}, 1, "OMPI_COMM_WORLD_SIZE is 2.*scripts/train.sh"),
        ("auto", {"MASTER_ADDR": "127.0.0.1"}, 0, "only one process would train.*scripts/train.sh"),
        ("auto", {}, 4, "4 GPUs, but one process.*scripts/train.sh"),
        ("zero2", {}, 1, "zero2 must be launched with torchrun.*scripts/train.sh"),
        ("fsdp", {"WORLD_SIZE": "2"}, 0, "fsdp needs GPUs.*zero3"),
    ],
)
def test_broken_launches_are_refused(engine: str, environ: dict[str, str], gpus: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_launch(engine, environ, gpus=gpus)


def accelerator(processes: int, kind: str) -> SimpleNamespace:
    return SimpleNamespace(num_processes=processes, distributed_type=SimpleNamespace(name=kind))


def test_a_library_that_fell_back_is_found_out() -> None:
    check_world(accelerator(1, "NO"), "auto", {})
    check_world(accelerator(2, "MULTI_CPU"), "auto", {"WORLD_SIZE": "2"})
    check_world(accelerator(2, "DEEPSPEED"), "zero3", {"WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match="2 processes were started, but 1 train together"):
        check_world(accelerator(1, "NO"), "auto", {"WORLD_SIZE": "2"})
    with pytest.raises(ConfigError, match="engine is fsdp, but the libraries chose MULTI_CPU"):
        check_world(accelerator(2, "MULTI_CPU"), "fsdp", {"WORLD_SIZE": "2"})


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_is_a_choice_with_its_own_stage(engine: str) -> None:
    assert resolve_config([], ["--train.engine", engine]).train.engine == engine
    settings = engine_settings(engine)
    if engine == "fsdp":
        assert settings["fsdp_config"]["fsdp_version"] == 2
    else:
        assert settings["deepspeed"]["zero_optimization"]["stage"] == int(engine[4])
        offloaded = "offload_param" in settings["deepspeed"]["zero_optimization"]
        assert offloaded == engine.endswith("offload")
        # "auto" there fails when the model is built after the arguments
        assert "train_batch_size" not in settings["deepspeed"]


def test_a_model_is_saved_under_the_names_it_was_loaded_from(tmp_path: Path) -> None:
    """As ZeRO-3 loads: every renaming that transformers knows for the family is remembered, used or not."""
    from safetensors import safe_open
    from tiny_models import make
    from transformers import AutoModelForImageTextToText
    from transformers.conversion_mapping import get_model_conversion_mapping

    def names(folder: Path) -> set[str]:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            return set(file.keys())

    base = make("qwen2_5_vl", tmp_path / "base")
    model = AutoModelForImageTextToText.from_pretrained(base)
    used = list(model._weight_conversions or [])
    every = get_model_conversion_mapping(model)
    assert len(every) > len(used)
    model._weight_conversions = [*used, *every]
    save_under_loaded_names(model)
    model.save_pretrained(tmp_path / "saved")
    assert names(tmp_path / "saved") == names(base)


def test_weights_are_laid_out_row_by_row() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, 1)).to(
        memory_format=torch.channels_last
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_contiguous(model)
    for name, value in model.state_dict().items():
        assert value.stride() == torch.empty(value.shape).stride()
        assert torch.equal(value, before[name])


def test_the_launcher_of_the_library_is_refused(tiny: Path, rated: Path, tmp_path: Path) -> None:
    """`accelerate launch --cpu --num_processes 2` starts one process; this is what it looks like from inside."""
    words = ["--model.path", str(tiny), "--data.train", str(rated), "--train.output_dir", str(tmp_path / "run")]
    env = {**os.environ, "ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    env = {name: value for name, value in env.items() if name != "WORLD_SIZE"}
    command = [sys.executable, "-m", "q_align", "train", *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "only one process would train" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["auto", "zero3", "fsdp"])
def test_two_processes_train_what_one_does(engine: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "bench" / "train_parallel.py"
    mode = "ddp" if engine == "auto" else engine
    output = tmp_path / "found.json"
    command = [sys.executable, str(script), "--models", "nano", "--modes", mode, "--output", str(output)]
    # its own folder for what DeepSpeed compiles: the usual one may hold the lock of a killed process
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path / "extensions")}
    subprocess.run(command, check=True, timeout=550, env=env)
    found = json.loads(output.read_text())["models"]["nano"][mode]
    assert found["largest_difference"] < 1e-4 < found["largest_movement"]
    assert found["same_names_as_one_process"]
    assert found["media_counted_per_evaluation"] == [8]
    assert found["largest_difference_when_resumed"] < 1e-7
