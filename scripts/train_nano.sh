#!/usr/bin/env bash
# Makes the packaged weights of nano from nothing: generated media only, four stages, then float16 into the package.
# bash scripts/train_nano.sh [OUT]; about three and a half hours on one core. Results: docs/nano.md.
# PHOTOS=DIR names a folder of sharp photographs in place of the free ones that scripts/free_photos.sh fetches.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
out=${1:-runs/nano}
q=.venv/bin/q-align
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Finished parts are skipped; interrupted training resumes from its last checkpoint.
photos=${PHOTOS:-$out/photos}
[ -n "${PHOTOS:-}" ] || [ -d "$photos" ] || { rm -rf "$photos.part"; bash scripts/free_photos.sh "$photos.part"; mv "$photos.part" "$photos"; }
[ -f "$out/data/labels.csv" ] || {
  rm -rf "$out/data"
  "$q" data generate "$out/data" --preset pretrain --photo-dir "$photos"
}
[ -f "$out/small/q_align.json" ] || "$q" train --config configs/nano_pretrain.yaml \
  --data.train "$out/data/labels.csv" --train.output_dir "$out/small" --train.resume true
[ -f "$out/wide/q_align.json" ] || "$q" train --config configs/nano_pretrain.yaml --config configs/nano_pretrain_wide.yaml \
  --model.path "$out/small" --data.train "$out/data/labels.csv" --train.output_dir "$out/wide" --train.resume true
# once more from there, at a constant learning rate; then the mean of the weights after each of the last four epochs
[ -f "$out/long_run/q_align.json" ] || "$q" train --config configs/nano_pretrain.yaml --config configs/nano_pretrain_wide.yaml \
  --model.path "$out/wide" --data.train "$out/data/labels.csv" --train.output_dir "$out/long_run" --train.resume true \
  --train.epochs 10 --train.schedule constant_with_warmup --train.lr 7e-4 --train.keep 10 --train.seed 1
[ -f "$out/long/q_align.json" ] || "$q" average "$out/long_run" --last 4 --output "$out/long"
# and down to nothing from there; measured once, at its end: one held-out set cannot tell a falling checkpoint from the last
[ -f "$out/last/q_align.json" ] || "$q" train --config configs/nano_pretrain.yaml --config configs/nano_pretrain_wide.yaml \
  --model.path "$out/long" --data.train "$out/data/labels.csv" --train.output_dir "$out/last" --train.resume true \
  --train.epochs 2 --train.eval_every 2 --train.lr 5e-4 --train.seed 2
.venv/bin/python scripts/pack_nano.py "$out/last" q_align/models/nano/weights --labels "$out/data/labels.csv"
"$q" evaluate --model nano --data "$out/data/labels.csv" --split test --output "$out/evaluation"
