#!/usr/bin/env bash
# Installs what the tests need, builds, and runs everything; the last line counts test cases from the
# reports of Catch2 and pytest.
#   ./test.sh         everything: optimised, ASan + UBSan, TSan, fuzz targets, simulation, integration
#   ./test.sh quick   optimised tests, tidiness and integration: under 10 minutes
# TIDEGATE_FUZZ_SECONDS (20, for each target) and TIDEGATE_DATA (../shared/data) may be set.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source third_party/packages.sh

mode="${1:-full}"
if [[ "$mode" != full && "$mode" != quick ]]; then
  sed -n '2,6s/^# \{0,1\}//p' "$0"
  exit 2
fi
install_packages test || exit 1
if [[ -z "${TIDEGATE_DATA:-}" && -d ../shared/data ]]; then
  TIDEGATE_DATA="$(cd ../shared/data && pwd)"
  export TIDEGATE_DATA
fi

reports="$(mktemp -d)"
counts="$reports/counts"
touch "$counts"
trap 'bazel shutdown > /dev/null 2>&1; rm -rf "$reports"' EXIT

say() { printf '\n=== %s (%ds)\n' "$1" "$SECONDS"; }

# bazel_stage NAME FLAGS-AND-TARGETS...
bazel_stage() {
  local name="$1" status
  shift
  say "$name"
  bazel test "${BAZEL_FLAGS[@]}" -k --nocache_test_results --test_output=errors --test_summary=terse \
    "--build_event_json_file=$reports/events.json" "$@" < /dev/null 2>&1 | grep -v '^INFO: \|^Loading\|^Analyzing'
  status="${PIPESTATUS[0]}"
  if [[ "$status" == 4 ]]; then  # no test matches the filter
    status=0
  fi
  /usr/bin/python3 tests/results.py bazel "$name" "$reports/events.json" "$status" >> "$counts"
  rm -f "$reports/events.json"
}

# pytest_stage NAME PATHS...
pytest_stage() {
  local name="$1" status
  shift
  say "$name"
  /usr/bin/python3 -m pytest -q -p no:cacheprovider "--junitxml=$reports/pytest.xml" "$@" < /dev/null
  status=$?
  /usr/bin/python3 tests/results.py junit "$name" "$reports/pytest.xml" "$status" >> "$counts"
  rm -f "$reports/pytest.xml"
}

pytest_stage "tidy" tests/tidy tests/scripts
pytest_stage "python" tests/python
say "binaries"
build_binaries 2>&1 | grep -v '^INFO: \|^Loading\|^Analyzing'
[[ "${PIPESTATUS[0]}" == 0 ]] || echo "0 1 0 build of the binaries" >> "$counts"
if [[ "$mode" == quick ]]; then
  bazel_stage "optimised" --test_tag_filters=-fuzz,-slow,-manual --build_tests_only //...
  pytest_stage "integration" -n 2 --dist=loadfile -m "not slow" tests/integration
else
  bazel_stage "optimised" --test_tag_filters=-fuzz,-manual --build_tests_only //...
  pytest_stage "integration" -n 2 --dist=loadfile tests/integration
  bazel_stage "ASan + UBSan" --config=asan --test_tag_filters=-fuzz,-slow,-manual,-noasan --build_tests_only //tests/...
  bazel_stage "fuzz" --config=asan --test_tag_filters=fuzz --build_tag_filters=fuzz --build_tests_only \
    "--test_arg=--seconds=${TIDEGATE_FUZZ_SECONDS:-20}" --test_timeout=600 //tests/...
  bazel_stage "TSan" --config=tsan --test_tag_filters=tsan --build_tag_filters=tsan --build_tests_only //tests/...
fi
say "results"
/usr/bin/python3 tests/results.py total "$counts"
