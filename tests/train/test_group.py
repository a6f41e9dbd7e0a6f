"""A distributed run leaves nothing of its process group behind that could disturb the end of Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

# the command as its users give it; then the names of the threads that are left
PROGRAM = """
import json, os, sys
from pathlib import Path
from q_align.cli.main import main
code = main(sys.argv[2:])
threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
Path(sys.argv[1], os.environ["RANK"]).write_text(json.dumps([code, sorted(threads)]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_no_thread_of_the_group_outlives_a_run(tiny: Path, rated: Path, tmp_path: Path) -> None:
    program, found = tmp_path / "program.py", tmp_path / "found"
    program.write_text(PROGRAM)
    found.mkdir()
    words = ["--model.path", str(tiny), "--data.train", str(rated), "--train.output_dir", str(tmp_path / "run")]
    words += ["--train.max_steps", "2", "--train.batch_size", "2", "--train.workers", "0"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launch, str(program), str(found), "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in ("0", "1"):
        code, threads = json.loads((found / rank).read_text())
        assert code == 0
        assert not [name for name in threads if "gloo" in name], threads
