"""A library call leaves the threads of the caller as they are, those that run and those that start later."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import threading, time, torch
import numpy as np
from q_align import Scorer
from q_align.score.engine.threads import worker_pool

matrix = torch.randn(700, 700)

def elsewhere():
    "Share of the processor time of a product that other threads than this one take."
    start, own = time.process_time(), time.thread_time()
    for _ in range(20):
        matrix @ matrix
    spent, own = time.process_time() - start, time.thread_time() - own
    return 1 - own / spent

def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]

rng = np.random.default_rng(0)
images = [rng.integers(0, 255, (40, 40, 3), dtype=np.uint8) for _ in range(40)]
stream = Scorer.from_pretrained("nano", device="cpu", workers=2).stream(images)
next(stream)
print(torch.get_num_threads(), in_thread(torch.get_num_threads))
rest = list(stream)
with worker_pool(1, one_core_each=True) as pool:
    print(elsewhere() > 0.2, pool.submit(elsewhere).result() < 0.05, pool.submit(torch.get_num_threads).result())
    print(elsewhere() > 0.2, in_thread(elsewhere) > 0.2)
"""


def test_workers_compute_on_one_core_and_nobody_else_does() -> None:
    two = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=two)
    assert done.stdout.split() == ["2", "2", "True", "True", "1", "True", "True"], done.stderr
