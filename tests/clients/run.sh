#!/usr/bin/env bash
# The clients that people use, against `PROGRAM serve` with the small model: run.sh PROGRAM [CHECKS...]
#
# Exit code 77, with the reason, where Node or the clients are not installed (scripts/install_deps.sh --web), but 1 where
# CI=true.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 0 ]; then
  echo "usage: run.sh PROGRAM [CHECKS...]" >&2
  exit 2
fi

missing() {
  echo "clients: $1; scripts/install_deps.sh --web installs it" >&2
  if [ "${CI:-}" = true ]; then exit 1; fi
  exit 77
}

node=$("$here/node.sh") || missing "Node 20.15 or newer is not installed"
# The stamp is install_deps.sh's: what was installed is what the lock file names now.
cmp -s "$here/package-lock.json" "$here/node_modules/.installed-lock.json" || missing "node_modules is absent or outdated"
exec "$node" "$here/run.mjs" "$@"
