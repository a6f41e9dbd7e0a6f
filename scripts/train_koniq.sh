#!/usr/bin/env bash
# Q-Align on KonIQ-10k: scripts/train_koniq.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" koniq "$@"
