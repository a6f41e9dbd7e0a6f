#!/usr/bin/env bash
# Q-Align on SPAQ: scripts/train_spaq.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" spaq "$@"
