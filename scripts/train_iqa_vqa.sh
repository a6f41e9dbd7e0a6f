#!/usr/bin/env bash
# Q-Align on image and video quality: scripts/train_iqa_vqa.sh DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" iqa_vqa "$@"
