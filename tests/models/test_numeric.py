"""Models that say numbers: the expectation is the one of all answers' likelihoods, one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from q_align.levels import LevelScheme
from q_align.losses.base import Prediction
from q_align.models.numeric import ANSWERS, NUMBERS, read_numbers
from q_align.models.predict import predict
from q_align.tasks import TASKS
from q_align.types import Turn

SCHEME = LevelScheme()
NUMBER = np.array([float(n) for n in SCHEME.number_texts()])


def test_expected_level_is_the_expected_number() -> None:
    nll = torch.rand(3 * len(NUMBER)) * 20
    rows = read_numbers(Prediction(torch.zeros(1, 5), nll=nll), SCHEME)
    weights = np.exp(-nll.double().view(3, -1).numpy())
    expected = weights @ NUMBER / weights.sum(1)
    np.testing.assert_allclose(SCHEME.expect(rows.exp().numpy()), expected, atol=1e-5)
    np.testing.assert_allclose(rows.exp().sum(1), 1, atol=1e-6)


def test_certainty_stays_finite() -> None:
    nll = torch.full((len(NUMBER),), 1e4)
    nll[-1] = 0.0
    row = read_numbers(Prediction(torch.zeros(1, 5), nll=nll), SCHEME)[0]
    assert torch.isfinite(row).all()
    assert row.softmax(-1)[0] == pytest.approx(1)


def test_the_scorer_reads_numbers_where_the_card_says_so() -> None:
    from q_align.models.nano import build
    from q_align.score.scorer import Scorer

    nano = build(seed=0)
    nano.card.about[ANSWERS] = NUMBERS
    task = TASKS["iqa"]
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(2)]
    found = list(Scorer(nano, device="cpu", batch_size=2, workers=0).stream(pictures, task="iqa"))
    likelihood = []
    for number in SCHEME.number_texts():
        batch = nano.encoder([Turn([pictures[1]], task.question, task.stem, level=number)])
        with torch.inference_mode():
            answer = predict(nano.model, batch, nano.encoder.level_ids, nano.encoder.tail)
        likelihood.append(math.exp(-float(answer.nll)))
    expected = np.dot(likelihood, NUMBER) / sum(likelihood)
    assert found[1].value == pytest.approx(expected, abs=1e-4)
    assert found[0].value != found[1].value
