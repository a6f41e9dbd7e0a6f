"""Level words: one set of tokens behind every stem, no cache of keys and values, expectation over the levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import make

from q_align.errors import ConfigError, LevelTokenError
from q_align.levels import LevelScheme
from q_align.models.backbone import Backbone
from q_align.models.nano import build
from q_align.models.prompting import build_turn
from q_align.readout import LevelWords, ReadoutSpec, make_readout
from q_align.readout.base import score_levels


class Stems:
    """Another first token for "bad" behind the stem of videos, as a tokenizer that merges words may give."""

    def __init__(self, odd: int) -> None:
        self.odd = odd

    def level_tokens(self, words, stem):
        last = len(words) - 1
        return (*range(last), self.odd if "video" in stem else last), 2


def test_words_with_other_tokens_behind_another_stem_are_refused() -> None:
    stems = ("The quality of the image is", "The quality of the video is")
    assert LevelWords(LevelScheme(), Stems(4), stems).level_ids == (0, 1, 2, 3, 4)
    with pytest.raises(LevelTokenError, match=r"other tokens after 'The quality of the video is'"):
        LevelWords(LevelScheme(), Stems(9), stems)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown readout 'leveles'.*levels"):
        make_readout(ReadoutSpec("leveles"), Stems(4), ("It is",))


def test_scoring_and_training_keep_no_cache(tmp_path: Path) -> None:
    qwen = Backbone.from_pretrained(make("qwen2_5_vl", tmp_path))
    seen = []
    qwen.model.register_forward_hook(lambda model, args, output: seen.append(output.past_key_values))
    turn = build_turn(qwen.card, "iqa", [Image.new("RGB", (40, 60))])
    with torch.no_grad():
        qwen.readout.read(qwen.model, qwen.readout.encode([turn]))
        qwen.readout.read(qwen.model, qwen.readout.encode([turn], np.array([3.0])))
    assert seen == [None, None]


def test_the_value_is_the_expectation_in_training_and_in_scoring() -> None:
    nano = build(seed=0)
    turns = [build_turn(nano.card, "iqa", [Image.new("RGB", (40, 60), color)]) for color in ("red", "gray")]
    with torch.no_grad():
        scored = nano.readout.read(nano.model, nano.readout.encode(turns))
        trained = nano.readout.read(nano.model, nano.readout.encode(turns, np.array([1.0, 4.4])))
    torch.testing.assert_close(scored.value, scored.probs @ torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0]))
    torch.testing.assert_close(trained.value, scored.value, atol=1e-5, rtol=0)
    np.testing.assert_allclose(nano.readout.values(nano.readout.rows(scored).numpy()), scored.value, atol=1e-5)
    assert scored.nll is None and trained.nll is not None


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_model_without_finite_numbers_gives_an_error_and_no_score(value: float) -> None:
    logp = torch.tensor([0.0, value, 0.0, 0.0, 0.0])
    score = score_levels("a", logp, LevelScheme())
    assert score.id == "a" and score.value is None and "no finite number" in str(score.error)


def test_tasks_that_share_an_image_have_the_values_of_each_alone(tmp_path: Path) -> None:
    qwen = Backbone.from_pretrained(make("qwen2_5_vl", tmp_path))
    frames = [Image.new("RGB", (40, 60), "red")]
    turns = [build_turn(qwen.card, task, frames) for task in ("iqa", "iaa")]
    with torch.no_grad():
        shared = qwen.readout.read(
            qwen.model, qwen.readout.share(turns[:1], [(turn.question, turn.stem) for turn in turns])
        )
        alone = qwen.readout.read(qwen.model, qwen.readout.encode(turns))
    assert shared.value.shape == (1, 2)
    assert torch.allclose(shared.value[0], alone.value, atol=1e-4)
