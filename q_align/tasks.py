"""Rating tasks: what is asked about an image or a video, and how the answer begins (Q-Align, section 3).

Another task registers itself: `TASKS.register("face", Task("face", "image", ("How good is this face?",), "The quality
of the face is"))`, in a module that Q_ALIGN_PLUGINS names, or through the entry points `q_align.tasks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from q_align.registry import Registry


@dataclass(frozen=True, slots=True)
class Task:
    """One rating task.

    Attributes:
        name: "iqa", "iaa", "vqa", or the name of another one.
        modality: "image" or "video": what is rated.
        questions: paraphrases drawn at random when training; the first one is asked when scoring. A question that comes
            with an item replaces it.
        stem: how the answer begins; the level word follows: "The quality of the image is".
    """

    name: str
    modality: str
    questions: tuple[str, ...]
    stem: str

    @property
    def question(self) -> str:
        return self.questions[0]


TASKS: Registry[Task] = Registry("task", "q_align.tasks", of=Task)


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        ConfigError: for any other name.
    """
    return TASKS[name]


def _rating_task(name: str, aspect: str, modality: str, other: str) -> None:
    questions = (
        f"How would you rate the {aspect} of this {modality}?",
        f"Can you rate the {aspect} of this {other}?",
        f"Rate the {aspect} of this {modality}.",
        f"Could you evaluate the {aspect} of this {modality}?",
        f"How do you assess the {aspect} of this {modality}?",
        f"How would you judge the {aspect} of this {modality}?",
        f"What is your {aspect} rating for this {modality}?",
        f"What's your opinion on the {aspect} of this {other}?",
        f"What do you think about the {aspect} of this {modality}?",
    )
    TASKS.register(name, Task(name, modality, questions, f"The {aspect} of the {modality} is"))


_rating_task("iqa", "quality", "image", "picture")
_rating_task("iaa", "aesthetics", "image", "picture")
_rating_task("vqa", "quality", "video", "clip")
