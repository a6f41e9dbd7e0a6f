#!/usr/bin/env bash
# The main job from end to end on generated images, with the embedded model, without downloads:
# labels with opinion scores -> five levels -> training -> scores -> SRCC/PLCC and a report.
# Everything lands in runs/quickstart (or the folder given as first argument). Safe to run again: finished parts are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
out=${1:-runs/quickstart}
q=.venv/bin/q-align
export OMP_NUM_THREADS=1 # one for the model, the other core prepares the batches
started=$SECONDS

step() { printf '\n== %s\n' "$*"; }

if [ -f "$out/data/labels.csv" ]; then
  step "1/4 rated images: $out/data is there already"
else
  step "1/4 making rated images in $out/data (simulated raters, split by content)"
  rm -rf "$out/data.part"
  "$q" data generate "$out/data.part" --preset quickstart
  mv "$out/data.part" "$out/data"
fi

if [ -f "$out/model/q_align.json" ]; then
  step "2/4 training: $out/model is there already (remove it to train again)"
else
  step "2/4 training the embedded model"
  "$q" train --config configs/quickstart.yaml --data.train "$out/data/labels.csv" --train.output_dir "$out/model" --train.resume true
fi

step "3/4 evaluating on contents never trained on, and writing the report"
"$q" evaluate --model "$out/model" --data "$out/data/labels.csv" --split test --output "$out/evaluation"
"$q" report "$out/evaluation" "$out/model" --output "$out/report.html"

step "4/4 scoring three images of rising distortion"
"$q" score --model "$out/model" "$out/data/ladder/"*

printf '\nDone in %d s. The model: %s  The report: %s\n' "$((SECONDS - started))" "$out/model" "$out/report.html"
