"""Thresholds on metrics: `--fail-under srcc=0.9 rmse=0.5`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from q_align.errors import ConfigError, nearest

# metric -> whether a higher value is better
HIGHER_IS_BETTER = {
    "srcc": True,
    "plcc": True,
    "plcc_logistic": True,
    "plcc_logistic5": True,
    "krcc": True,
    "level_accuracy": True,
    "n": True,
    "rmse": False,
    "rmse_raw": False,
    "rmse_logistic5": False,
    "mae": False,
    "rmse_mos": False,
    "mae_mos": False,
    "ece": False,
    "failed": False,
}


def parse_thresholds(texts: Sequence[str]) -> dict[str, float]:
    """Reads "srcc=0.9".

    Raises:
        ConfigError: for an unknown metric or something that is no number.
    """
    thresholds = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if name not in HIGHER_IS_BETTER:
            known = ", ".join(HIGHER_IS_BETTER)
            raise ConfigError(
                f"--fail-under {text!r}: unknown metric {name!r}{nearest(name, HIGHER_IS_BETTER)}; known: {known}"
            )
        try:
            thresholds[name] = float(value)
        except ValueError:
            raise ConfigError(f"--fail-under {text!r}: expected METRIC=NUMBER, as in srcc=0.9") from None
        if not sign or not math.isfinite(thresholds[name]):
            raise ConfigError(f"--fail-under {text!r}: expected METRIC=NUMBER, as in srcc=0.9")
    return thresholds


def check_thresholds(thresholds: Mapping[str, float], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per result that misses a threshold; an undefined metric misses it.

    Args:
        thresholds: metric -> value.
        results: name of the result -> its metrics.
    """
    lines = []
    for title, metrics in results.items():
        for name, limit in thresholds.items():
            value = metrics.get(name)
            better = HIGHER_IS_BETTER[name]
            if value is None or not math.isfinite(value):
                lines.append(f"{title}: {name} is undefined, threshold {limit:g}")
            elif value < limit if better else value > limit:
                shown = f"{value:.4f}"
                lines.append(f"{title}: {name} is {shown}, {'below' if better else 'above'} {limit:g}")
    return lines
