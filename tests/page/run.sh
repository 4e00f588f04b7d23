#!/usr/bin/env bash
# The page of `vl2 serve` in a browser: starts the program on a free port, runs the tests, ends it.
#
#   tests/page/run.sh PROGRAM [FOLDER [NAME]]     FOLDER: for screenshots (default: page-screenshots beside the program)
#                                               NAME: only tests whose name holds it
#
# Exit code 0: all is well, 1: something is not, 77: skipped, because node, its packages (npm ci in this folder) or chromium
# are not here. With CI=true nothing is skipped: what is missing is a failure. VL2_CHROMIUM names another browser.
set -euo pipefail
program=$(realpath "${1:?usage: run.sh PROGRAM [FOLDER]}")
folder=$(realpath -m "${2:-$(dirname "$program")/page-screenshots}")
cd "$(dirname "$0")"

missing() {
  echo "page: skipped: $1" >&2
  if [ "${CI:-}" = true ]; then exit 1; fi
  exit 77
}
node=$(../clients/node.sh) || missing "no node that is new enough (scripts/install_deps.sh --web)"
[ -d node_modules/playwright-core ] || missing "no node_modules here (npm ci in tests/page)"
VL2_CHROMIUM=${VL2_CHROMIUM:-$(command -v chromium || command -v chromium-browser || true)}
[ -n "$VL2_CHROMIUM" ] || missing "chromium is not installed (scripts/install_deps.sh --web)"
export VL2_CHROMIUM

scratch=$(mktemp -d)
servers=()
end() {
  status=$?
  for server in ${servers[@]+"${servers[@]}"}; do kill "$server" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$scratch"
  exit "$status"
}
trap end EXIT

# start NAME OPTION...: sets `url` once the model is loaded.
start() {
  local name=$1
  shift
  "$program" serve -m ../../models/nano --port 0 --threads 2 --drain-timeout 1 "$@" 2>"$scratch/$name.log" &
  servers+=($!)
  for _ in $(seq 600); do
    if grep -q 'ready, serving' "$scratch/$name.log"; then
      url=$(sed -n 's|^vl2 serve: \(http://[^/]*\)/v1.*|\1|p' "$scratch/$name.log")
      return
    fi
    kill -0 "${servers[-1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "page: the server did not start:" >&2
  cat "$scratch/$name.log" >&2
  exit 1
}
start open --quiet
open=$url
start locked --quiet --api-key secret-of-the-test
locked=$url

mkdir -p "$folder"
"$node" all.mjs "$open" "$locked" "$folder" "${3:-}"
