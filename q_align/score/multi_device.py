"""One scoring process per device: the same command again for each, with its part of the ids.

Parts are cut by a hash of the id, so they are the same whenever the command runs again; every process resumes from what
all of them left in the folder.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from q_align.log import log


def run_parts(words: Sequence[str], devices: Sequence[str]) -> bool:
    """Runs `q-align score` once per device.

    Args:
        words: arguments of the command without --devices.
        devices: one process each; the same device may come twice.

    Returns:
        Whether every process finished: failed rows do not count against it, a process that could not load the model
        does.
    """
    children = []
    for number, device in enumerate(devices):
        command = [sys.executable, "-m", "q_align", "score", *words, "--device", device]
        children.append(subprocess.Popen([*command, "--part", f"{number}/{len(devices)}"]))
    try:
        codes = [child.wait() for child in children]
    except BaseException:
        for child in children:
            child.terminate()
        raise
    for device, code in zip(devices, codes):
        if code != 0:
            log.error("the process on %s ended with code %d; --resume scores the rest", device, code)
    return not any(codes)
