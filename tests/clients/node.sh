#!/usr/bin/env bash
# Prints which Node the clients run on: the machine's, if it is 20.15 or newer, or the one that scripts/install_deps.sh
# --web puts into node/. Exit code 1 without either.
here=$(cd "$(dirname "$0")" && pwd)
for node in node "$here"/node/node_modules/node-linux-*/bin/node; do
  command -v "$node" >/dev/null || continue
  # Read by very old ones, too.
  if "$node" -e 'var v = process.versions.node.split(".").map(Number); process.exit(v[0] > 20 || (v[0] == 20 && v[1] >= 15) ? 0 : 1)'; then
    command -v "$node"
    exit 0
  fi
done
exit 1
