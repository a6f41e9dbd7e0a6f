"""The three rating tasks: what is asked, and how the answer begins (Q-Align, section 3).

Knows English and nothing else: no model, no tokenizer, no media.
"""

from __future__ import annotations

from dataclasses import dataclass

from q_align.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Task:
    """One rating task.

    Attributes:
        name: "iqa", "iaa" or "vqa".
        aspect: What is rated, "quality" or "aesthetics".
        medium: "image" or "video".
        questions: Paraphrases drawn at random when training; the first one is asked when scoring.
    """

    name: str
    aspect: str
    medium: str
    questions: tuple[str, ...]

    @property
    def stem(self) -> str:
        return f"The {self.aspect} of the {self.medium} is"

    @property
    def question(self) -> str:
        return self.questions[0]


def _questions(aspect: str, medium: str, other: str) -> tuple[str, ...]:
    return (
        f"How would you rate the {aspect} of this {medium}?",
        f"Can you rate the {aspect} of this {other}?",
        f"Rate the {aspect} of this {medium}.",
        f"Could you evaluate the {aspect} of this {medium}?",
        f"How do you assess the {aspect} of this {medium}?",
        f"How would you judge the {aspect} of this {medium}?",
        f"What is your {aspect} rating for this {medium}?",
        f"What's your opinion on the {aspect} of this {other}?",
        f"What do you think about the {aspect} of this {medium}?",
    )


TASKS: dict[str, Task] = {
    "iqa": Task("iqa", "quality", "image", _questions("quality", "image", "picture")),
    "iaa": Task("iaa", "aesthetics", "image", _questions("aesthetics", "image", "picture")),
    "vqa": Task("vqa", "quality", "video", _questions("quality", "video", "clip")),
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: for any other name.
    """
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}{nearest(name, TASKS)}; tasks are {', '.join(TASKS)}")
    return TASKS[name]
