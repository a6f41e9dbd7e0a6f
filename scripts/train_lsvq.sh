#!/usr/bin/env bash
# Q-Align on LSVQ (videos): scripts/train_lsvq.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" lsvq "$@"
