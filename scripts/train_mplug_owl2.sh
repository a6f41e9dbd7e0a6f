#!/usr/bin/env bash
# Trains mPLUG-Owl2 by one of the published recipes: scripts/train_mplug_owl2.sh RECIPE DATA OUT [--section.key value ...]
# RECIPE: a file of configs/mplug_owl2 (koniq, onealign, lora_agi, ...). DATA: folder with the published labels and media
# (`q-align data fetch q-align-datasets --folder DATA`). OUT: folder of the run. One process per GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ $# -lt 3 ]; then
  sed -n '2,4s/^# //p' "$0" >&2
  exit 2
fi
recipe=$1 data=$2
mkdir -p "$3"
out=$(cd "$3" && pwd)
shift 3
configs=$root/configs/mplug_owl2
if [ ! -f "$configs/$recipe.yaml" ]; then
  echo "train_mplug_owl2: no recipe $recipe; there are $(cd "$configs" && ls | sed 's/\.yaml//' | tr '\n' ' ')" >&2
  exit 2
fi
case $recipe in lora_*) common=lora ;; *) common=full ;; esac
cd "$data" # the recipes name their labels relative to it
exec bash "$root/scripts/train.sh" --config "$configs/$common.yaml" --config "$configs/$recipe.yaml" \
  --train.output_dir "$out" "$@"
