"""Rows of a data set as training and validation see them: each visit asks and shows something else, reproducibly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from q_align.data.label_files import read_labels
from q_align.data.rated_dataset import Augmentation, RatedDataset, RatedItem
from q_align.models.card import ModelCard
from q_align.tasks import TASKS
from q_align.types import MediaSpec

ROWS, VISITS = 3, 12


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(ROWS):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "labels.csv").write_text("image,mos\n" + "".join(f"{i}.png,{i + 1}\n" for i in range(ROWS)))
    return tmp_path / "labels.csv"


def dataset(labels: Path, augmentation: Augmentation | None) -> RatedDataset:
    return RatedDataset([read_labels(labels, mos_range=(1, 5))], ModelCard("nano"), MediaSpec(), augmentation)


def seen(item: RatedItem) -> tuple[str, bytes]:
    (frame,) = item.turn.frames
    return item.turn.question, frame.size[0].to_bytes(2, "big") + frame.tobytes()


def test_each_visit_shows_another_crop_and_asks_another_question(labels: Path) -> None:
    data = dataset(labels, Augmentation(crop=32, seed=1))
    for index in range(ROWS):
        visits = [data[visit * len(data) + index] for visit in range(VISITS)]
        questions, crops = (set(one) for one in zip(*map(seen, visits)))
        assert len(crops) > VISITS // 2 and len(questions) > 3
        assert questions <= set(TASKS["iqa"].questions)
        assert {item.index for item in visits} == {index}
        assert {item.sample.mos for item in visits} == {index + 1}


def test_a_visit_is_the_same_in_every_run_and_another_under_another_seed(labels: Path) -> None:
    draws = range(ROWS * VISITS)
    one, same, other = ([seen(dataset(labels, Augmentation(crop=32, seed=s))[d]) for d in draws] for s in (1, 1, 2))
    assert one == same
    assert sum(a != b for a, b in zip(one, other)) > len(one) * 0.9


def test_validation_shows_the_whole_image_and_asks_the_scoring_question(labels: Path) -> None:
    data = dataset(labels, None)
    for index in range(ROWS):
        item = data[index]
        assert item.turn.frames[0].size == (80, 64) and item.turn.question == TASKS["iqa"].questions[0]
        assert seen(data[5 * len(data) + index]) == seen(item)
