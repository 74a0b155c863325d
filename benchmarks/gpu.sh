#!/usr/bin/env bash
# What a GPU says: exactness, times, memory. At most 8 minutes on one GPU; the table goes to gpu.md.
#
#   benchmarks/gpu.sh                                  # on the GPU
#   benchmarks/gpu.sh --device cpu --model tiny        # tries the script where there is none
set -euo pipefail
cd "$(dirname "$0")/.."
exec timeout 480 "${PYTHON:-python}" -m benchmarks.gpu "$@"
