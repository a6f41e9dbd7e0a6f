#!/usr/bin/env bash
# Creates .venv (when there is none) and installs q_align with everything that the quick start uses; with --dev also what
# the tests use: linters and the optional libraries (Ray, bitsandbytes, torchao, wandb).
# Safe to run again: it installs only when setup.py or constraints.txt have changed since.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  for name in "${PYTHON:-python3}" python3.12 python3.11 python3.13 python3.10; do
    if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "setup: Python 3.10 to 3.13 is needed; set PYTHON to one" >&2
  exit 1
}

if [ ! -x .venv/bin/python ]; then
  python=$(find_python)
  echo "setup: creating .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
extras=train,video,legacy,generate
stamp=.venv/installed
if [ "${1:-}" = "--dev" ]; then
  extras+=,dev
  stamp=.venv/installed-dev
fi
wanted=$(cat setup.py constraints.txt | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "setup: installing q_align[$extras] into .venv (some minutes the first time)"
  # torch first and alone: its version decides which build pip takes for everything else
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
  echo "$wanted" | tee .venv/installed >"$stamp"
fi
