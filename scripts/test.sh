#!/usr/bin/env bash
# Runs the tests in .venv (created when there is none). `--fast` leaves out the slow ones; other words go to pytest.
# Tests on real data are skipped where the data are absent (Q_ALIGN_TEST_DATA names their folder). With CI=true the run
# fails when a test is skipped for anything but a missing GPU or missing data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh --dev

if [ "${1:-}" = "--fast" ]; then
  shift
  set -- -m "not slow" "$@"
fi
# In CI the report is opened in a real browser; elsewhere that test skips where there is none.
if [ "${CI:-}" = "true" ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "test: installing Chromium for the browser test"
  { apt-get update && apt-get install -y --no-install-recommends chromium; } >/tmp/q_align_chromium.log 2>&1 ||
    echo "test: Chromium could not be installed (see /tmp/q_align_chromium.log); its test is skipped, and the run fails"
fi
echo "test: running pytest with one process per core"
# one thread each: two threads make tiny models slower, not faster
OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false .venv/bin/python -m pytest -n "${TEST_PROCESSES:-$(getconf _NPROCESSORS_ONLN)}" "$@"
