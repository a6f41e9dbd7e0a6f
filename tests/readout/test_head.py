"""The regression head: one value from the last hidden state, on real small models of three families."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make

from q_align.errors import CheckpointError
from q_align.models.backbone import Backbone, read_card
from q_align.models.nano import build
from q_align.models.prompting import build_turn
from q_align.readout import ReadoutSpec
from q_align.readout.head import FILE
from q_align.score.scorer import Scorer
from q_align.types import Turn


@pytest.fixture(scope="module", params=["nano", "qwen2_5_vl", "gemma3"])
def rater(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    if request.param == "nano":
        nano = build(seed=0)
        card = dataclasses.replace(nano.card, readout=ReadoutSpec("head"))
        return Backbone.join(nano.model, nano.encoder, card)
    folder = make(request.param, tmp_path_factory.mktemp(request.param))
    card = dataclasses.replace(read_card(folder), readout=ReadoutSpec("head"), tasks=("iqa",))
    return Backbone.from_pretrained(folder, card=card)


def turns(backbone: Backbone) -> list[Turn]:
    rng = np.random.default_rng(1)
    sizes = [(40, 60), (64, 64), (96, 48)]
    images = [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]
    return [build_turn(backbone.card, "iqa", [image]) for image in images]


def values(backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        value = backbone.readout.read(backbone.model, backbone.readout.encode(turns(backbone))).value
    assert value is not None
    return value


def test_the_value_is_a_linear_map_of_the_last_hidden_state(rater: Backbone) -> None:
    seen: list[torch.Tensor] = []
    output = rater.model.get_output_embeddings()
    hook = output.register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    value = values(rater)
    hook.remove()
    head = rater.model.get_submodule("rating_head")
    assert head(seen[0]).shape == (*seen[0].shape[:-1], 1)
    expected = 3 + 2 * (seen[0][:, -1].double() @ head.weight.double()[0] + head.bias.double())
    torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=0)


def test_padding_changes_no_value(rater: Backbone) -> None:
    alone = []
    for turn in turns(rater):
        with torch.no_grad():
            alone.append(rater.readout.read(rater.model, rater.readout.encode([turn])).value)
    torch.testing.assert_close(values(rater), torch.cat(alone), atol=1e-5, rtol=0)


def test_saved_loaded_and_copied_it_is_the_same(rater: Backbone, tmp_path: Path) -> None:
    rater.save(tmp_path)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {(tmp_path / FILE).stat().st_mode & 0o777} and modes != {0o600}
    again = Backbone.from_pretrained(tmp_path)
    assert again.card == rater.card and again.readout.kind == "head"
    assert torch.equal(values(again), values(rater))
    copied = dataclasses.replace(rater, model=copy.deepcopy(rater.model))
    with torch.no_grad():
        copied.model.get_submodule("rating_head").bias += 1  # half a range
    torch.testing.assert_close(values(copied), values(rater) + 2)
    pickle.loads(pickle.dumps(rater.readout))
    if rater.card.family == "nano":
        bare = Backbone.from_pretrained(tmp_path, only_score=True)
        torch.testing.assert_close(values(bare), values(rater), atol=1e-5, rtol=0)
    (tmp_path / FILE).unlink()
    with pytest.raises(CheckpointError, match=FILE):
        Backbone.from_pretrained(tmp_path)


def test_every_trainable_weight_gets_a_gradient_and_training_fits(rater: Backbone) -> None:
    mine = dataclasses.replace(rater, model=copy.deepcopy(rater.model).train())
    wanted = torch.tensor([1.5, 4.5, 3.0])
    optimizer = torch.optim.AdamW([p for p in mine.model.parameters() if p.requires_grad], lr=3e-4)
    batch = mine.readout.encode(turns(mine), wanted.numpy())
    losses = []
    for _ in range(40):
        value = mine.readout.read(mine.model, batch).value
        loss = (value - wanted).square().mean()
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            still = [n for n, p in mine.model.named_parameters() if p.requires_grad and p.grad is None]
            assert still == [], "data-parallel training would wait for them"
        optimizer.step()
        optimizer.zero_grad()
    assert min(losses) < losses[0] / 4


def test_scores_name_the_level_of_the_value(rater: Backbone) -> None:
    scorer = Scorer(dataclasses.replace(rater, model=copy.deepcopy(rater.model)), device="cpu", workers=0)
    frames = [turn.frames[0] for turn in turns(rater)]
    found = list(scorer.stream(frames, "iqa"))
    np.testing.assert_allclose([score.value for score in found], values(rater), atol=1e-4)
    for score in found:
        assert score.level == rater.card.levels.words[int(rater.card.levels.hard(score.value))]
        assert score.probs is None and score.std is None and score.mass is None and score.error is None


def test_an_adapter_keeps_its_own_head(rater: Backbone, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = Backbone.from_pretrained(_levels_copy(rater, tmp_path / "base"))
    card = dataclasses.replace(base.card, readout=ReadoutSpec("head"), base=str(tmp_path / "base"))
    tuned = Backbone.from_pretrained(tmp_path / "base", card=card)
    names = [name for name, module in tuned.model.named_modules() if name.endswith("q_proj")]
    settings = peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False)
    tuned.model = peft.get_peft_model(tuned.model, settings)
    tuned.model.eval()
    expected = values(tuned)
    tuned.save(tmp_path / "adapter")
    assert (tmp_path / "adapter" / FILE).is_file()
    for merge in (True, False):
        again = Backbone.from_pretrained(tmp_path / "adapter", merge=merge)
        torch.testing.assert_close(values(again), expected, atol=1e-4, rtol=0)


def _levels_copy(rater: Backbone, folder: Path) -> Path:
    """The rater's model as a checkpoint whose card reads levels."""
    rater.save(folder)
    (folder / FILE).unlink()
    dataclasses.replace(rater.card, readout=ReadoutSpec("levels")).save(folder)
    return folder
