"""Questions of labels files: training, validation and evaluation ask the same one; a common one goes into the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trained import run

from q_align import Scorer
from q_align.data.label_files import read_labels
from q_align.data.rated_dataset import Augmentation, RatedDataset
from q_align.evaluation.score_sets import requests_of
from q_align.levels import LevelScheme
from q_align.metrics import srcc
from q_align.models.backbone import read_card
from q_align.models.card import ModelCard
from q_align.models.prompting import build_turn
from q_align.tasks import TASKS
from q_align.train.ingredients import mean_srcc
from q_align.types import Item, MediaSpec

POOL = TASKS["iqa"].questions
SCORING = POOL[0]
DOG, CAT = "Does it show a dog?", "Does it show a cat?"
CLIP = "Rate the quality of this video."  # published files say "video" where the pool says "clip"


def write(folder: Path, questions: list[str], *, task: str = "iqa") -> Path:
    folder.mkdir(exist_ok=True)
    rows = []
    for i, question in enumerate(questions):
        Image.new("RGB", (24, 24), (40 * i, 90, 90)).save(folder / f"{i}.png")
        rows.append(f'{i}.png,{i + 1},{task},"{question}",{"val" if i == 1 else "train"}')
    (folder / "labels.csv").write_text("\n".join(["image,mos,task,question,split", *rows]) + "\n")
    return folder / "labels.csv"


@pytest.mark.parametrize(
    ("task", "questions", "expected"),
    [
        ("iqa", [DOG, CAT, DOG], [DOG, CAT, DOG]),
        ("iqa", [DOG, "", CAT], [DOG, SCORING, CAT]),
        ("iqa", [POOL[3], POOL[5], POOL[3]], [SCORING] * 3),
        ("iqa", ["", "", ""], [SCORING] * 3),
        ("vqa", [CLIP, TASKS["vqa"].questions[4], CLIP], [TASKS["vqa"].question] * 3),
    ],
)
def test_validation_and_evaluation_ask_the_same(
    tmp_path: Path, task: str, questions: list[str], expected: list[str]
) -> None:
    labels, card = read_labels(write(tmp_path / "set", questions, task=task)), ModelCard("nano")
    dataset = RatedDataset([labels], card, MediaSpec(pool="mean"))
    assert [dataset[i].turn.question for i in range(3)] == expected
    asked = [build_turn(card, r.task, [], question=r.question).question for r in requests_of(labels)]
    assert asked == expected


def test_training_asks_each_row_its_own_question(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "set", [DOG, CAT, DOG]))
    for paraphrase in (True, False):
        dataset = RatedDataset([labels], ModelCard("nano"), MediaSpec(), Augmentation(paraphrase=paraphrase))
        for epoch in range(3):
            assert [dataset[3 * epoch + i].turn.question for i in range(3)] == [DOG, CAT, DOG]


def test_a_question_of_the_base_is_not_paraphrased(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "set", ["", "", ""]))
    own = RatedDataset([labels], ModelCard("nano", questions={"iqa": DOG}), MediaSpec(), Augmentation())
    assert {own[draw].turn.question for draw in range(30)} == {DOG}
    pool = RatedDataset([labels], ModelCard("nano", questions={"iqa": SCORING}), MediaSpec(), Augmentation())
    assert len({pool[draw].turn.question for draw in range(30)}) > 1


def test_averaging_evaluates_with_the_questions_of_the_rows(tmp_path: Path, tiny: Path) -> None:
    labels = read_labels(write(tmp_path / "set", [DOG, CAT, POOL[1], "", DOG, CAT])).on(LevelScheme())
    scorer = Scorer.from_pretrained(tiny)
    rows = [Item(str(i), labels[i].media, "iqa", labels[i].question) for i in range(len(labels))]
    scores = [score.value for score in scorer.stream(rows)]
    assert scores != [score.value for score in scorer.stream([row._replace(question=None) for row in rows])]
    expected = srcc(labels.column("mos"), np.array(scores))
    assert mean_srcc(tiny, [labels]) == pytest.approx(float(expected))


def test_one_question_of_a_task_goes_into_the_card(settle, tmp_path: Path) -> None:
    one, none = write(tmp_path / "one", [DOG] * 4), write(tmp_path / "none", [""] * 4)
    for name, sets, expected in (
        ("a", [one], {"iqa": DOG}),
        ("b", [one, none], {"iqa": DOG}),
        ("c", [none], {}),
    ):
        rows = [{"labels": str(path), "mos_range": [1, 5]} for path in sets]
        changes = {"data.train": "null", "data.mos_range": "null", "data.sets": rows, "train.max_steps": 1}
        output = run(settle(**changes, **{"train.output_dir": tmp_path / "runs" / name}))
        assert read_card(output).questions == expected
