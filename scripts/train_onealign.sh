#!/usr/bin/env bash
# OneAlign, all three tasks: scripts/train_onealign.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" onealign "$@"
