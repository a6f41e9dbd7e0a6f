"""The scorer over chat models: several tasks share a medium, and nothing depends on how work is cut up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make
from transformers.utils import logging as transformers_logging

from q_align import Scorer
from q_align.errors import ConfigError
from q_align.media import open_frames
from q_align.models.backbone import Backbone
from q_align.types import Item, MediaSpec, Score

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


@pytest.fixture(scope="module", params=["qwen3_5", "gemma3", "paligemma"])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.from_pretrained(make(request.param, tmp_path_factory.mktemp(request.param)))


def items(count: int = 9) -> list[Item]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 120, (count, 2))
    pictures = [Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    return [Item(str(number), picture) for number, picture in enumerate(pictures)]


def same(a: list[Score], b: list[Score]) -> None:
    assert [(x.id, x.task, x.error) for x in a] == [(x.id, x.task, x.error) for x in b]
    for x, y in zip(a, b):
        assert x.probs == pytest.approx(y.probs, abs=1e-5)
        assert x.mass == pytest.approx(y.mass, abs=1e-5)


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 2), (16, 3)])
def test_two_tasks_in_one_pass_equal_two_passes(backbone: Backbone, batch_size: int, workers: int) -> None:
    scorer = Scorer(backbone, device="cpu", batch_size=batch_size, workers=workers)
    together = list(scorer.stream(items(), task=["iqa", "iaa"]))
    alone = [scorer.score(item.media, task) for item in items() for task in ("iqa", "iaa")]
    for score, item in zip(alone, [item for item in items() for _ in range(2)]):
        score.id = item.id
    same(together, alone)


def test_items_with_a_task_of_their_own_among_others(backbone: Backbone) -> None:
    scorer = Scorer(backbone, device="cpu", batch_size=4, workers=2)
    mixed = [item._replace(task="iaa") if number % 3 == 0 else item for number, item in enumerate(items())]
    found = list(scorer.stream(mixed, task=["iqa", "iaa"]))
    assert [(s.id, s.task) for s in found] == [
        (item.id, task) for item in mixed for task in ([item.task] if item.task else ["iqa", "iaa"])
    ]
    same(
        found,
        [s for s in scorer.stream(items(), task=["iqa", "iaa"]) if (s.id, s.task) in {(f.id, f.task) for f in found}],
    )


def test_frames_are_encoded_once(backbone: Backbone) -> None:
    """What sharing is for: one pass of the vision encoder per medium, whatever the number of tasks."""
    seen = []
    tower = next(m for n, m in backbone.model.named_modules() if n.endswith(("visual", "vision_tower")))
    hook = tower.register_forward_hook(lambda *_: seen.append(1))
    scorer = Scorer(backbone, device="cpu", batch_size=1, workers=0)
    assert len(list(scorer.stream(items(3), task=["iqa", "iaa", "vqa"]))) == 9
    hook.remove()
    assert len(seen) == (3 if backbone.encoder.shares else 9)


def test_a_smaller_budget_can_be_asked_for(backbone: Backbone) -> None:
    picture = items()[0].media.resize((200, 100))
    scorer = Scorer(backbone, device="cpu", workers=0, spec=MediaSpec(max_pixels=40 * 40))
    opened, _ = open_frames(picture, scorer.spec, video=False)
    assert opened[0].width * opened[0].height <= 40 * 40
    shrunk = Scorer(backbone, device="cpu", workers=0).score(opened[0])
    assert scorer.score(picture).probs == pytest.approx(shrunk.probs, abs=1e-6)


def test_saved_and_scored_by_path(backbone: Backbone, tmp_path: Path) -> None:
    backbone.save(tmp_path)
    image = tmp_path / "a.png"
    items()[0].media.save(image)
    scorer = Scorer.from_pretrained(tmp_path, device="cpu", workers=0)
    half = Scorer.from_pretrained(tmp_path, device="cpu", workers=0, dtype="bfloat16")
    assert half.score(image).value == pytest.approx(scorer.score(image).value, abs=0.2)
    assert scorer.score(image).value == pytest.approx(Scorer(backbone, device="cpu", workers=0).score(image).value)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("budget", [1, 150, 700, 0])
def test_same_scores_at_any_budget_of_tokens(backbone: Backbone, budget: int) -> None:
    alone = list(Scorer(backbone, device="cpu", batch_size=1, workers=0).stream(items(20), "iqa"))
    masks = []
    hook = backbone.model.register_forward_pre_hook(
        lambda model, args, inputs: masks.append(inputs["attention_mask"]), with_kwargs=True
    )
    scorer = Scorer(backbone, device="cpu", batch_size=8, batch_tokens=budget, workers=2)
    same(alone, list(scorer.stream(items(20), "iqa")))
    hook.remove()
    assert sum(len(mask) for mask in masks) == 20
    # a length is an estimate of the text, exact in its visual tokens (`ChatEncoder.length`)
    assert not budget or all(len(mask) == 1 or mask.numel() <= budget + 60 * len(mask) for mask in masks)
    assert budget != 1 or len(masks) == 20


def test_a_budget_of_tokens_needs_an_encoder_that_counts(nano: Backbone) -> None:
    with pytest.raises(ConfigError, match="use batch_size"):
        Scorer(nano, device="cpu", batch_tokens=100)
    with pytest.raises(ConfigError, match="batch_tokens"):
        Scorer(nano, device="cpu", batch_tokens=-1)
