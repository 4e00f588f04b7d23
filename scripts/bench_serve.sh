#!/usr/bin/env bash
# What a server makes of load: starts `vl2 serve` for each model, runs `vl2 bench-serve` against it, and leaves its table and
# JSON in build/bench_serve.
#
#   scripts/bench_serve.sh [MODEL...]        model folders (default: the small one shipped with vl2)
#
#   VL2=build/release/vl2    the program
#   REPEATS=3                measured repeats, whose medians are shown
#   SERVE=...                more options of vl2 serve, BENCH=... of vl2 bench-serve
#
# Nothing else should run. A folder of a release's size with random weights, which take as long as trained ones:
#   cmake --preset release -DVL2_BENCH=ON && cmake --build --preset release --target vl2_random_model
#   build/release/bench/vl2_random_model tiny q4 OUT FILES_FROM    FILES_FROM: the files of a release's tokenizer and processor
set -euo pipefail
cd "$(dirname "$0")/.."

program=${VL2:-build/release/vl2}
[ -x "$program" ] || { echo "bench_serve: no program $program; build it, or name another one in VL2" >&2; exit 2; }
[ $# -gt 0 ] || set -- models/nano
out=build/bench_serve
mkdir -p "$out"
log=$(mktemp)
server=
end_server() {
  [ -z "$server" ] || { kill -TERM "$server" 2>/dev/null && wait "$server"; }
  server=
}
trap 'end_server || true; rm -f "$log"' EXIT

read -r -a serve_options <<<"${SERVE:-}"
read -r -a bench_options <<<"${BENCH:-}"
for model in "$@"; do
  name=$(basename "$(cd "$(dirname "$model")" && pwd)")-$(basename "$model")
  : >"$log"
  "$program" serve -m "$model" --port 0 --parallel 17 --quiet ${serve_options[@]+"${serve_options[@]}"} 2>"$log" &
  server=$!
  until grep -q 'ready, serving' "$log"; do
    kill -0 "$server" 2>/dev/null || { cat "$log" >&2; server=; exit 1; }
    sleep 0.2
  done
  url=$(grep -o 'http://[^/]*' "$log" | head -n 1)
  "$program" bench-serve --url "$url" --repeats "${REPEATS:-3}" --save "$out/$name.json" \
    ${bench_options[@]+"${bench_options[@]}"} | tee "$out/$name.txt"
  end_server || { echo "bench_serve: the server of $model did not end well" >&2; exit 1; }
done
