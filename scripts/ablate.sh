#!/usr/bin/env bash
# Trains the packaged architecture from scratch with each loss, several seeds each, on the same generated data, and
# writes one table with means and standard deviations (results: docs/ablation.md). About two hours on two cores; the same
# command resumes. Other plans: bash scripts/ablate.sh OUTPUT PLAN.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # with two threads tiny steps sometimes take a hundred times longer
.venv/bin/q-align ablate --config "${2:-configs/ablate.yaml}" --output "${1:-runs/ablation}"
