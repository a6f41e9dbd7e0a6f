"""Items with the largest error of a result, with thumbnails."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.evaluation.record import Evaluation
from q_align.metrics.logistic import logistic_curve
from q_align.report.hide_folders import hide_folders
from q_align.report.level_charts import probability_bar
from q_align.report.svg import drawing
from q_align.report.units import LEVELS, in_mos, logistic_in

SIDE, QUALITY = 176, 68  # pixels of the longer side, JPEG quality: about 5 kB each


@dataclass(slots=True)
class LargeError:
    """One item: its name, MOS, score, fitted score, level bar and thumbnail."""

    name: str
    mos: float
    score: float
    fitted: float
    bar: Markup
    thumbnail: str | None
    problem: str = ""


def largest_errors(result: Evaluation, count: int, *, thumbnails: bool = True, units: str = LEVELS) -> list[LargeError]:
    """The `count` items whose fitted score is farthest from the MOS (the raw score where nothing was fitted)."""
    keep = np.flatnonzero(result.known)
    score, mos = result.column("value")[keep], result.column("mos")[keep]
    beta = (result.metrics.get("logistic4") or {}).get("beta") or ()
    fitted = logistic_curve(score, tuple(beta)) if beta else score
    worst = np.argsort(-np.abs(fitted - mos), kind="stable")[:count]
    probs, names, places = result.column("probs"), result.column("id"), result.column("media")
    if in_mos(result, units):
        _, fitted = logistic_in(result, units, score, fitted)
        score, mos = result.column("value_mos")[keep], result.column("raw_mos")[keep]
    found = []
    for i in worst:
        row = keep[i]
        image, problem = thumbnail(places[row]) if thumbnails else (None, "not asked for")
        bar = Markup("")
        if np.isfinite(probs[row]).all():
            words = ", ".join(f"{w} {p:.2f}" for w, p in zip(result.scheme.words, probs[row]))
            bar = drawing(
                [probability_bar(probs[row], width=160, height=16)],
                f"level probabilities: {words}",
                width=160,
                height=16,
            )
        name = "/".join(str(names[row]).split("/")[-2:])
        found.append(LargeError(name, float(mos[i]), float(score[i]), float(fitted[i]), bar, image, problem))
    return found


def thumbnail(media: Any) -> tuple[str | None, str]:
    """A small JPEG as a data address, or None and the reason why there is none."""
    from q_align.errors import QAlignError
    from q_align.media import is_video, open_frames, open_image
    from q_align.types import MediaSpec

    try:
        if is_video(media):
            frames, _ = open_frames(media, MediaSpec(max_frames=1), video=True)
            image = frames[0]
        else:
            image = open_image(media)
    except (QAlignError, OSError) as error:  # the page shows the reason in place of the image
        return None, hide_folders(" ".join(str(error).split()))
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), ""
