"""Where model and people disagree most, with small pictures. Knows results and media; no measures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from q_align.evaluate.metrics.logistic import curve
from q_align.evaluate.report.charts import probability_bar
from q_align.evaluate.report.collect import Evaluation
from q_align.evaluate.report.svg import picture

SIDE, QUALITY = 176, 68  # pixels of the longer side, JPEG quality: about 5 kB each


@dataclass(slots=True)
class Disagreement:
    """One item: its name, opinion, score, the score on the scale of the opinions, its level bar and thumbnail."""

    name: str
    mos: float
    score: float
    fitted: float
    bar: Markup
    thumbnail: str | None
    problem: str = ""


def disagreements(result: Evaluation, count: int, *, thumbnails: bool = True) -> list[Disagreement]:
    """The `count` items whose fitted score is farthest from the MOS (the raw score where nothing was fitted)."""
    keep = np.flatnonzero(result.known)
    score, mos = result.columns["value"][keep], result.columns["mos"][keep]
    beta = (result.metrics.get("logistic4") or {}).get("beta") or ()
    fitted = curve(score, tuple(beta)) if beta else score
    worst = np.argsort(-np.abs(fitted - mos), kind="stable")[:count]
    found = []
    for i in worst:
        row = keep[i]
        image, problem = thumbnail(result.columns["media"][row]) if thumbnails else (None, "not asked for")
        bar = picture(
            [probability_bar(result.columns["probs"][row], width=160, height=16)],
            "level probabilities: " + ", ".join(
                f"{w} {p:.2f}" for w, p in zip(result.scheme.words, result.columns["probs"][row])
            ),
            width=160,
            height=16,
        )  # fmt: skip
        name = "/".join(str(result.columns["id"][row]).split("/")[-2:])
        found.append(Disagreement(name, float(mos[i]), float(score[i]), float(fitted[i]), bar, image, problem))
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
    except (QAlignError, OSError) as error:  # the page shows the reason in place of the picture
        return None, " ".join(str(error).split())
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), ""
