#!/bin/sh
# Makes all of test/golden again. Usage: PYTHON=path/to/python scripts/golden/make_all.sh (README.md tells what it needs).
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
here=scripts/golden golden=test/golden

$python $here/make_models.py
$python $here/make_data.py
$python $here/trl_dpo.py $golden/twin-tiny/config.yaml $golden/twin-tiny
# init-adapter starts from the adapter that f16-one-kv-gate ends with.
for run in mha-tied-uneven gqa-llama3-chat f16-one-kv-gate gqa-llama3-long shuffle init-adapter; do
  $python $here/trl_dpo.py --token-logps $golden/runs/$run/config.yaml $golden/runs/$run
done
$python $here/trl_facts.py
$python $here/make_losses.py
$python $here/make_merge.py
$python $here/make_adamw.py
$python $here/make_nf4.py
$python $here/generate.py
$python $here/rope.py
$python $here/style.py
