"""The models that `q-align average` averages: found in runs and checkpoints, checked to end at the same step."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from q_align.config.resolve import resolve_config
from q_align.data.label_files import read_labels
from q_align.data.labels import LevelLabels
from q_align.data.rated_dataset import RatedDataset
from q_align.errors import TrainingError
from q_align.log import log
from q_align.metrics import srcc
from q_align.models.backbone import read_card
from q_align.train.checkpoints import (
    STATE,
    best_first,
    checkpoint_srcc,
    last_checkpoint,
    list_checkpoints,
    step_of,
    trainer_state,
)
from q_align.train.datasets import open_sets
from q_align.train.run_dir import CHECKPOINTS, CONFIG, HISTORY, SPLIT


@dataclass(frozen=True, slots=True)
class Ingredient:
    """Attributes:
    folder: of the model.
    run: the run that it belongs to; None for a model folder without a record of its training.
    step: at which it was saved; None where unknown.
    srcc: of the run's validation rows; None where there were none.
    """

    folder: Path
    run: Path | None = None
    step: int | None = None
    srcc: float | None = None


def find_ingredients(folders: Sequence[str | Path], last: int | None = None) -> list[Ingredient]:
    """The models that folders refer to.

    Args:
        folders: runs (each means its final model), checkpoints, or plain model folders.
        last: of every run the last so many checkpoints in place of its final model.

    Raises:
        TrainingError: when there are fewer than two, or runs ended at different steps.
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise TrainingError(f"{path}: no such run or checkpoint")
    if len(set(paths)) < len(paths):
        raise TrainingError("a run or checkpoint is given twice")
    runs = [path for path in paths if _is_run(path)]
    if last is not None and len(runs) < len(paths):
        raise TrainingError("--last counts the checkpoints of runs; give run folders only, or leave --last out")
    _check_equal_ends(runs)
    found: list[Ingredient] = []
    for path in paths:
        if path in runs:
            found += _of_run(path, last)
        elif (path / STATE).is_file():
            run = path.resolve().parent.parent
            found.append(Ingredient(path, run, step_of(path), checkpoint_srcc(path)))
        else:
            log.warning("%s: no record of its training; whether it is as far trained as the others is not known", path)
            found.append(Ingredient(path))
    if len(found) < 2:
        raise TrainingError(f"{paths[0]}: one model has no mean; name more runs or checkpoints, or give --last")
    _check_equal_steps([one for one in found if one.folder not in runs and one.step is not None])
    return found


def validation_rows(ingredients: Sequence[Ingredient]) -> list[LevelLabels]:
    """The validation rows of the first run; none where it had none, or the record of the run is gone.

    Raises:
        LabelError: when its labels or media are no longer where they were.
    """
    run = ingredients[0].run
    if run is None or not (run / CONFIG).is_file():
        return []
    config = resolve_config([run / CONFIG])
    if not all(entry.labels for entry in config.sets()):  # they were passed from Python
        return _recorded_rows(run)
    return open_sets(config, read_card(ingredients[0].folder).levels)[1]


def _recorded_rows(run: Path) -> list[LevelLabels]:
    """The validation rows that split.csv lists, on the scales that the run was trained on."""
    card, labels = read_card(run), read_labels(run / SPLIT)
    names, held_out = labels.column("set"), labels.column("split") == "val"
    found = []
    for source, entry in {str(entry["source"]): entry for entry in card.trained_on}.items():
        rows = np.flatnonzero((names == source) & held_out)
        if len(rows):
            part = dataclasses.replace(labels.select(rows).as_trained(entry), source=source)
            found.append(part.on(card.levels))
    return found


def mean_srcc(model: str | Path, sets: Sequence[LevelLabels], **loading: Any) -> float:
    """Mean over the sets (and tasks) of a model's SRCC; sets where it is undefined are left out.

    Raises:
        MediaError: when an item cannot be scored.
    """
    from q_align.score.scorer import Scorer
    from q_align.types import Item

    scorer = Scorer.from_pretrained(model, **loading)
    values = []
    for labels in sets:
        tasks = labels.column("task").astype(str)
        rated = RatedDataset([labels], scorer.card, scorer.spec)
        samples = (rated.sample(i) for i in range(len(rated)))
        rows = (Item(str(i), s.media, s.task, rated.own_question(i, s)) for i, s in enumerate(samples))
        scores = np.array([score.value for score in scorer.stream(rows, on_error="raise")])
        mos = labels.column("mos")
        values += [float(srcc(mos[tasks == task], scores[tasks == task])) for task in np.unique(tasks)]
    values = [value for value in values if math.isfinite(value)]
    return float(np.mean(values)) if values else math.nan


def _is_run(path: Path) -> bool:
    return (path / CHECKPOINTS).is_dir() or (path / HISTORY).is_file()


def _of_run(run: Path, last: int | None) -> list[Ingredient]:
    checkpoints = list_checkpoints(run / CHECKPOINTS)
    if last is None:
        best = next(iter(best_first(run / CHECKPOINTS)), None)
        return [Ingredient(run, run, step_of(best), checkpoint_srcc(best)) if best else Ingredient(run, run)]
    if len(checkpoints) < last:
        raise TrainingError(
            f"{run}: {len(checkpoints)} checkpoints, --last asks for {last}; train with a larger train.keep"
        )
    taken = checkpoints[-last:]
    every = trainer_state(taken[-1])["save_steps"]
    gaps = [step_of(b) - step_of(a) for a, b in pairwise(taken)]
    if any(gap > every for gap in gaps):
        raise TrainingError(
            f"{run}: some of the last {last} checkpoints were pruned (left: {_steps(map(step_of, taken))}, one every "
            f"{every} steps); train with train.keep {last} or more and no validation rows, or name checkpoints"
        )
    return [Ingredient(path, run, step_of(path), checkpoint_srcc(path)) for path in taken]


def _check_equal_ends(runs: Sequence[Path]) -> None:
    ends = {run: _end(run) for run in runs}
    for run, (step, planned) in ends.items():
        if planned is not None and step < planned:
            raise TrainingError(f"{run}: not finished (step {step} of {planned}); resume it, or name checkpoints")
    if len({step for step, _ in ends.values()}) > 1:
        shown = ", ".join(f"{run} at step {step}" for run, (step, _) in ends.items())
        raise TrainingError(f"runs ended at different steps ({shown}); average runs of one recipe, or name checkpoints")


def _end(run: Path) -> tuple[int, int | None]:
    """The step at which a run ended, and the one at which it should; None where only its log is left."""
    checkpoint = last_checkpoint(run / CHECKPOINTS)
    if checkpoint is not None:
        return step_of(checkpoint), trainer_state(checkpoint)["max_steps"]
    if not (run / HISTORY).is_file():
        raise TrainingError(f"{run}: neither checkpoints nor {HISTORY}; not a finished run")
    return max(line["step"] for line in json.loads((run / HISTORY).read_text(encoding="utf-8"))), None


def _check_equal_steps(checkpoints: Iterable[Ingredient]) -> None:
    steps: dict[Path | None, list[int]] = defaultdict(list)
    for one in checkpoints:
        steps[one.run].append(one.step or 0)
    each = [sorted(found) for found in steps.values()]
    if any(found != each[0] for found in each):
        shown = "; ".join(f"{run}: {_steps(sorted(found))}" for run, found in steps.items())
        raise TrainingError(f"checkpoints of different steps ({shown}); take the same steps of every run")


def _steps(steps: Iterable[int]) -> str:
    return ", ".join(map(str, steps))
