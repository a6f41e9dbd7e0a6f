"""A table is written whole or not at all."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from q_align.data.table_files import read_table, write_table

FULL = """
import sys, pyarrow as pa
from q_align.data.table_files import write_table
write_table(pa.table({"media": [f"{i * 7919 % 100003}.png" for i in range(100000)]}), sys.argv[1])
"""


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_without_room_leaves_no_part(tmp_path: Path, suffix: str, existing: bool) -> None:
    target = tmp_path / f"out{suffix}"
    if existing:
        write_table(pa.table({"media": ["before.png"]}), target)

    def no_room() -> None:  # as a full disk: no file grows beyond 100 kB
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", FULL, str(target)], preexec_fn=no_room, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == ([target.name] if existing else [])
    if existing:
        assert read_table(target).column("media").to_pylist() == ["before.png"]
