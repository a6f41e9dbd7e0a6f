"""q_align.json: all that a scorer must know about a checkpoint besides its weights.

Knows no weights and no tokenizer. The file travels inside every checkpoint; a checkpoint without one is refused.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError
from q_align.levels import LevelScheme
from q_align.tasks import TASKS
from q_align.types import MediaSpec

FILE = "q_align.json"


@dataclass(slots=True)
class ModelCard:
    """What a checkpoint was taught, and how to ask it.

    Attributes:
        family: key of `q_align.models.families.FAMILIES`, or the `model_type` of a transformers model.
        levels: words and values, best first.
        tasks: tasks that the model was trained for; scoring another one works, with a warning.
        prompt: the prompt as a template of {image}, {question} and {stem}; the family's encoder fills it in.
        questions: task -> the question asked when scoring, where it differs from the task's first one.
        stems: task -> the opening of the answer, where it differs from the task's own.
        media: the pixel and frame budget used in training, repeated when scoring (see `q_align.media`).
        base: folder or hub id of the weights that training started from, or that an adapter needs.
        trained_on: one record per data set: source, mos_range, higher_is_better, rows.
        calibration: source -> parameters that map the level scale to that data set's own MOS.
        about: licence, limits and other remarks for people.
    """

    family: str
    levels: LevelScheme = field(default_factory=LevelScheme)
    tasks: tuple[str, ...] = ("iqa",)
    prompt: str = ""
    questions: dict[str, str] = field(default_factory=dict)
    stems: dict[str, str] = field(default_factory=dict)
    media: MediaSpec = field(default_factory=MediaSpec)
    base: str | None = None
    trained_on: list[dict[str, Any]] = field(default_factory=list)
    calibration: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def question(self, task: str) -> str:
        return self.questions.get(task, TASKS[task].question)

    def stem(self, task: str) -> str:
        return self.stems.get(task, TASKS[task].stem)

    def save(self, folder: str | Path) -> None:
        text = json.dumps({"format": 1, **asdict(self)}, indent=2, ensure_ascii=False)
        fresh = Path(folder) / f"{FILE}.new"  # renamed when whole: without its card a model is lost
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(Path(folder) / FILE)

    @classmethod
    def load(cls, folder: str | Path) -> ModelCard:
        """Reads `q_align.json` of a checkpoint folder.

        Raises:
            CheckpointError: when the file is missing, is not JSON, or holds unknown keys.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise CheckpointError(
                f"{folder}: no {FILE}; a model folder is one that q-align train or Backbone.save wrote"
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: not valid JSON ({error})") from error
        record.pop("format", None)
        unknown = set(record) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise CheckpointError(f"{path}: unknown keys {sorted(unknown)}; written by a newer q_align?")
        try:
            record["levels"] = LevelScheme(**record.get("levels", {}))
            record["media"] = MediaSpec(**record.get("media", {}))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: levels or media make no sense ({error})") from error
        record["tasks"] = tuple(record.get("tasks", ("iqa",)))
        return cls(**record)
