"""Adapters: what moves, exact resume, loading by path alone, and the merged export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from trained import run

from q_align.cli.main import main
from q_align.models.backbone import Backbone
from q_align.models.prompting import build_turn
from q_align.types import Turn

LORA = {
    "model.lora.enabled": True,
    "model.lora.r": 4,
    "model.lora.alpha": 8,
    "model.lora.dropout": 0.2,  # draws random numbers: resume has to go on with the same ones
    "model.lora.also_train": ["connector"],
}


def logp(backbone: Backbone) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    images, card = [Image.fromarray(picture) for picture in pixels], backbone.card
    turns = [Turn([image], card.question("iqa"), card.stem("iqa")) for image in images]
    with torch.inference_mode():
        return backbone.readout.read(backbone.model.eval(), backbone.encoder(turns)).level_logp


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_resume_exactly_and_load_by_path_alone(settle, tiny: Path, tmp_path: Path, dora: bool) -> None:
    changes = {**LORA, "model.lora.dora": dora}
    whole = run(settle(**changes, **{"train.output_dir": tmp_path / "whole"}))
    names = {p.name for p in whole.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    assert json.loads((whole / "q_align.json").read_text())["base"] == str(tiny.resolve())
    shutil.copytree(whole / "checkpoints" / "checkpoint-9", tmp_path / "run" / "checkpoints" / "checkpoint-9")
    resumed = run(settle(**changes, **{"train.resume": True}))
    ours, theirs = (
        load_file(f / "checkpoints" / "checkpoint-12" / "adapter_model.safetensors") for f in (resumed, whole)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    kept, loaded = load_file(tiny / "model.safetensors"), Backbone.from_pretrained(whole)
    after = loaded.model.state_dict()
    moved = {name for name in kept if not torch.equal(kept[name], after[name])}
    attention = {name for name in kept if ".q_proj." in name or ".v_proj." in name}
    # the place of a tile matters only where there are several
    connector = {n for n in kept if n.startswith("connector.") and n != "connector.place.weight"}
    assert moved == attention | connector


def test_parts_learn_at_their_own_rates(settle, tiny: Path) -> None:
    changes = {**LORA, "train.lr_parts": '{"connector": 1e-12}', "train.max_steps": 2, "train.eval_every": 9}
    output = run(settle(**changes))
    kept, after = load_file(tiny / "model.safetensors"), Backbone.from_pretrained(output).model.state_dict()
    movement = {name: (kept[name] - after[name]).abs().max().item() for name in kept}
    assert max(v for name, v in movement.items() if name.startswith("connector.")) < 1e-9
    assert max(v for name, v in movement.items() if ".q_proj." in name) > 1e-6


def test_the_export_is_whole_and_scores_the_same(settle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = run(settle(**LORA, **{"train.max_steps": 4, "train.eval_every": 9}))
    capsys.readouterr()
    assert main(["export", str(output), "--output", str(tmp_path / "merged")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "merged")]
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.startswith("adapter") for name in names)
    apart = Backbone.from_pretrained(output, merge=False)
    merged = Backbone.from_pretrained(tmp_path / "merged")
    assert (logp(apart) - logp(merged)).abs().max() < 1e-5
    assert merged.card.trained_on == apart.card.trained_on
    assert main(["export", str(output), "--output", str(tmp_path / "merged")]) == 1
    assert "not empty" in capsys.readouterr().err


def head_values(folder: Path) -> torch.Tensor:
    backbone = Backbone.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 40, 40, 3), dtype=np.uint8)
    turns = [build_turn(backbone.card, "iqa", [Image.fromarray(one)]) for one in pixels]
    with torch.inference_mode():
        value = backbone.readout.read(backbone.model, backbone.readout.encode(turns)).value
    assert value is not None
    return value


@pytest.mark.parametrize("adapters", [False, True])
def test_a_head_trains_resumes_exports_and_averages(settle, tmp_path: Path, adapters: bool) -> None:
    changes = {"readout.kind": "head", "loss.name": "mse", **(LORA if adapters else {})}
    whole = run(settle(**changes, **{"train.output_dir": tmp_path / "whole"}))
    head = load_file(whole / "rating_head.safetensors")
    assert {value.dtype for value in head.values()} == {torch.float32}
    first = load_file(whole / "checkpoints" / "checkpoint-3" / "rating_head.safetensors")
    last = load_file(whole / "checkpoints" / "checkpoint-12" / "rating_head.safetensors")
    assert all(not torch.equal(first[name], last[name]) for name in last), "the head itself is trained"
    shutil.copytree(whole / "checkpoints" / "checkpoint-6", tmp_path / "run" / "checkpoints" / "checkpoint-6")
    resumed = run(settle(**changes, **{"train.resume": True}))
    again = load_file(resumed / "checkpoints" / "checkpoint-12" / "rating_head.safetensors")
    assert all(torch.equal(again[name], last[name]) for name in last)
    assert main(["export", str(whole), "--output", str(tmp_path / "merged")]) == 0
    torch.testing.assert_close(head_values(tmp_path / "merged"), head_values(whole), atol=1e-4, rtol=0)
    other = run(settle(**changes, **{"train.output_dir": tmp_path / "other", "train.seed": 1}))
    assert main(["average", str(whole), str(other), "--output", str(tmp_path / "mean"), "--workers", "0"]) == 0
    mean = load_file(tmp_path / "mean" / "rating_head.safetensors")
    parts = [load_file(folder / "rating_head.safetensors") for folder in (whole, other)]
    torch.testing.assert_close(mean["weight"], (parts[0]["weight"] + parts[1]["weight"]) / 2)
    assert torch.isfinite(head_values(tmp_path / "mean")).all()
