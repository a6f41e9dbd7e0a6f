"""Adapters: put on, trained, saved, loaded by path alone, merged; and the layouts of the published ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from owl2_tiny import logits, tiny, turn
from safetensors.torch import load_file, save_file

from q_align.errors import CheckpointError, ConfigError
from q_align.models.backbone import Backbone, read_card
from q_align.models.families import FAMILIES
from q_align.models.parts import PEFT_PREFIX, part_of
from q_align.models.peft import add_lora, load_adapter

pytest.importorskip("peft")
FAMILY = FAMILIES["mplug_owl2"]
TURNS = [turn(1), turn(2, 3, task="vqa")]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny().save(folder)
    return folder


def trained(base: Path, **lora: object) -> Backbone:
    """Adapters after three large steps, so that they do something."""
    owl = Backbone.from_pretrained(base)
    torch.manual_seed(1)
    owl.model = add_lora(owl.model, FAMILY, r=4, alpha=8, **lora)
    owl.card = dataclasses.replace(owl.card, base=str(base))
    optimizer = torch.optim.SGD([p for p in owl.model.parameters() if p.requires_grad], lr=0.5)
    batch = owl.encoder([turn(1, answer="good"), turn(4, answer="bad")])
    for _ in range(3):
        optimizer.zero_grad()
        owl.readout.read(owl.model, batch).nll.mean().backward()
        optimizer.step()
    owl.model.eval()
    return owl


def trainable(owl: Backbone) -> list[str]:
    return [name for name, parameter in owl.model.named_parameters() if parameter.requires_grad]


def test_the_authors_targets_are_the_default(base):
    names = trainable(trained(base))
    modules = {name.removeprefix(PEFT_PREFIX).split(".lora_")[0] for name in names}
    assert modules == {f"model.layers.{i}.self_attn.{m}" for i in (0, 1) for m in ("q_proj", "v_proj.multiway.1")}


def test_parts_trained_in_full_keep_their_names(base):
    owl = trained(base, also_train=["connector"])
    parts = {part_of(FAMILY, name) for name in trainable(owl)}
    assert parts == {"language", "connector"}  # so that each part can have its own learning rate
    full = [name for name in trainable(owl) if "lora_" not in name]
    assert len(full) == len(list(Backbone.from_pretrained(base).model.model.visual_abstractor.parameters()))


@pytest.mark.parametrize(
    "lora", [{}, {"also_train": ["connector", "vision"]}, {"dora": True}], ids=["lora", "full", "dora"]
)
def test_saved_loaded_and_merged_score_alike(base, tmp_path, lora):
    owl = trained(base, **lora)
    wanted = logits(owl, TURNS)
    assert (wanted - logits(Backbone.from_pretrained(base), TURNS)).abs().max() > 1e-3
    owl.save(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    kept = Backbone.from_pretrained(tmp_path / "adapter", merge=False)
    assert torch.allclose(logits(kept, TURNS), wanted, atol=1e-6)
    loaded = Backbone.from_pretrained(tmp_path / "adapter")  # by path alone: the checkpoint names its base
    assert torch.allclose(logits(loaded, TURNS), wanted, atol=1e-5)
    loaded.save(tmp_path / "merged")
    again = Backbone.from_pretrained(tmp_path / "merged")
    state = loaded.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.model.state_dict().items())
    # the same weights at other addresses: sums may round differently
    assert torch.allclose(logits(again, TURNS), logits(loaded, TURNS), atol=1e-6)


def as_published(owl: Backbone, folder: Path, *, wrapped: str) -> Path:
    """The layout of the authors' LoRA checkpoints: PEFT adapter, config, and `non_lora_trainables.bin`."""
    owl.save(folder)
    (folder / "q_align.json").unlink()
    inner = owl.model.get_base_model()
    inner.config.save_pretrained(folder)
    state = load_file(folder / "adapter_model.safetensors")
    full = {key: value for key, value in state.items() if "lora_" not in key}
    adapter = {key: value for key, value in state.items() if "lora_" in key}
    (folder / "adapter_model.safetensors").unlink()
    torch.save(adapter, folder / "adapter_model.bin")
    names = {key: wrapped + key.removeprefix(PEFT_PREFIX) for key in full}
    torch.save({names[key]: value for key, value in full.items()}, folder / "non_lora_trainables.bin")
    settings = json.loads((folder / "adapter_config.json").read_text())
    # the published configs name the targets by their ends only, and carry no copies of whole modules
    settings |= {"modules_to_save": None, "target_modules": ["q_proj", "multiway.1"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("wrapped", [PEFT_PREFIX, "base_model.", ""])
def test_the_authors_layout(base, tmp_path, wrapped):
    owl = trained(base, also_train=["connector"])
    wanted = logits(owl, TURNS)
    folder = as_published(owl, tmp_path / "lora", wrapped=wrapped)
    assert read_card(folder).family == "mplug_owl2"
    loaded = Backbone.from_pretrained(folder, base=base)
    assert torch.allclose(logits(loaded, TURNS), wanted, atol=1e-5)


def test_adapters_are_strict(base, tmp_path):
    owl = trained(base, also_train=["connector"])
    folder = as_published(owl, tmp_path / "lora", wrapped="")
    state = torch.load(folder / "adapter_model.bin", weights_only=True)
    gone = next(key for key in state if "lora_B" in key)
    for change, message in (
        ({k: v for k, v in state.items() if k != gone}, "1 missing"),
        ({**state, f"{PEFT_PREFIX}model.layers.9.self_attn.q_proj.lora_A.weight": state[gone]}, "left over"),
        ({**state, gone: torch.zeros(3, 3)}, "of another shape"),
    ):
        torch.save(change, folder / "adapter_model.bin")
        with pytest.raises(CheckpointError, match=message):
            load_adapter(Backbone.from_pretrained(base).model, folder)
    torch.save(state, folder / "adapter_model.bin")
    torch.save({"model.visual_abstractor.nothing": torch.zeros(2)}, folder / "non_lora_trainables.bin")
    with pytest.raises(CheckpointError, match=r"left over: model\.visual_abstractor\.nothing"):
        load_adapter(Backbone.from_pretrained(base).model, folder)


def test_a_base_that_is_gone_is_named(base, tmp_path):
    owl = trained(base)
    owl.card = dataclasses.replace(owl.card, base="runs/old/base")
    owl.save(tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(CheckpointError, match=r"base is not found \(looked for runs/old/base\).*base=\.\.\."):
        Backbone.from_pretrained(tmp_path / "adapter")
    assert Backbone.from_pretrained(tmp_path / "adapter", base=base).model is not None


def test_unknown_targets_and_parts_are_errors(base):
    model = Backbone.from_pretrained(base).model
    with pytest.raises(ConfigError, match=r"qproj.*did you mean 'q_proj'"):
        add_lora(model, FAMILY, r=4, alpha=8, targets=["qproj"])
    bare = dataclasses.replace(FAMILY, connector=("model.nothing.",))
    with pytest.raises(ConfigError, match="no modules in its part 'connector'"):
        add_lora(model, bare, r=4, alpha=8, also_train=["connector"])


def test_half_an_adapter_folder_is_an_error(base, tmp_path):
    owl = trained(base)
    owl.save(tmp_path / "a")
    state = load_file(tmp_path / "a" / "adapter_model.safetensors")
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no adapter_model"):
        Backbone.from_pretrained(tmp_path / "a")
    save_file(state, tmp_path / "a" / "adapter_model.safetensors")
    assert Backbone.from_pretrained(tmp_path / "a").model is not None
