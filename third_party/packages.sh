# Sourced by quickstart.sh and test.sh, from the root of the tree.

# install_packages [WORD]: the build's packages of third_party/packages.txt and those marked WORD; only
# what is missing.
install_packages() {
  local word="${1:-}" name mark missing=() sudo=()
  while read -r name mark; do
    [[ -z "$name" || "$name" == \#* ]] && continue
    [[ -n "$mark" && "$mark" != "$word" ]] && continue
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" == installed ]] || missing+=("$name")
  done < third_party/packages.txt
  [[ ${#missing[@]} -eq 0 ]] && return 0
  if ! command -v apt-get > /dev/null; then
    echo "missing, and there is no apt-get to install them: ${missing[*]}" >&2
    return 1
  fi
  if [[ "$(id -u)" != 0 ]]; then
    if ! command -v sudo > /dev/null; then
      echo "not root and no sudo; install first: apt-get install ${missing[*]}" >&2
      return 1
    fi
    sudo=(sudo)
  fi
  echo "installing ${missing[*]}" >&2
  "${sudo[@]}" apt-get update -qq > /dev/null || return 1
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null
}

# Of what compiles, nothing is printed but errors: GCC 12 warns falsely inside Abseil and the standard library.
BAZEL_FLAGS=(--config=ci --output_filter=NOTHING^ "--disk_cache=${TIDEGATE_DISK_CACHE:-$HOME/.cache/tidegate-bazel}")
BINARIES=(tidegate tidegate-scheduler tidegate-server tidegate-worker)
BINARY_TARGETS=(//cli:tidegate //scheduler:tidegate-scheduler //server:tidegate-server //worker:tidegate-worker)

# No source is newer than bin/.
binaries_are_new() {
  [[ -e bin/.built && -z "$(find WORKSPACE .bazelrc cli common cuda proto scheduler server third_party worker \
      -newer bin/.built -print -quit)" ]]
}

# build_binaries: to bin/, unless they are new.
build_binaries() {
  local target
  if binaries_are_new; then
    return 0
  fi
  mkdir -p bin
  touch bin/.building
  # A moving line on a terminal; elsewhere a plain one now and then, with how many of how many actions are done.
  local progress=(--show_progress --show_progress_rate_limit=30)
  [[ -t 2 ]] && progress=(--show_progress --curses=yes)
  bazel build "${BAZEL_FLAGS[@]}" "${progress[@]}" "${BINARY_TARGETS[@]}" || return 1
  local out
  out="$(bazel info "${BAZEL_FLAGS[@]}" bazel-bin 2> /dev/null)" || return 1
  for target in "${BINARY_TARGETS[@]}"; do
    target="${target#//}"
    install -m 755 "$out/${target/://}" "bin/${target#*:}.new" && mv -f "bin/${target#*:}.new" "bin/${target#*:}" || return 1
  done
  mv bin/.building bin/.built
}
