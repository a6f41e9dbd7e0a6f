#!/usr/bin/env bash
# Trains with every device that is here: one process per GPU (one in all on a machine without), through torchrun.
#   bash scripts/train.sh --config configs/nano.yaml --data.train labels.csv --train.output_dir runs/mine
# NPROC=2 sets the processes of this machine (also on CPU). Across machines, run the same line on each of them with
#   NNODES=4 NODE_RANK=0..3 MASTER_ADDR=host-of-rank-0 [MASTER_PORT=29500]
# Under Slurm (srun, one task per machine) these come from Slurm's own variables. See docs/training.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3)

# asks the driver, not torch: quicker, and it holds no memory on the device
gpus() {
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c . || true
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi --list-gpus | wc -l
  else
    echo 0
  fi
}

nnodes=${NNODES:-${SLURM_NNODES:-1}}
here=${NPROC:-$(gpus)}
[ "$here" -ge 1 ] || here=1
if [ "$nnodes" -gt 1 ]; then
  rank=${NODE_RANK:-${SLURM_NODEID:?train.sh: NNODES is $nnodes, so NODE_RANK must be set}}
  head=${MASTER_ADDR:-}
  if [ -z "$head" ] && [ -n "${SLURM_JOB_NODELIST:-}" ]; then
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  fi
  place=(--nnodes "$nnodes" --node_rank "$rank" --master_addr "${head:?train.sh: set MASTER_ADDR to the host of rank 0}"
    --master_port "${MASTER_PORT:-29500}")
else
  place=(--standalone)
fi

# on CPU every process would take all cores
[ "$(gpus)" -ge 1 ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
total=$((here * nnodes))
echo "train: $total processes, $here on this machine" >&2
exec "$python" -m torch.distributed.run "${place[@]}" --nproc_per_node "$here" -m q_align train "$@"
