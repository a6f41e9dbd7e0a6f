"""Which frames of a video are sampled: by rate, by count, or as short clips.

The paper's program takes frame int(fps * i) for every whole second i. For a constant rate that is the frame on screen
at second i, and the same is done here for a variable one.
"""

from __future__ import annotations

import numpy as np

from q_align.types import MediaSpec


def pick(times: np.ndarray, rate: float, spec: MediaSpec) -> list[int]:
    """Indices of the frames to take, rising, at least one.

    Args:
        times: (N,) when each frame is shown, in seconds, rising; N >= 1.
        rate: average frames per second.
        spec: `fps` positions per second (0: `max_frames` positions over the whole video), at most `max_frames` frames,
            `clip` consecutive frames per position.
    """
    count = len(times)
    rate = rate if 0 < rate < np.inf else 25.0  # some containers do not state it; the times still count
    budget = max(1, spec.max_frames // spec.clip)
    if spec.fps <= 0:
        points = np.arange(budget) * count // budget  # (P,)
    else:
        step = rate / spec.fps
        constant = has_constant_rate(times, rate)
        total = int(count / step) if constant else int((times[-1] - times[0]) * spec.fps) + 1
        total = max(1, total)  # a video of less than one step has one point
        chosen = np.arange(total) if total <= budget else np.arange(budget) * total // budget
        if constant:
            points = (chosen * step).astype(int)
        else:
            # 1e-4: a frame due at second i counts as shown at second i (decord gives times in single precision)
            points = np.searchsorted(times, times[0] + chosen / spec.fps + 1e-4, side="right") - 1
    frames = (points[:, None] + np.arange(spec.clip)[None]).reshape(-1)  # (P * clip,)
    return sorted(set(np.clip(frames, 0, count - 1).tolist()))


def has_constant_rate(times: np.ndarray, rate: float) -> bool:
    """Whether no frame is more than one and a half frames away from where a constant rate puts it."""
    if not np.isfinite(times).all():
        return True  # no usable time stamps: the rate is all there is
    return bool(np.abs(times - times[0] - np.arange(len(times)) / rate).max() <= 1.5 / rate)
