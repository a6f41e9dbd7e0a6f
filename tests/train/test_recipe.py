"""Keys of the recipe reach the optimizer and the adapters."""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trained import run
from transformers import TrainerState

from q_align.config.resolve import resolve_config
from q_align.data.mixture_sampler import MixtureSampler
from q_align.errors import TrainingError
from q_align.models.backbone import Backbone, read_card
from q_align.models.families import family_of
from q_align.models.parts import part_of
from q_align.models.peft import add_lora, base_dtype
from q_align.train.optimizer import parameter_groups
from q_align.train.run import _backbone
from q_align.train.trainer import SetEpoch

LORA = {"model.lora.enabled": True, "model.lora.r": 4, "model.lora.alpha": 8, "model.lora.also_train": ["connector"]}
ONE_STEP = {"train.max_steps": 1, "train.eval_every": 9, "train.warmup": 0, "train.schedule": "constant"}


def movement(output: Path, tiny: Path) -> dict[str, float]:
    before, after = load_file(tiny / "model.safetensors"), load_file(output / "model.safetensors")
    return {
        name: float((after[name] - before[name]).abs().max()) for name in before if before[name].is_floating_point()
    }


def test_weight_decay_is_for_matrices(settle, tiny: Path) -> None:
    """With gradients of nothing, decay alone moves weights: matrices, not norms and biases."""
    model = nn.ModuleDict({"linear": nn.Linear(3, 3), "norm": nn.LayerNorm(3)})
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    groups = parameter_groups(
        model.named_parameters(), part_of=lambda name: None, rates={}, rate=0.1, decay=0.5, decayed={"linear.weight"}
    )
    optimizer = torch.optim.AdamW(groups)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"linear.weight"}


@pytest.mark.parametrize("parts", [{}, {"connector": 1e-3}])
def test_norms_and_biases_of_a_run_do_not_decay(settle, tiny: Path, tmp_path: Path, parts: dict) -> None:
    """Gradients clipped to nothing again, so that what moves is moved by the decay."""
    changes = {**ONE_STEP, "train.weight_decay": 0.5, "train.max_grad_norm": 1e-12, "train.lr": 1e-3}
    moved = movement(
        run(settle(**changes, **({"train.lr_parts": str(parts).replace("'", '"')} if parts else {}))), tiny
    )
    shapes = {name: value.dim() for name, value in load_file(tiny / "model.safetensors").items()}
    assert max(moved[name] for name in moved if shapes[name] < 2 and "running" not in name) < 1e-6
    assert min(moved[name] for name in moved if ".q_proj." in name) > 1e-6


def test_gradients_are_clipped(settle, tiny: Path, tmp_path: Path) -> None:
    """AdamW makes up for a scale until gradients are far below its epsilon of 1e-8."""
    free = movement(run(settle(**ONE_STEP, **{"train.output_dir": tmp_path / "free"})), tiny)
    tight = movement(run(settle(**ONE_STEP, **{"train.max_grad_norm": 1e-12})), tiny)
    assert free["lm_head.weight"] > 1e-4 > 100 * tight["lm_head.weight"]


def test_a_loss_that_is_not_finite_is_found_before_it_changes_a_weight(settle, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 1: the loss is not finite"):
        run(settle(**{"train.lr": 1e30, "train.warmup": 0, "train.log_every": 5}))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_adapters_drop_out_as_they_are_told(nano, dropout: float, tiny: Path) -> None:
    model = add_lora(Backbone.from_pretrained(tiny).model, family_of("nano"), r=4, alpha=8, dropout=dropout)
    layer = next(module for name, module in model.named_modules() if name.endswith("q_proj"))
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if "lora_" in name:
                weight.normal_()
    inputs = torch.ones(1, layer.in_features)
    torch.manual_seed(0)
    one, two = layer.train()(inputs), layer(inputs)
    assert torch.equal(one, two) == (dropout == 0)
    assert torch.equal(layer.eval()(inputs), layer(inputs))


def held(model: nn.Module) -> dict[str, set[torch.dtype]]:
    parameters = list(model.parameters())
    return {
        "trained": {p.dtype for p in parameters if p.requires_grad},
        "matrices": {p.dtype for p in parameters if not p.requires_grad and p.dim() > 1},
        "vectors": {p.dtype for p in parameters if not p.requires_grad and p.dim() < 2},
    }


@pytest.mark.parametrize(
    ("precision", "dtype"), [(None, torch.bfloat16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_frozen_matrices_under_adapters_are_held_in_the_precision_of_the_forward_pass(
    settle, tiny: Path, precision: str | None, dtype: torch.dtype
) -> None:
    config = settle(**LORA, **({"train.precision": precision} if precision else {}))
    model = _backbone(config, read_card(tiny)).model
    assert held(model) == {"trained": {torch.float32}, "matrices": {dtype}, "vectors": {torch.float32}}
    # what is trained in full starts from the base's own values
    base = load_file(tiny / "model.safetensors")
    for name, weight in model.named_parameters():
        if "modules_to_save" in name and name.startswith("base_model.model.connector."):
            original = base[name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")]
            assert torch.equal(weight, original), name


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_a_quantised_base_computes_and_is_held_in_half_precision(settle, tmp_path: Path) -> None:
    from tiny_models import make

    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 8, "num_key_value_heads": 8}
    base = make("qwen2_5_vl", tmp_path / "base", vision={"out_hidden_size": 64}, **text)
    config = settle(**LORA, **{"model.path": base, "model.quantize": "4bit"})
    model = _backbone(config, read_card(base)).model
    assert held(model)["trained"] == {torch.float32}
    assert held(model)["matrices"] == {torch.bfloat16, torch.uint8}
    quantised = [
        module for module in model.modules() if isinstance(module, nn.Linear) and hasattr(module, "compute_dtype")
    ]
    assert quantised and {module.compute_dtype for module in quantised} == {torch.bfloat16}


def test_full_tuning_keeps_float32(settle, tiny: Path) -> None:
    model = _backbone(settle(**{"model.freeze": ["vision"]}), read_card(tiny)).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_half_precision_frozen_weights_train_as_full_ones_do(settle, tmp_path: Path) -> None:
    """Losses of a run with frozen weights in bfloat16 and in float32 agree within bfloat16's precision."""
    from q_align.train.run import run as train

    losses = []
    for precision in ("fp32", "bf16"):
        result = train(settle(**LORA, **{"train.precision": precision, "train.output_dir": tmp_path / precision}))
        losses.append([line["loss"] for line in result.history if "loss" in line])
    assert len(losses[0]) == 12
    assert all(math.isclose(one, other, rel_tol=0.02) for one, other in zip(*losses))
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("text", "quantized", "dtype"),
    [
        ('{"dtype": "bfloat16"}', False, "bfloat16"),
        ('{"torch_dtype": "bfloat16"}', False, "bfloat16"),
        ('{"torch_dtype": "float16"}', False, "float32"),
        ("{}", False, "float32"),
        ("{}", True, "bfloat16"),
    ],
)
def test_a_base_is_loaded_in_half_precision_where_that_loses_nothing(
    tmp_path: Path, text: str, quantized: bool, dtype: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    assert base_dtype(tmp_path, "bfloat16", quantized=quantized) == dtype


def test_files_of_a_run_follow_the_umask(settle) -> None:
    before = os.umask(0o027)
    try:
        output = run(settle(**{"train.max_steps": 1}))
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in output.rglob("*") if path.is_file()}
    assert output / "model.safetensors" in modes
    assert set(modes.values()) == {0o640}, modes


def test_a_chat_model_trains_adapters_over_half_precision(settle, tmp_path: Path) -> None:
    """Its parts trained in full meet the language model's half precision at the connector."""
    from tiny_models import make

    base = make("qwen2_5_vl", tmp_path / "base")
    output = run(settle(**LORA, **{"model.path": base, "train.max_steps": 2, "train.eval_every": 9}))
    saved = load_file(output / "adapter_model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert any(value.abs().max() > 0 for name, value in saved.items() if ".lora_B." in name)
    config = resolve_config([output / "config.yaml"])
    family = family_of("qwen2_5_vl")
    assert any(part_of(family, name.removeprefix("base_model.model.")) == "connector" for name in saved)
    assert config.train.precision is None


@pytest.mark.parametrize("epoch", [0.0, 2.0])
def test_the_sampler_is_set_to_the_epoch_that_begins(epoch: float) -> None:
    """Under several processes and after a resume nobody else does it."""
    sampler = MixtureSampler([5], [5], seed=0)
    SetEpoch(sampler).on_epoch_begin(None, TrainerState(epoch=epoch), None)
    assert sorted(sampler) == [5 * int(epoch) + row for row in range(5)]
