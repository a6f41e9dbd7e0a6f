"""The readout that reads numbers: the expectation over all answers' likelihoods, one by one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from q_align.models.backbone import Backbone
from q_align.models.nano import build
from q_align.models.prompting import build_turn
from q_align.readout import ReadoutSpec
from q_align.score.scorer import Scorer


@pytest.fixture(scope="module")
def speaker() -> Backbone:
    nano = build(seed=0)
    card = dataclasses.replace(nano.card, readout=ReadoutSpec("numbers"))
    return Backbone.join(nano.model, nano.encoder, card)


def images(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)) for _ in range(count)]


def test_the_score_is_the_expected_number(speaker: Backbone) -> None:
    frames = images(2)
    found = list(Scorer(speaker, device="cpu", batch_size=2, workers=0).stream(frames, task="iqa"))
    texts = speaker.card.levels.number_texts()
    assert len(texts) == 41 and texts[0] == "1.0" and texts[-1] == "5.0"
    likelihood = []
    for text in texts:
        turn = dataclasses.replace(build_turn(speaker.card, "iqa", [frames[1]]), answer=text)
        with torch.inference_mode():
            answer = speaker.readout.read(speaker.model, speaker.encoder([turn]))
        likelihood.append(math.exp(-float(answer.nll)))
    expected = np.dot(likelihood, [float(text) for text in texts]) / sum(likelihood)
    assert found[1].value == pytest.approx(expected, abs=1e-4)
    assert found[0].value != found[1].value


def test_validation_reads_what_scoring_reads_and_the_loss_of_the_answer(speaker: Backbone) -> None:
    turns = [build_turn(speaker.card, "iqa", [image]) for image in images(3)]
    mos = np.array([1.04, 3.2, 4.96])
    with torch.inference_mode():
        trained = speaker.readout.read(speaker.model, speaker.readout.encode(turns, mos))
        validated = speaker.readout.read(speaker.model, speaker.readout.encode(turns, mos, validating=True))
        scored = speaker.readout.read(speaker.model, speaker.readout.encode(turns))
    torch.testing.assert_close(validated.nll, trained.nll, atol=1e-4, rtol=0)
    assert validated.tokens.tolist() == trained.tokens.tolist()
    torch.testing.assert_close(validated.value, scored.value)
    assert trained.level_logp is None, "its level words mean nothing"


def test_a_certain_model_stays_finite(speaker: Backbone) -> None:
    class Sure:
        """nll 0 for the last number, 1e4 for all others."""

        def __init__(self) -> None:
            self.seen = 0

        def likelihood(self, rows: int) -> torch.Tensor:
            nll = torch.full((rows,), 1e4)
            self.seen += rows
            if self.seen == 41:
                nll[-1] = 0.0
            return nll

    sure = Sure()
    readout = speaker.readout
    part = type(readout)._read_part
    try:
        type(readout)._read_part = lambda self, model, batch: (  # type: ignore[method-assign]
            sure.likelihood(len(batch["input_ids"])),
            torch.ones(len(batch["input_ids"])),
        )
        batch = readout.encode([build_turn(speaker.card, "iqa", images(1))])
        row = readout.rows(readout.read(speaker.model, batch))[0]
    finally:
        type(readout)._read_part = part  # type: ignore[method-assign]
    assert torch.isfinite(row).all()
    assert row.softmax(-1)[0] == pytest.approx(1)
