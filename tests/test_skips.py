"""CI lists the skipped tests and fails when one is skipped for anything but a missing GPU or missing data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ALLOWED = """
import pytest
def test_one(): pytest.skip("data: none at /nowhere")
def test_two(): pytest.skip("data: none at /nowhere")
@pytest.mark.skipif(True, reason="GPU: there is none")
def test_three(): pass
def test_four(): pass
"""
MODULE = 'import pytest\npytest.importorskip("no_such_library")\ndef test_five(): pass\n'


@pytest.mark.parametrize(("ci", "processes"), [("true", "1"), ("", "0")])
def test_what_may_be_skipped(tmp_path: Path, ci: str, processes: str) -> None:
    def run() -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-n", processes, "-p", "no:cacheprovider", "."]
        env = {**os.environ, "CI": ci}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_allowed.py").write_text(ALLOWED)
    code, text = run()
    assert code == 0 and "1 passed, 3 skipped" in text
    assert "2 skipped: data: none at /nowhere\n    test_allowed.py (2)" in text
    assert "1 skipped: GPU: there is none\n    test_allowed.py (1)" in text
    (tmp_path / "test_module.py").write_text(MODULE)
    code, text = run()
    assert "1 skipped: could not import 'no_such_library'" in text
    assert code == (1 if ci else 0) and ("failed: CI skips tests only for" in text) == bool(ci)
