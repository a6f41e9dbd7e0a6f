#!/usr/bin/env bash
# Adapters over OneAlign: scripts/train_lora.sh agi|cgi|live|csiq|livec|maxwell DATA OUT [--section.key value ...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_mplug_owl2.sh" "lora_${1:?which data: agi, cgi, live, csiq, livec, maxwell}" "${@:2}"
