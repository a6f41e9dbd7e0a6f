"""Versions, machine, device and command that a result was computed with."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from q_align.evaluation.score_sets import device_name

PACKAGES = ("torch", "transformers", "numpy", "scipy", "pillow", "peft", "decord", "av")


def environment(scorer: Any = None) -> dict[str, Any]:
    """A record for metrics.json; with a scorer also its device."""
    import q_align

    versions = {"q_align": q_align.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed has no version
    return {
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": device_name(scorer) if scorer is not None else None,
        "command": shlex.join(["q-align", *sys.argv[1:]]) if len(sys.argv) > 1 else None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
