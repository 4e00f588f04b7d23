#!/usr/bin/env bash
# Installs what is missing, builds, runs every test, and ends with a summary: what CI runs (.ci/run).
#
#   scripts/test.sh              release with -Werror, every test and the checks under tools/, clang-tidy, ASan+UBSan, TSan
#   scripts/test.sh --quick      release and the checks only, without the tests labelled slow: the everyday suite
#
# Every step runs even if an earlier one failed, so that one run shows everything; the exit code is 1 if any step failed.
# At the end stand the tests that failed, with the end of what they printed.
# JOBS=N sets how many compile jobs and tests run at once (default: the number of cores). Reports: build/*/junit*.xml.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=false
case ${1:-} in
  '') ;;
  --quick) quick=true ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "test: unknown option '$1' (see --help)" >&2; exit 2 ;;
esac

jobs=${JOBS:-$(nproc)}
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

summary=() failures=()
passed=0 failed=0 skipped=0 broken=0

# step NAME COMMAND...: runs it, and notes how it ended and how long it took.
step() {
  local name=$1 start=$SECONDS result=ok
  shift
  printf '\n==== %s\n' "$name"
  "$@" || { result=FAILED; broken=$((broken + 1)); }
  summary+=("$(printf '%-16s %-7s %5d s   %s' "$name" "$result" $((SECONDS - start)) "${detail:-}")")
  detail=
  [ "$result" = ok ]
}

# BUILD_UNTIL=MINUTES: what is not built by then is left out, and is no failure.
build() {  # PRESET [CMAKE ARGUMENT...] [-- TARGET...]
  local preset=$1 arguments=() status=0
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do arguments+=("$1"); shift; done
  if [ $# -gt 0 ]; then shift; fi
  cmake --preset "$preset" ${arguments[@]+"${arguments[@]}"} || return 1
  if [ -z "${BUILD_UNTIL:-}" ]; then
    cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"}
    return
  fi
  # ninja itself and in the foreground, so that both the limit and Ctrl-C reach it.
  timeout --foreground -s INT $((BUILD_UNTIL * 60 - SECONDS)) ninja -C "build/$preset" -j "$jobs" "$@" || status=$?
  if [ $status -ne 124 ]; then return $status; fi
  detail="LEFT OUT: what was not built after $BUILD_UNTIL minutes"
}

# What failed, with the end of what it printed: it is said again at the very end, where whoever has only that finds it.
failures_of() {  # JUNIT_REPORT
  awk -v most=60 '
    /<testcase .* status="fail"/ { split($0, part, "\""); name = part[2]; lines = 0 }
    name != "" { line[lines++] = $0 }
    /<\/testcase>/ && name != "" {
      printf "\n---- %s\n", name
      for (i = lines > most ? lines - most : 0; i < lines; ++i) print line[i]
      name = ""
    }' "$1" | sed -e '/<\/\?\(testcase\|properties\|property\|failure\)[ >]/d' -e 's/<\/\?system-out>//g' \
    -e '/^[[:space:]]*$/d' -e 's/&lt;/</g; s/&gt;/>/g; s/&quot;/"/g; s/&apos;/'"'"'/g; s/&amp;/\&/g'
}

run_tests() {  # PRESET [CTEST ARGUMENT...]
  local preset=$1 report=$PWD/build/$1/junit.xml status=0 launch=() counts
  rm -f "$report"
  # TSan of g++ up to 13 cannot place its shadow under the address randomisation of newer kernels.
  if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then launch=(setarch "$(uname -m)" -R); fi
  ${launch[@]+"${launch[@]}"} ctest --preset "$preset" --no-tests=error -j "$jobs" --output-junit "$report" "${@:2}" || status=$?
  if [ ! -f "$report" ]; then
    detail="no test ran"
    return 1
  fi
  count() { sed -n "1,12s/^.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$report" | head -n 1; }
  counts="$(count tests) $(count failures) $(($(count skipped) + $(count disabled)))"
  read -r total bad left <<<"$counts"
  detail="$((total - bad - left)) passed, $bad failed, $left skipped"
  passed=$((passed + total - bad - left)) failed=$((failed + bad)) skipped=$((skipped + left))
  if [ "$bad" -gt 0 ]; then failures+=("$(failures_of "$report")"); fi
  # A failure all the same, but one that depends on what else runs is looked for elsewhere.
  if [ "$preset" = release ] && [ "$bad" -gt 0 ] && [ "$bad" -le 3 ]; then
    printf '\n---- what failed, three times more, alone\n'
    if timeout --foreground 600 ctest --preset "$preset" --rerun-failed --repeat until-fail:3 -j 1; then
      detail+=" (alone: passed three times)"
    else
      detail+=" (alone: failed again)"
    fi
  fi
  return "$status"
}

install_flags=()
if [ "${CI:-}" = true ]; then install_flags=(--dev --train --web); fi
step 'packages' scripts/install_deps.sh ${install_flags[@]+"${install_flags[@]}"} || true

# One GPU architecture: it takes minutes for each.
if step 'release build' build release -DVL2_WERROR=ON -DCMAKE_CUDA_ARCHITECTURES=90; then
  slow=()
  if $quick; then slow=(-LE '^slow$'); fi
  step 'release tests' run_tests release ${slow[@]+"${slow[@]}"} || true
fi
# Whoever waits for this has a limit too, of an hour and a half: a step that might not end by then is left out, and says so.
too_late() {  # NAME MINUTES
  [ $SECONDS -gt $(($2 * 60)) ] || return 1
  summary+=("$(printf '%-16s %-7s' "$1" "LEFT OUT: more than $2 minutes have gone by")")
}

# Threads live in the pool, in the runtime, in the server, in constraints that are shared and in the trainer's loader:
# TSan looks at these.
threaded=(vl2_base_test vl2_cpu_test vl2_constrain_test vl2_runtime_test vl2_nano_test vl2_constrained_nano_test
  vl2_server_test vl2_train_input_test)

if ! $quick; then
  # A bounded share: the latest changes first. Absent clang-tidy is a failure in CI only.
  # shellcheck disable=SC2016  # expanded by the inner shell
  step 'clang-tidy' bash -c 'tools/run_tidy --all --budget 180 || { status=$?; [ $status -eq 77 ]; }' || true
  # `tools` looks at sources and the release program; a sanitizer makes `slow` and `parity` last for many minutes, and
  # the clients of `web` would wait for a server that is as slow; its own tests are run.
  # So do more: the reference backend has one thread and no memory of its own to get wrong, two instruction sets are
  # enough where the engine is looked at and not its kernels, and a limit that is measured under a sanitizer says nothing.
  unhurried='_NOT_BUILT$|DraftsOnEveryBackend.*/(reference|cpu_scalar|cpu_avxvnni|cpu_avx512|cpu_avx512vnni)_|^CpuLimits\.'
  if ! too_late tsan 56 && BUILD_UNTIL=66 step 'tsan build' build tsan -- "${threaded[@]}"; then
    # Schemas that would take all memory take much of its time, on one thread, and fuzz targets have one thread.
    too_late 'tsan tests' 66 || step 'tsan tests' run_tests tsan -E "$unhurried|^(HostileSchema|Fuzz)\." -LE '^(tools|slow|parity|web)$' || true
  fi
  if ! too_late asan 68 && BUILD_UNTIL=75 step 'asan build' build asan; then
    for program in build/asan/tests/fuzz/vl2_fuzz_{grounding,constraint,http,text,request}; do
      [ -x "$program" ] || unhurried+="|^Fuzz\.${program##*_}\$"
    done
    # In parts, each of every eighth test, so that a slow machine still runs some of everything.
    for part in {1..8}; do
      too_late "asan tests $part/8" 78 || step "asan tests $part/8" run_tests asan -I "$part,,8" -E "$unhurried" \
        -LE '^(tools|slow|parity|device|web)$' || true
      if [ -f build/asan/junit.xml ]; then mv build/asan/junit.xml "build/asan/junit_$part.xml"; fi
    done
    # Thousands of threads of the software device have a stack each, and that check makes every call on one dear.
    ASAN_OPTIONS+=:detect_stack_use_after_return=0
    too_late 'asan device' 78 || step 'asan device' run_tests asan -L '^device$' -E "$unhurried" || true
  fi
fi

if [ ${#failures[@]} -gt 0 ]; then printf '\n==== tests that failed\n' && printf '%s\n' "${failures[@]}"; fi
printf '\n==== summary (%d min %d s)\n' $((SECONDS / 60)) $((SECONDS % 60))
printf '%s\n' "${summary[@]}"
if [ "$broken" -gt 0 ]; then echo "$broken of ${#summary[@]} steps FAILED"; fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$broken" -eq 0 ]
