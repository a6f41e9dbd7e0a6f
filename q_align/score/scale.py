"""Scales of a score: the level scale, 0 to 1, 0 to 100, or a data set's own MOS (docs/scales.md).

scale = find_scale("mos:koniq", scorer.card)
scale.score(score)                     # a Score on that scale
scale.apply(score.value, score.std)    # its two numbers alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from q_align.errors import ConfigError, QAlignError, nearest

if TYPE_CHECKING:
    from q_align.models.card import ModelCard
    from q_align.types import Score

KINDS = ("affine", "logistic", "isotonic")
LEVEL = "level"


@dataclass(frozen=True, slots=True)
class Scale:
    """A monotone map from the level scale to another one.

    Attributes:
        name: "level", "unit", "percent", or "mos:SOURCE".
        record: the map: `kind` ("affine", "logistic", "isotonic") and its parameters, as a model card stores it.
        origin: "fixed", "calibration" (fitted by `q-align calibrate`) or "range" (the data set's MOS range, inverted).
    """

    name: str
    record: Mapping[str, Any] = field(default_factory=lambda: {"kind": "affine", "slope": 1.0, "offset": 0.0})
    origin: str = "fixed"

    @property
    def identity(self) -> bool:
        """Whether values stay as they are, to the bit."""
        return self.name == LEVEL

    def values(self, value: Any) -> np.ndarray:
        """Values on the level scale, any shape -> values on this scale; NaN stays NaN."""
        value = np.asarray(value, dtype=np.float64)
        return value if self.identity else map_scores(self.record, value)

    def apply(self, value: float | None, std: float | None = None) -> tuple[float | None, float | None]:
        """One value and its std on the level scale -> both on this scale; None stays None.

        The std is multiplied by the local slope of the map.
        """
        if value is None or self.identity:
            return value, std
        if std is None:
            return float(self.values(value)), None
        below, here, above = self.values([value - std / 2, value, value + std / 2])
        return float(here), float(abs(above - below))

    def score(self, score: Score) -> Score:
        """A `Score` with `value`, `std` and `frames` on this scale."""
        if score.value is None or self.identity:
            return score
        value, std = self.apply(score.value, score.std)
        frames = score.frames and tuple(self.apply(frame)[0] for frame in score.frames)
        return replace(score, value=value, std=std, frames=frames)

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row with `value`, `std` and `frames` (see `Score`) on this scale; level and probabilities do not change."""
        if row.get("value") is None or self.identity:
            return row
        value, std = self.apply(row["value"], row.get("std"))
        row = row | {"value": value, "std": std}
        if row.get("frames"):
            row["frames"] = tuple(self.apply(frame)[0] for frame in row["frames"])
        return row


def find_scale(name: str, card: ModelCard) -> Scale:
    """The scale of that name, for one model.

    Args:
        name: "level" (as it is), "unit" (0..1), "percent" (0..100), or "mos:SOURCE".
        card: of the model. A source in `calibration` is mapped by its fit; one that the model was trained on, but never
            calibrated for, by its MOS range and direction.

    Raises:
        ConfigError: for an unknown scale or source; names those that exist.
    """
    low, high = card.levels.low, card.levels.high
    ends = {LEVEL: (low, high), "unit": (0.0, 1.0), "percent": (0.0, 100.0)}
    if name == LEVEL:
        return Scale(name)
    if name in ends:
        return Scale(name, affine((low, high), ends[name]))
    ranges = {str(entry["source"]): entry for entry in card.trained_on if entry.get("mos_range")}
    kind, _, source = name.partition(":")
    if kind == "mos" and source in card.calibration:
        return Scale(name, dict(card.calibration[source]), "calibration")
    if kind == "mos" and source in ranges:
        entry = ranges[source]
        return range_scale(source, card, entry["mos_range"], higher_is_better=entry.get("higher_is_better", True))
    known = [*ends, *(f"mos:{s}" for s in sorted({*card.calibration, *ranges}))]
    raise ConfigError(f"unknown scale {name!r}{nearest(name, known)}; scales of this model are {', '.join(known)}")


def range_scale(source: str, card: ModelCard, mos_range: Any, *, higher_is_better: bool = True) -> Scale:
    """The scale of a data set by its MOS range alone: the inverse of `LevelScheme.to_scale`."""
    first, last = (float(end) for end in mos_range)
    ends = (first, last) if higher_is_better else (last, first)
    return Scale(f"mos:{source}", affine((card.levels.low, card.levels.high), ends), "range")


def affine(old: tuple[float, float], new: tuple[float, float]) -> dict[str, Any]:
    """The straight map that takes the ends of one range to those of another."""
    slope = (new[1] - new[0]) / (old[1] - old[0])
    return {"kind": "affine", "slope": slope, "offset": new[0] - slope * old[0]}


def map_scores(record: Mapping[str, Any], score: Any) -> np.ndarray:
    """Scores on the level scale (any shape) -> the scale that the record was made for.

    Raises:
        QAlignError: for a kind of map that is not known.
    """
    kind = record.get("kind")
    if kind not in KINDS:
        raise QAlignError(f"unknown calibration {kind!r} in the model's card; kinds are {', '.join(KINDS)}")
    score = np.asarray(score, dtype=np.float64)
    if kind == "affine":
        return record["slope"] * score + record["offset"]
    if kind == "logistic":
        from q_align.metrics.logistic import logistic_curve

        return logistic_curve(score, tuple(record["beta"]))
    return np.interp(score, record["score"], record["mos"])
