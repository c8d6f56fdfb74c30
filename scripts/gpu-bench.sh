#!/bin/bash
# Measures dpo-train on this machine's GPU, beside PyTorch's cuBLAS and Hugging Face TRL on the same model and pairs:
#
#   bash scripts/gpu-bench.sh [--out DIR] [--seconds 520] [--device NAME] [--sizes 8b,1b] [--only STAGE,STAGE]
#                             [--models DIR] [--set KEY=VALUE ...] [--build-only]
#
# It writes DIR/bench.json (default runs/gpu-bench) and DIR/table.md after every stage, DIR/log.txt, and a trace of
# each model's profiled steps for ui.perfetto.dev. The stages, most valuable first: the adapter's facts, our matmuls (on a
# GPU in every tile that they can be built from, and then in the fastest), the ceiling of multiply-accumulates on registers,
# cuBLAS, our other kernels, then for each model dpo-train, TRL as it comes and TRL tuned. What does not fit into --seconds
# is left out and named under `skipped`; called again with the same DIR, the script goes on with what is missing. Nothing is
# estimated: what was not measured is null.
#
# Models have random weights and are made by scripts/gpu-bench/make_model.py in a temporary folder (16 GB for the 8B one),
# which is removed once it is done with; with --models DIR they are kept there. --set goes to dpo-train as it is. Without
# a GPU everything runs on a tiny model through the CPU's Vulkan driver, and TRL on the CPU.
#
# Needs `npm ci`, and for models, cuBLAS and TRL a Python with torch, transformers, peft, datasets and trl (liger-kernel if
# it is there): python3, or the one that PYTHON names.
#
# On a bare GPU machine without npm: bring Node.js, production dependencies, dist/, kernels/, scripts/, configs/ and
# examples/. With ../shared/gpu/pack.sh, here:
#
#   bash scripts/gpu-bench.sh --build-only && ../shared/gpu/pack.sh
#
# and there, with dist and .gpu carried along and $OUT brought back (called again on the same machine it goes on):
#
#   bash .gpu/enter.sh bash scripts/gpu-bench.sh --out /tmp/gpu-bench; cp /tmp/gpu-bench/*.* $OUT/
#
# To go on with the results of another machine of the same kind and driver, carry them along, in runs/gpu-bench say:
#
#   cp -r runs/gpu-bench /tmp/gpu-bench; bash .gpu/enter.sh bash scripts/gpu-bench.sh --out /tmp/gpu-bench; cp /tmp/gpu-bench/*.* $OUT/
#
# Exit codes: 0 done, or stopped by the clock; 1 a stage failed; 2 a wrong option or a DIR of something else; 3 no device.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
command -v node >/dev/null || { echo "gpu-bench: needs Node.js 20.19 or newer" >&2; exit 2; }
bin=$root/node_modules/.bin
if [ -x "$bin/tsc" ] && [ -x "$bin/esbuild" ]; then
  (cd "$root" && "$bin/tsc" -p tsconfig.json)
  "$bin/esbuild" "$root/scripts/gpu-bench/main.ts" "$root/scripts/gpu-bench/kernels.ts" --outdir="$root/dist/gpu-bench" \
    --bundle --packages=external --platform=node --format=esm --target=node20 --log-level=warning
elif [ ! -f "$root/dist/gpu-bench/main.js" ]; then
  echo "gpu-bench: not built: run npm ci, or build elsewhere with --build-only and bring dist/ here" >&2; exit 2
fi
[ "${1:-}" = --build-only ] && exit 0
exec node "$root/dist/gpu-bench/main.js" --elapsed "$SECONDS" "$@"
