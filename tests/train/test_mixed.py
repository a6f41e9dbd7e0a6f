"""Several sets in one run: tasks together, metrics per set, pairs of one source, exact resume in the middle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trained import run


@pytest.fixture(scope="module")
def sets(make_set, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three sets: 18 training images of quality, 9 of aesthetics drawn twice, 36 capped at 10."""
    folder = tmp_path_factory.mktemp("sets")
    return json.dumps(
        [
            {"labels": str(make_set(folder / "quality")), "mos_range": [1, 5]},
            {
                "labels": str(make_set(folder / "beauty", count=12, task="iaa", seed=1)),
                "mos_range": [1, 5],
                "weight": 2,
            },
            {"labels": str(make_set(folder / "more", count=48, seed=2)), "mos_range": [1, 5], "cap": 10},
        ]
    )


MIXED = {"data.train": "null", "data.mos_range": "null", "train.eval_every": 0.4, "train.workers": 2}


@pytest.mark.parametrize("loss", ["hard", "fidelity"])
def test_a_mixture_resumes_exactly_and_is_measured_per_set(settle, sets: str, tmp_path: Path, loss: str) -> None:
    changes = {**MIXED, "data.sets": sets, "loss.name": loss}
    whole = run(settle(**changes, **{"train.output_dir": tmp_path / "whole"}))
    history = json.loads((whole / "log_history.json").read_text())
    evaluated = [line for line in history if "eval_srcc" in line]
    assert max(line["step"] for line in history) == 32  # (18 + 18 + 10) / 3, rounded up, twice
    for line in evaluated:
        each = [line[f"eval_{name}_srcc"] for name in ("quality", "beauty", "more")]
        assert line["eval_srcc"] == pytest.approx(sum(each) / 3)
        assert line["eval_n"] == 6 + 3 + 12
    card = json.loads((whole / "q_align.json").read_text())
    assert [record["source"] for record in card["trained_on"]] == ["quality", "beauty", "more"]
    middle = sorted((whole / "checkpoints").glob("checkpoint-*"), key=lambda p: int(p.name[11:]))[3]
    assert int(middle.name[11:]) % 16 != 0
    shutil.copytree(middle, tmp_path / "run" / "checkpoints" / middle.name)
    resumed = run(settle(**changes, **{"train.resume": True}))
    ours, theirs = (load_file(f / "checkpoints" / "checkpoint-32" / "model.safetensors") for f in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_blend_logs_each_of_its_terms(settle) -> None:
    changes = {"loss.name": "blend", "loss.weights": '{"soft": 1.0, "plcc": 0.5}', "train.max_steps": 3}
    output = run(settle(**changes, **{"train.eval_every": 9}))
    lines = [line for line in json.loads((output / "log_history.json").read_text()) if "loss" in line]
    assert len(lines) == 3
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss_soft"] + line["loss_plcc"], abs=1e-5)


def test_images_of_like_size_share_batches(settle, rated: Path, tmp_path: Path) -> None:
    from PIL import Image

    from q_align.data.rated_dataset import Augmentation
    from q_align.models.backbone import Backbone, read_card
    from q_align.train.datasets import open_sets
    from q_align.train.inheritance import inherit
    from q_align.train.run import _datasets, training_sampler

    folder = shutil.copytree(rated.parent, tmp_path / "noise")
    for number in range(0, 24, 2):
        path = folder / f"{number:03d}.png"
        Image.open(path).resize((48, 48)).save(path)
    config = settle(**{"data.train": folder / "labels.csv", "data.bucket": True})
    config, card, *_ = inherit(config, read_card(config.model.path))
    backbone = Backbone.from_pretrained(config.model.path, card=card)
    sets = open_sets(config, card.levels)
    train_set, _ = _datasets(config, backbone, *sets)
    assert train_set.augmentation == Augmentation(seed=0)
    draws = training_sampler(config, sets[0])
    sides = [Image.open(train_set.sample(draw % len(train_set)).media).width for draw in draws]
    batches = [sides[i : i + 3] for i in range(0, len(sides), 3)]
    assert sum(len(set(batch)) > 1 for batch in batches) <= 1
