"""q_align.json: what a scorer must know about a checkpoint besides its weights; it travels inside the checkpoint."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from q_align.errors import CheckpointError, ConfigError
from q_align.levels import LevelScheme
from q_align.readout import ReadoutSpec
from q_align.tasks import get_task
from q_align.types import MediaSpec

FILE = "q_align.json"
FORMAT = 2
BUILT_IN = ("iqa", "iaa", "vqa")


@dataclass(slots=True)
class ModelCard:
    """How a checkpoint was trained, and how to ask it.

    Attributes:
        family: key of `q_align.models.families.FAMILIES`, or the `model_type` of a transformers model.
        readout: how its answers are read: kind, level words and values.
        tasks: tasks that the model was trained for; scoring another one works, with a warning.
        prompt: the prompt as a template of {image}, {question} and {stem}; the family's encoder fills it in.
        questions: task -> the question asked when scoring, where it differs from the task's first one.
        stems: task -> the opening of the answer, where it differs from the task's own.
        media: how images and videos are opened, in training and in scoring (see `q_align.media`).
        dtype: precision for scoring, "float32", "bfloat16" or "float16"; None: from the device.
        base: folder or hub id of the weights that training started from, or that an adapter needs.
        trained_on: one record per data set and task: source, task, mos_range, higher_is_better, rows.
        validation: metrics on the validation rows of its training: n, failed, srcc, plcc, SOURCE_srcc, ...
        calibration: source -> parameters that map the level scale to that data set's own MOS.
        about: name, licence, limits and other remarks for people; README.md repeats them.
    """

    family: str
    readout: ReadoutSpec = field(default_factory=ReadoutSpec)
    tasks: tuple[str, ...] = ("iqa",)
    prompt: str = ""
    questions: dict[str, str] = field(default_factory=dict)
    stems: dict[str, str] = field(default_factory=dict)
    media: MediaSpec = field(default_factory=MediaSpec)
    dtype: str | None = None
    base: str | None = None
    trained_on: list[dict[str, Any]] = field(default_factory=list)
    validation: dict[str, float] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def levels(self) -> LevelScheme:
        return self.readout.levels

    def question(self, task: str) -> str:
        return self.questions.get(task) or get_task(task).question

    def stem(self, task: str) -> str:
        return self.stems.get(task) or get_task(task).stem

    def all_stems(self) -> tuple[str, ...]:
        """Openings of the answers of the card's tasks; of the built-in tasks where it names none."""
        return tuple(self.stem(task) for task in self.tasks or BUILT_IN)

    def to_json(self) -> str:
        """The text of q_align.json."""
        record = {"format": FORMAT, **asdict(self), "readout": self.readout.to_dict()}
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"

    def save(self, folder: str | Path) -> None:
        fresh = Path(folder) / f"{FILE}.new"  # renamed when whole: without its card a model is lost
        fresh.write_text(self.to_json(), encoding="utf-8")
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
        if not isinstance(record, dict):
            raise CheckpointError(f"{path}: holds a {type(record).__name__}, not the keys of a model card")
        record.pop("format", None)
        unknown = set(record) - {f.name for f in dataclasses.fields(cls)}
        if unknown:
            raise CheckpointError(f"{path}: unknown keys {sorted(unknown)}; written by another version of q_align?")
        try:
            record["readout"] = ReadoutSpec.from_dict(record.get("readout", {}))
            record["media"] = MediaSpec(**record.get("media", {}))
        except (TypeError, ValueError, ConfigError) as error:
            raise CheckpointError(f"{path}: invalid readout or media ({error})") from error
        record["tasks"] = tuple(record.get("tasks", ("iqa",)))
        return cls(**record)
