#!/usr/bin/env bash
# Run every study, experiment and benchmark in small, one after the other, and say how long each took and whether it passed.
#
#     CDANALYSIS_DATA=/path/to/data tools/quick.sh [WORD ...]
#
# Words choose: tools/quick.sh evaluate/kodak benchmark. What they print is in runs/quick/NAME.log; so are their results, but
# for those of experiments, which are under runs/experiments.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0

run() {
  local name=$1 started=$SECONDS outcome=passed
  shift
  if [ ${#words[@]} -gt 0 ] && ! grep -qF -f <(printf '%s\n' "${words[@]}") <<<"$name"; then return; fi
  mkdir -p "$(dirname "runs/quick/$name")"
  "$@" >"runs/quick/$name.log" 2>&1 || { outcome="failed: $(tail -n 1 "runs/quick/$name.log")" failed=1; }
  printf '%5d s  %-34s %s\n' $((SECONDS - started)) "$name" "$outcome"
}

words=("$@")
for file in configs/evaluate/*.yaml; do
  name=$(basename "$file" .yaml)
  run "evaluate/$name" cdanalysis evaluate "$file" preset=quick -o "runs/quick/$name"
done
for file in configs/experiments/*.yaml; do
  run "experiments/$(basename "$file" .yaml)" python tools/experiment.py "$file" preset=quick
done
for section in $(python -c "from cdanalysis.cli import SECTIONS; print(*SECTIONS)"); do
  run "benchmark/$section" cdanalysis benchmark "$section" --repeats 1
done
exit $failed
