#!/usr/bin/env bash
# Q-Align on image quality and aesthetics: scripts/train_iqa_iaa.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" iqa_iaa "$@"
