# Sourced by the other scripts: root folder, Python, and how to say things.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

python=${RINGWEAVE_PYTHON:-$root/.venv/bin/python}
export RINGWEAVE_PYTHON=$python

# Parallel compile jobs: a unit that includes torch's headers takes 1 GB.
jobs=${RINGWEAVE_JOBS:-$(nproc)}

say() { printf '== %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# configure PRESET [CMake options]; quiet unless it fails.
configure() {
  local log
  mkdir -p build
  log=$(mktemp "build/configure.XXXXXX")
  if ! cmake --preset "$1" -DRINGWEAVE_PYTHON="$python" "${@:2}" \
    >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "configuring the preset $1 failed"
  fi
  rm -f "$log"
}

# The minor versions of torch that this builds against.
torch_minors=$(sed -n 's/^TORCH = (\(.*\))$/\1/p' python/ringweave/_library.py |
  tr -d '",')

# fits_torch VERSION
fits_torch() {
  [[ " $torch_minors " == *" $(cut -d. -f1-2 <<<"$1") "* ]]
}
