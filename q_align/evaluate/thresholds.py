"""A regression gate: measures that must not fall below a value, errors that must not rise above one. Knows records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from q_align.errors import ConfigError, nearest

# measure -> whether a higher value is better
MEASURES = {
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
    "ece": False,
    "failed": False,
}


def parse_gates(texts: Sequence[str]) -> dict[str, float]:
    """Reads "srcc=0.9".

    Raises:
        ConfigError: for an unknown measure or something that is no number.
    """
    gates = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            raise ConfigError(
                f"--fail-under {text!r}: unknown measure {name!r}{nearest(name, MEASURES)}; known: {known}"
            )
        try:
            gates[name] = float(value)
        except ValueError:
            raise ConfigError(f"--fail-under {text!r}: expected MEASURE=NUMBER, as in srcc=0.9") from None
        if not sign or not math.isfinite(gates[name]):
            raise ConfigError(f"--fail-under {text!r}: expected MEASURE=NUMBER, as in srcc=0.9")
    return gates


def check_gates(gates: Mapping[str, float], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per result that misses a gate; a measure that is undefined misses it.

    Args:
        gates: measure -> value.
        results: name of the result -> its metrics.
    """
    lines = []
    for title, metrics in results.items():
        for name, limit in gates.items():
            value = metrics.get(name)
            better = MEASURES[name]
            if value is None or not math.isfinite(value):
                lines.append(f"{title}: {name} is undefined, wanted {limit:g}")
            elif value < limit if better else value > limit:
                shown = f"{value:.4f}"
                lines.append(f"{title}: {name} is {shown}, {'below' if better else 'above'} {limit:g}")
    return lines
