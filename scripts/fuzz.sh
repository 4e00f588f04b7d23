#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs them, one after the other (docs/fuzzing.md).
#
#   scripts/fuzz.sh [--seconds N] [--merge] [TARGET...]
#
# Targets (default: all): constraint grounding http request text
# N seconds in all, shared by the targets (default: 600). What was found stays in build/fuzz-corpus, and the next run goes
# on from there; inputs that break a property are in build/fuzz-findings. --merge adds what reaches new code to the
# committed corpus, tests/fuzz/corpus, as few and small inputs as will do.
# JOBS=N sets how many compile jobs run at once (default: the number of cores). Exit code 1 if any target found something.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=600 merge= targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?a number}; shift 2 ;;
    --merge) merge=yes; shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "fuzz: unknown option '$1' (see --help)" >&2; exit 2 ;;
    *) targets+=("$1"); shift ;;
  esac
done
all=()
for file in tests/fuzz/fuzz_*.cc; do
  name=${file##*/fuzz_}
  all+=("${name%.cc}")
done
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")
for target in "${targets[@]}"; do
  [ -f "tests/fuzz/fuzz_$target.cc" ] || { echo "fuzz: no target $target; there are ${all[*]}" >&2; exit 2; }
done
command -v clang++ >/dev/null || { echo "fuzz: clang++ is missing: apt-get install clang" >&2; exit 1; }

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "${JOBS:-$(nproc)}" --target "${targets[@]/#/vl2_fuzz_}"

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
each=$((seconds / ${#targets[@]})) broken=0
for target in "${targets[@]}"; do
  corpus=build/fuzz-corpus/$target committed=tests/fuzz/corpus/$target findings=build/fuzz-findings/$target
  mkdir -p "$corpus" "$committed" "$findings"
  arguments=(-max_len=4096 -timeout=60 -rss_limit_mb=4096 -use_value_profile=1 -print_final_stats=1
    "-artifact_prefix=$findings/")
  [ ! -f "tests/fuzz/$target.dict" ] || arguments+=("-dict=tests/fuzz/$target.dict")
  echo "==== $target, $each s"
  if ! "build/fuzz/tests/fuzz/vl2_fuzz_$target" "${arguments[@]}" "-max_total_time=$each" "$corpus" "$committed" \
    >"$findings/log" 2>&1; then
    broken=1
    grep -v '^#' "$findings/log" | tail -n 40
  fi
  grep '^#' "$findings/log" | tail -n 1
  grep '^stat::\(number\|average\|peak\)' "$findings/log" || true
  if [ -n "$merge" ]; then
    fresh=$(mktemp -d)
    "build/fuzz/tests/fuzz/vl2_fuzz_$target" -merge=1 -max_len=1024 "$fresh" "$committed" "$corpus" >"$findings/merge.log" 2>&1
    rm -f "$committed"/*
    cp "$fresh"/* "$committed"
    rm -rf "$fresh"
    echo "$committed: $(find "$committed" -type f | wc -l) files"
  fi
done
exit $broken
