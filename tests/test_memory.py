"""Freed memory is used again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from q_align.memory import keep_freed_memory

PROGRAM = """
import resource, sys
import numpy as np
from q_align.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
start = faults()
for _ in range(20):
    np.ones(2**23)  # 64 MB
print(faults() - start)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
def test_large_blocks_cost_no_new_pages() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "")
    )
    assert kept * 20 < given_back  # page faults
