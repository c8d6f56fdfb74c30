#!/bin/sh
# Stands for the training of one run: fake-task.sh SWEEP_FOLDER INDEX. Writes what a run writes, into its own folder:
# `status`, `steps` (of its newest checkpoint), and `events`, one line for each begin and end, with time and GPU.
# The test puts a `plan` there, shell settings: total (steps of 50 ms), outcome (done, failed, or crash), crashes (how often).
folder="$1/$2"
total=10 outcome='done' crashes=0
[ -e "$folder/plan" ] && . "$folder/plan"
steps=$(cat "$folder/steps" 2>/dev/null || echo 0)
attempts=$(grep -c begin "$folder/events" 2>/dev/null)
event() { echo "$1 $(date +%s%N) $CUDA_VISIBLE_DEVICES ${SLURM_ARRAY_JOB_ID:-} $$" >>"$folder/events"; }
save_and_exit() {
  echo "$steps" >"$folder/steps"
  echo interrupted >"$folder/status"
  event end
  exit 143
}
trap save_and_exit TERM
echo "run $2 begins at step $steps"
event begin
echo running >"$folder/status"
if [ "$outcome" = crash ] || [ "${attempts:-0}" -lt "$crashes" ]; then
  echo "the device was lost" >&2
  event end
  exit 3
fi
while [ "$steps" -lt "$total" ]; do
  sleep 0.05
  steps=$((steps + 1))
done
echo "$steps" >"$folder/steps"
event end
echo "$outcome" >"$folder/status"
[ "$outcome" = 'done' ] || exit 2
