#!/usr/bin/env bash
# Q-Align on KonIQ, SPAQ and KADID: scripts/train_iqa_mix.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" iqa_mix "$@"
