"""The original package's names: lists of pictures in, a tensor of 0..1 (or 1..5) out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import q_align
from q_align.errors import ConfigError, MediaError
from q_align.models.backbone import Backbone
from q_align.score.compat import QAlignAestheticScorer, QAlignScorer, QAlignVideoScorer
from q_align.score.scorer import Scorer


@pytest.fixture(scope="module")
def scorer(nano: Backbone) -> Scorer:
    return Scorer(nano, device="cpu", workers=2)


def pictures(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 40 + i, 3), dtype=np.uint8)) for i in range(count)]


def test_one_number_per_picture_from_0_to_1(scorer: Scorer) -> None:
    images = pictures(3)
    for kind, task in ((QAlignScorer, "iqa"), (QAlignAestheticScorer, "iaa")):
        got = kind(scorer=scorer)(images)
        assert isinstance(got, torch.Tensor) and got.shape == (3,) and got.dtype == torch.float32
        wanted = [(scorer.score(image, task).value - 1) / 4 for image in images]  # type: ignore[operator]
        assert got.tolist() == pytest.approx(wanted, abs=1e-5)
        assert ((got >= 0) & (got <= 1)).all()
        # 1, .75, .5, .25, 0 as weights of the five levels
        weights = torch.tensor([1, 0.75, 0.5, 0.25, 0])
        by_hand = [float(torch.tensor(scorer.score(image, task).probs) @ weights) for image in images]
        assert got.tolist() == pytest.approx(by_hand, abs=1e-5)


def test_videos_of_different_length_in_one_call(scorer: Scorer) -> None:
    videos = [pictures(1), pictures(4), pictures(2)]
    rate = QAlignVideoScorer(scorer=scorer)
    assert rate(videos).tolist() == pytest.approx([float(rate([v])[0]) for v in videos], abs=1e-5)


def test_score_of_the_published_models(scorer: Scorer) -> None:
    images = pictures(2)
    made = QAlignScorer(scorer=scorer)
    assert ((made.score(images) - 1) / 4).tolist() == pytest.approx(made(images).tolist(), abs=1e-6)
    assert made.score(images, task_="aesthetics").tolist() != made.score(images).tolist()
    assert made.score([images], input_="video").shape == (1,)
    for words in ({"task_": "beauty"}, {"input_": "sound"}, {"task_": "aesthetics", "input_": "video"}):
        with pytest.raises(ConfigError):
            made.score(images, **words)


def test_a_broken_picture_is_an_error_not_a_number(scorer: Scorer) -> None:
    with pytest.raises(MediaError):
        QAlignScorer(scorer=scorer)([*pictures(1), b"broken"])  # type: ignore[list-item]


def test_names_are_public() -> None:
    for name in ("Scorer", "Score", "LevelScheme", "load_video", "QAlignScorer", "QAlignVideoScorer"):
        assert getattr(q_align, name)
    assert QAlignScorer(pretrained="nano", device="cpu")(pictures(1)).shape == (1,)
