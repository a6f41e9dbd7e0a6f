"""Freed memory is used again, or goes back to the kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from q_align.cli.allocator import keep_freed_memory

PROGRAM = """
import resource, sys
import numpy as np
from q_align.cli.allocator import keep_freed_memory
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


GAPS = """
import sys
import numpy as np
from q_align.cli.allocator import return_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
if sys.argv[1] == "returned":
    return_freed_memory()
np.ones(30 * 2**17)  # a freed block of 30 MB: from now on glibc takes smaller ones from its heap
start = resident()
blocks = [np.ones(2**21) for _ in range(20)]  # 16 MB each
last = np.ones(2**17)
del blocks[:-1]
print(round(resident() - start))
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
def test_freed_blocks_under_a_used_one_go_back() -> None:
    returned, by_itself = (
        int(subprocess.run([sys.executable, "-c", GAPS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("returned", "")
    )
    assert returned < 30 and by_itself > 250  # MB
