# Sourced by the tests of this folder: expectations on the exit code and output of a command.
# shellcheck shell=bash
# shellcheck disable=SC2034  # "top" is for the sourcing tests
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0
checks=0

# expect EXIT_CODE TEXT COMMAND...: the command ends with this code and prints TEXT (stdout or stderr; empty: anything).
expect() {
  local code=$1 text=$2 output status=0
  shift 2
  output=$("$@" 2>&1) || status=$?
  checks=$((checks + 1))
  if [ "$status" -ne "$code" ] || { [ -n "$text" ] && [[ "$output" != *"$text"* ]]; }; then
    failures=$((failures + 1))
    printf 'FAILED: %s\n  wanted exit code %s and: %s\n  got exit code %s and:\n%s\n' "$*" "$code" "$text" "$status" "$output"
  fi
}

# put FILE: writes standard input to FILE below $scratch.
put() {
  mkdir -p "$(dirname "$scratch/$1")"
  cat >"$scratch/$1"
}

finish() {
  if [ "$checks" -eq 0 ]; then echo "no expectation was checked"; exit 1; fi
  echo "$checks expectations, $failures failed"
  [ "$failures" -eq 0 ]
}
