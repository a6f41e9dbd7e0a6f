"""What the questions of a labels file are: the task's one question, paraphrases of it, or one for each item."""

from __future__ import annotations

from pathlib import Path

import pytest

from q_align.data.label_files import read_labels
from q_align.data.questions import Questions, question_kind
from q_align.tasks import TASKS

MINE = "Is this face sharp?"
POOL = TASKS["iqa"].questions


def kind(path: Path, rows: list[tuple[str, str, str]]) -> Questions:
    lines = [f'{name}.png,{i + 1},{task},"{question}"' for i, (name, task, question) in enumerate(rows)]
    path.write_text("\n".join(["image,mos,task,question", *lines]) + "\n")
    return question_kind(read_labels(path))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", "iqa", MINE), ("b", "iqa", MINE)], Questions("card", {"iqa": MINE})),
        (
            [("a", "iqa", MINE), ("b", "iaa", "Is it nice?"), ("c", "iqa", MINE)],
            Questions("card", {"iqa": MINE, "iaa": "Is it nice?"}),
        ),
        ([("a", "iqa", MINE), ("b", "iaa", "")], Questions("card", {"iqa": MINE})),
        ([("a", "iqa", POOL[1]), ("b", "iqa", POOL[4]), ("c", "iqa", "")], Questions("paraphrases")),
        (
            [("a", "iqa", POOL[1]), ("b", "iqa", POOL[4]), ("c", "iaa", MINE)],
            Questions("paraphrases", {"iaa": MINE}),
        ),
        ([("a", "iqa", MINE), ("b", "iqa", "Does it show a cat?")], Questions("items")),
        ([("a", "iqa", MINE), ("b", "iqa", "")], Questions("items")),  # the other row is asked the model's question
        ([("a", "iqa", POOL[1]), ("b", "iqa", MINE)], Questions("items")),
        # a paraphrase of another task's question asks something else
        ([("a", "iqa", POOL[1]), ("b", "iqa", TASKS["iaa"].questions[0])], Questions("items")),
        ([("a", "iqa", MINE), ("b", "iqa", MINE), ("c", "iaa", "x"), ("d", "iaa", "y")], Questions("items")),
        ([("a", "iqa", ""), ("b", "iqa", "")], Questions("none")),
    ],
)
def test_kinds(tmp_path: Path, rows: list[tuple[str, str, str]], expected: Questions) -> None:
    assert kind(tmp_path / "s.csv", rows) == expected


def test_a_file_without_the_column_has_none(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("image,mos\na,1\nb,2\n")
    assert question_kind(read_labels(tmp_path / "s.csv")) == Questions("none")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("train_koniq", "paraphrases"),
        ("train_spaq", "paraphrases"),
        ("test_kadid", "paraphrases"),
        ("test_lsvq_1080p", "paraphrases"),  # asks about "this video" where our pool says "this clip"
        ("maxwell_train_split_1", "card"),
        ("livec_train_split_1", "card"),
        ("csiq", "none"),
        ("test_ava", "none"),
    ],
)
def test_published_files(shared: Path, file: str, expected: str) -> None:
    found = question_kind(read_labels(shared / f"data/labels/q_align/{file}.json"))
    assert found.kind == expected
    assert all(question in TASKS[task].questions for task, question in found.of_task.items())
