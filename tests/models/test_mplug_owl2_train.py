"""mPLUG-Owl2 through the training loop: the published recipes resolve; a run by adapters loads again by path alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from owl2_tiny import picture, tiny

from q_align.config.resolve import resolve_config
from q_align.data.dataset_card import card_names
from q_align.models.backbone import Backbone
from q_align.score.scorer import Scorer
from q_align.train.run import run

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs" / "mplug_owl2").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves(recipe):
    common = recipe.with_name("lora.yaml" if recipe.stem.startswith("lora") else "full.yaml")
    config = resolve_config([common, recipe], ["--train.output_dir", "out"])
    assert config.train.precision == "bf16"
    assert config.model.lora.enabled == recipe.stem.startswith("lora")
    if recipe.stem in ("full", "lora"):
        return
    for entry in config.sets():
        name, file = entry.labels.split("=")
        assert name in card_names()
        assert file.endswith(".json")


def test_every_recipe_has_its_script():
    names = {path.stem for path in RECIPES} - {"full", "lora"}
    scripts = {path.stem.removeprefix("train_") for path in (ROOT / "scripts").glob("train_*.sh")}
    assert {name for name in names if not name.startswith("lora_")} <= scripts
    done = subprocess.run(
        ["bash", ROOT / "scripts" / "train_koniq.sh"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "RECIPE DATA OUT" in done.stderr


@pytest.fixture
def labels(tmp_path) -> Path:
    rows = ["image,mos,content"]
    for seed in range(8):
        picture(seed).save(tmp_path / f"{seed}.png")
        rows.append(f"{seed}.png,{1 + seed / 2},{seed}")
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_run_trains_its_parts_and_loads_again(labels, tmp_path, lora):
    base, out = tmp_path / "base", tmp_path / "run"
    before = tiny()
    before.save(base)
    options = {
        "model.path": base, "data.train": labels, "train.output_dir": out, "train.epochs": 1, "train.batch_size": 2,
        "train.lr": 1e-2, "train.workers": 0, "data.val_share": 0.25, "train.report_to": "[]",
        "train.schedule": "constant",
    }  # fmt: skip
    if lora:
        options |= {
            "model.lora.enabled": "true",
            "model.lora.also_train": "[connector]",
            "train.lr_parts.connector": 1e-3,
        }
    else:
        options |= {"model.freeze": "[vision]", "train.checkpointing": "true"}
    run(resolve_config([], [word for name, value in options.items() for word in (f"--{name}", str(value))]))
    assert (out / "adapter_config.json").is_file() == lora
    after = Backbone.from_pretrained(out)
    assert after.card.base == str(base)
    moved = {
        name
        for name, value in after.model.state_dict().items()
        if not torch.equal(value, before.model.state_dict()[name])
    }
    assert not any(name.startswith("model.vision_model.") for name in moved)
    assert any(name.startswith("model.visual_abstractor.") for name in moved)
    language = {name for name in moved if name.startswith("model.layers.")}
    if lora:
        ends = {name.split("self_attn.")[1] for name in language}
        assert ends == {"q_proj.weight", "v_proj.multiway.1.weight"}
    else:
        assert "lm_head.weight" in moved
    score = Scorer.from_pretrained(out, device="cpu").score(picture(3))
    assert 1 <= score.value <= 5
