#!/usr/bin/env bash
# From a fresh Debian 12 to a trained model:
#   ./quickstart.sh             a generated click log, DeepFM, 1 scheduler, 2 servers, 2 workers
#   ./quickstart.sh movielens   the same on MovieLens-100K: will a user like a film?
# Further arguments go to `tidegate local` (-v, --staleness=4, --set train.epochs=2, ...).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source third_party/packages.sh

case "${1:-}" in
  -h | --help)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  movielens)
    job=movielens
    shift
    ;;
  "" | -*) job=quickstart ;;
  *)
    echo "quickstart.sh: no job \"$1\": movielens, or nothing" >&2
    exit 2
    ;;
esac

install_packages "$job"
if ! binaries_are_new; then
  echo "building (some minutes the first time) ..." >&2
  build_binaries
  bazel shutdown  # it would keep memory
fi

if [[ "$job" == movielens ]]; then
  python=/usr/bin/python3
  "$python" configs/movielens.py data/movielens
fi
exec bin/tidegate local --config="configs/$job.textproto" --servers=2 --workers=2 --quiet \
  --fresh --checkpoint_dir="tidegate-run/$job-checkpoint" --summary="tidegate-run/$job-summary.json" "$@"
