#!/usr/bin/env bash
# The example trains, and a program without its block says so.
set -euo pipefail
bin="$TEST_TMPDIR/bin"
mkdir -p "$bin"
ln -sf "$PWD"/examples/own_block/tidegate "$PWD"/examples/own_block/tidegate-worker \
  "$PWD"/scheduler/tidegate-scheduler "$PWD"/server/tidegate-server "$bin/"
job=examples/own_block/job.textproto

"$bin/tidegate" config --check "$job"
"$bin/tidegate" local --config="$job" --servers=1 --workers=2 --bin_dir="$bin" --quiet \
  --run_dir="$TEST_TMPDIR/run" --summary="$TEST_TMPDIR/summary.json"
grep -q 'valid/click/auc": 0\.6' "$TEST_TMPDIR/summary.json" || {
  cat "$TEST_TMPDIR/summary.json"
  exit 1
}

refused="$("$bin/tidegate" config --check "$job" --set model.block.2.custom.type=gait 2>&1)" && exit 1
grep -q 'no custom block of type "gait" is linked into this program; there is gate (did you mean "gate"?)' \
  <<< "$refused" || { echo "$refused"; exit 1; }
refused="$("$bin/tidegate" config --check "$job" --set 'model.block.2.custom.in=["wide","fm","fm"]' 2>&1)" && exit 1
grep -q 'block "logit": a gate needs two inputs of one shape' <<< "$refused" || { echo "$refused"; exit 1; }
