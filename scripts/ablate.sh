#!/usr/bin/env bash
# Trains the embedded model from scratch under each loss, several seeds each, on the same generated data, and writes
# one table with means and spreads (docs/ablation.md says what came out). About two hours on two cores; finished runs
# are kept, so it can be stopped and started again. Other plans: bash scripts/ablate.sh OUTPUT PLAN.yaml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # with two threads tiny steps sometimes take a hundred times longer
.venv/bin/python -m q_align.ablation --config "${2:-configs/ablate.yaml}" --output "${1:-runs/ablation}"
