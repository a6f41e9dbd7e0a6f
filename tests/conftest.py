"""Fixtures that several test files use. Real data are optional: tests that use them skip where they are absent."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

# One thread: with two, tiny models sometimes jump from 2 ms to 600 ms a call.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A test may be skipped in CI for a reason that begins with one of these: hardware or data that the machine lacks.
SKIP_REASONS = ("GPU: ", "data: ")
SHARED = Path(os.environ.get("Q_ALIGN_TEST_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real rated media, published labels and reference numbers."""
    if not SHARED.is_dir():
        pytest.skip(f"data: none at {SHARED} (Q_ALIGN_TEST_DATA names their folder)")
    return SHARED


@pytest.fixture(scope="session")
def nano():
    """The embedded model with random weights: the tests' real backbone."""
    from q_align.models.nano import build

    return build(seed=0)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the package has logged so far."""
    monkeypatch.setattr(logging.getLogger("q_align"), "propagate", True)
    caplog.set_level("INFO", "q_align")
    return lambda: list(dict.fromkeys(caplog.messages))


def skipped(config: pytest.Config) -> Counter[tuple[str, str]]:
    """(reason, file) -> how many tests of the file were skipped."""
    reports = config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])
    return Counter((str(r.longrepr[2]).removeprefix("Skipped: "), r.nodeid.split("::")[0]) for r in reports)


def forbidden(config: pytest.Config) -> list[str]:
    """Reasons for which no test may be skipped in CI."""
    if os.environ.get("CI") != "true":
        return []
    return sorted({reason for reason, _ in skipped(config) if not reason.startswith(SKIP_REASONS)})


def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and session.exitstatus == pytest.ExitCode.OK and forbidden(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = skipped(config)
    if not found:
        return
    terminalreporter.section("skipped tests")
    for reason in sorted({reason for reason, _ in found}):
        files = {file: count for (why, file), count in sorted(found.items()) if why == reason}
        terminalreporter.line(f"{sum(files.values())} skipped: {reason}")
        terminalreporter.line("    " + ", ".join(f"{file} ({count})" for file, count in files.items()))
    for reason in forbidden(config):
        terminalreporter.line(f"failed: CI skips tests only for a GPU or for data, not for: {reason}", red=True)
