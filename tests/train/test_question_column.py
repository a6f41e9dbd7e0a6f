"""The question of a labels file is asked in training, in validation and in scoring alike."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from trained import run

from q_align import Scorer, evaluate
from q_align.data.label_files import read_labels
from q_align.data.rated_dataset import Augmentation, RatedDataset
from q_align.models.backbone import Backbone, read_card
from q_align.types import Item

ONE = "How sharp is this image?"


def with_questions(rated: Path, target: Path, question) -> Path:
    rows = list(csv.DictReader(rated.open(newline="")))
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "question"])
        writer.writeheader()
        for i, row in enumerate(rows):
            writer.writerow({**row, "image": str(rated.parent / row["image"]), "question": question(i)})
    return target


@pytest.mark.parametrize("questions", ["pool", "fixed"])
def test_the_one_question_of_a_file_travels_with_the_model(settle, rated: Path, tmp_path: Path, questions: str) -> None:
    labels = with_questions(rated, tmp_path / "asked.csv", lambda i: ONE)
    output = run(settle(**{"data.train": labels, "data.questions": questions, "train.max_steps": 2}))
    card = json.loads((output / "q_align.json").read_text())
    assert card["questions"] == {"iqa": ONE}
    image = rated.parent / "000.png"
    scorer = Scorer.from_pretrained(output, workers=0)
    assert scorer.score(image).value == scorer.score(image, question=ONE).value
    assert scorer.score(image).value != scorer.score(image, question="Rate the quality of this image.").value
    plain = evaluate(output, str(rated), split="val", mos_range=(1, 5))
    asked = evaluate(output, str(labels), split="val", mos_range=(1, 5))
    assert plain["plcc"] == asked["plcc"], "the model asks its question, whether the file repeats it or not"


def test_a_question_of_each_row_is_asked_in_validation_and_evaluation(settle, rated: Path, tmp_path: Path) -> None:
    labels = with_questions(rated, tmp_path / "items.csv", lambda i: f"Does it show {i} trees?")
    output = run(settle(**{"data.train": labels, "train.max_steps": 2}))
    assert json.loads((output / "q_align.json").read_text())["questions"] == {}
    backbone = Backbone.from_pretrained(output)
    rows = read_labels(labels, mos_range=(1, 5)).on(backbone.card.levels)
    for shown in (None, Augmentation(flip=False)):
        data = RatedDataset([rows], backbone.card, backbone.encoder.opens, shown)
        assert [data[i].turn.question for i in (0, 7)] == ["Does it show 0 trees?", "Does it show 7 trees?"]
    scorer = Scorer.from_pretrained(output, workers=0)
    paths, questions = rows.column("media").tolist()[:4], rows.column("question").tolist()[:4]
    items = [Item(path, path, "iqa", question) for path, question in zip(paths, questions)]
    own = [score.value for score in scorer.stream(items)]
    assert own != [score.value for score in scorer.stream(paths, "iqa")]
    found = evaluate(output, str(labels), split="all", mos_range=(1, 5))
    by_id = dict(zip(found.column("media"), found.column("value")))
    assert [by_id[path] for path in paths] == pytest.approx(own, abs=1e-5)


def test_paraphrases_of_a_file_are_for_training_only(rated: Path, tmp_path: Path, nano) -> None:
    pool = ("Rate the quality of this image.", "Can you rate the quality of this picture?")
    labels = with_questions(rated, tmp_path / "pool.csv", lambda i: pool[i % 2])
    rows = read_labels(labels, mos_range=(1, 5)).on(nano.card.levels)
    asked = {
        name: {RatedDataset([rows], nano.card, nano.encoder.opens, shown)[i].turn.question for i in range(6)}
        for name, shown in {"pool": Augmentation(), "fixed": Augmentation(paraphrase=False), "validation": None}.items()
    }
    assert asked["pool"] == set(pool)
    assert asked["fixed"] == asked["validation"] == {nano.card.question("iqa")}


def test_a_card_keeps_its_own_question(settle, tmp_path: Path) -> None:
    first = run(settle(**{"train.max_steps": 1, "train.output_dir": tmp_path / "first"}))
    card = read_card(first)
    card.questions["iqa"] = ONE
    card.save(first)
    second = run(settle(**{"model.path": first, "train.max_steps": 1, "train.output_dir": tmp_path / "second"}))
    assert read_card(second).questions == {"iqa": ONE}
