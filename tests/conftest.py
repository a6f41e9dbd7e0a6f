"""Fixtures that several test files use. Real data are optional: tests that use them skip where they are absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread: with two, tiny models sometimes jump from 2 ms to 600 ms a call.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SHARED = Path(os.environ.get("Q_ALIGN_TEST_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real rated media, published labels and reference numbers."""
    if not SHARED.is_dir():
        pytest.skip(f"no test data at {SHARED} (set Q_ALIGN_TEST_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def nano():
    """The embedded model with random weights: the tests' real backbone."""
    from q_align.models.nano import build

    return build(seed=0)
