"""What the `question` column of a labels file holds: a task's question, paraphrases of it, or one for each item."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from q_align.data.labels import Labels
from q_align.tasks import TASKS

# Published files ask about "this video" where our pool says "this clip": the same question.
MEDIUM = re.compile(r"\b(image|picture|photo|photograph|video|clip)\b")


@dataclass(frozen=True, slots=True)
class Questions:
    """What the questions of a labels file are.

    Attributes:
        kind: "none": the file has no questions. "card": every row of a task has the same one, which belongs to the
            model (its card) and is asked when scoring. "paraphrases": they paraphrase the task's scoring question, so
            training may draw from them (`data.questions pool`), and scoring does not ask them. "items": each row has
            its own, which is asked in training and in evaluation.
        of_task: task -> its one question, for tasks whose rows all have the same; empty for "items".
    """

    kind: Literal["none", "card", "paraphrases", "items"]
    of_task: dict[str, str] = field(default_factory=dict)


def question_kind(labels: Labels) -> Questions:
    """Decides what the questions of a set are, task by task; one task with item questions makes it "items"."""
    if not labels.has("question"):
        return Questions("none")
    tasks, questions = labels.column("task"), labels.column("question")
    kinds, of_task = set(), {}
    for task in labels.tasks:
        asked = questions[tasks == task]
        known = np.array([bool(question) for question in asked])
        distinct = sorted(set(asked[known].tolist()))
        if not distinct:
            continue
        if len(distinct) == 1 and known.all():
            kinds.add("card")
            of_task[task] = distinct[0]
        else:
            kinds.add("paraphrases" if _in_pool(task, distinct) else "items")
    if "items" in kinds:
        return Questions("items")
    if "paraphrases" in kinds:
        return Questions("paraphrases", of_task)
    return Questions("card", of_task) if of_task else Questions("none")


def _in_pool(task: str, questions: Sequence[str]) -> bool:
    pool = {_plain(question) for question in TASKS[task].questions}
    return all(_plain(question) in pool for question in questions)


def _plain(question: str) -> str:
    return MEDIUM.sub("item", " ".join(question.lower().split()))
