#!/usr/bin/env bash
# The checks of the CUDA backend, on a machine with a GPU: right first, then fast.
#
#   scripts/gpu_check.sh [-b BUILD] [-o LOGS] [PART...]
#   scripts/gpu_check.sh --stage [-b BUILD] FILE.tgz    packs what the parts need, to be unpacked and run elsewhere
#
# Parts (default: all but sanitize): conformance variants golden nano divided drawn sanitize bench
# BUILD is a build folder (default: build/cuda), or where a FILE.tgz was unpacked. LOGS (default: build/gpu_check) gets a
# file for each part; a line for each goes to stdout. Exit code 1 if any part failed.
#
#   cmake --preset release -B build/cuda -DVL2_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=90 && cmake --build build/cuda
#
# cuBLASLt is looked for on LD_LIBRARY_PATH, under /usr/local/cuda and among Python's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(tests/conformance/vl2_conformance_test tests/parity/vl2_variants_test tests/parity/vl2_golden_test
  tests/runtime/vl2_nano_slow_test vl2)
golden_model=b_small_mla_bf16
build=build/cuda logs=build/gpu_check stage='' parts=()
while [ $# -gt 0 ]; do
  case $1 in
    -b) build=$2; shift 2 ;;
    -o) logs=$2; shift 2 ;;
    --stage) stage=yes; shift ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "gpu_check: unknown option '$1' (see --help)" >&2; exit 2 ;;
    *) parts+=("$1"); shift ;;
  esac
done

if [ -n "$stage" ]; then
  file=${parts[0]:?a file to write}
  to=$(mktemp -d)
  trap 'rm -rf "$to"' EXIT
  mkdir -p "$to/lib" "$(dirname "$file")"
  for program in "${programs[@]}"; do
    [ -x "$build/$program" ] || { echo "gpu_check: $build/$program is not built" >&2; exit 1; }
    mkdir -p "$to/$(dirname "$program")"
    strip -o "$to/$program" "$build/$program"
    # Everything but what belongs to the C library.
    ldd "$build/$program" | awk '$3 ~ /^\// {print $3}' |
      { grep -vE '/(libc|libm|libdl|libpthread|librt|libutil|libgcc_s|libstdc\+\+|ld-linux[^/]*)\.so' || true; } |
      while read -r library; do cp -Lu "$library" "$to/lib/"; done
  done
  find "$to/lib" -name '*.so*' -exec strip --strip-unneeded {} +
  # Of the golden data the model whose noise in bfloat16 is known.
  if [ -n "${VL2_SHARED:-}" ]; then
    for folder in models cases; do
      mkdir -p "$to/shared/golden/$folder"
      cp -r "$VL2_SHARED/golden/$folder/$golden_model" "$to/shared/golden/$folder/"
    done
    cp "$VL2_SHARED/golden/tiles.safetensors" "$to/shared/golden/"
  fi
  tar czf "$file" -C "$to" .
  ls -lh "$file"
  exit 0
fi

[ -d "$build" ] || { echo "gpu_check: there is no folder $build" >&2; exit 2; }
build=$(realpath "$build")
mkdir -p "$logs"
[ ${#parts[@]} -gt 0 ] || parts=(conformance variants golden nano divided drawn bench)

path=${LD_LIBRARY_PATH:-}
if [ -d "$build/lib" ]; then path=$build/lib:$path; fi
if ! ldconfig -p | grep -q 'libcublasLt.so.13'; then
  for folder in /usr/local/cuda/lib64 $(python3 -c 'import sys; print("\n".join(sys.path))' 2>/dev/null); do
    found=$(find -L "$folder" -maxdepth 4 -name libcublasLt.so.13 2>/dev/null | head -n 1 || true)
    if [ -n "$found" ]; then path=$path:$(dirname "$found"); break; fi
  done
fi
export LD_LIBRARY_PATH=$path VL2_SOURCE_DIR=$PWD
if [ -d "$build/shared" ]; then export VL2_SHARED=$build/shared; fi

failed=0
part() {  # NAME COMMAND...
  local name=$1 start=$SECONDS status=0
  shift
  "$@" >"$logs/$name.log" 2>&1 || status=$?
  if grep -q 'Running 0 tests' "$logs/$name.log"; then status=3; echo "no test ran: is there a GPU?" >>"$logs/$name.log"; fi
  printf '%-12s %s %4d s  %s\n' "$name" "$([ $status -eq 0 ] && echo ok || echo "FAILED ($status)")" \
    $((SECONDS - start)) "$(grep -E '^\[  (PASSED|SKIPPED) |tests? (failed|FAILED)|FAILED TEST' "$logs/$name.log" | tr '\n' ' ' | head -c 200)"
  if [ $status -ne 0 ]; then
    failed=1
    grep -E '^\[  FAILED  \] .*\(|: Failure|rror|no test ran' "$logs/$name.log" | sort | uniq -c | sort -rn | head -n 20 || true
  fi
}

# as_cpu NAME [OPTION...]: a GPU answers with these options as the CPU does. `shared` is options of both.
as_cpu() {
  local name=$1 where expected found status=0
  shift
  for where in '1-shapes-and-text.png Tell me the colour of the triangle.' '8-numbers.png Where is <|ref|>the text<|/ref|>?'; do
    expected=$("$build/vl2" ask -m models/nano --device cpu --compute f32 "${shared[@]}" -i "examples/${where%% *}" "${where#* }")
    found=$("$build/vl2" ask -m models/nano --device cuda --compute f32 "${shared[@]}" "$@" -i "examples/${where%% *}" "${where#* }")
    echo "$name: $found"
    [ -n "$found" ] && [ "$found" = "$expected" ] || { echo "error: the CPU says $expected"; status=1; }
  done
  return $status
}

# Experts of some layers on the GPU, the others' on the CPU.
divided() {
  local layers status=0 shared=(--temperature 0)
  for layers in 0 1 3; do as_cpu "$layers layers on the GPU" --gpu-layers "$layers" || status=1; done
  return $status
}

# Tokens that are drawn, with the same seed: by the GPU there, by the sampler on the CPU.
drawn() {
  local status=0 shared rule
  for rule in '--temperature 1' '--temperature 2 --top-p 0.9' '--temperature 3 --top-k 40 --min-p 0.01' \
    '--temperature 2 --repetition-penalty 1.3' '--temperature 0 --repetition-penalty 1.5'; do
    read -ra shared <<<"$rule --seed 7"
    as_cpu "$rule" || status=1
  done
  return $status
}

bench() {
  "$build/vl2" bench all --preset tiny --device cuda --tiles 10 --tokens 2048 --context 512 --batch 1,8 --repeats 3 --ops &&
    "$build/vl2" bench decode --preset tiny --format q4 --device cuda --context 512 --batch 1,8 --repeats 3 --ops
}

nvidia-smi --query-gpu=name,driver_version,memory.free --format=csv,noheader 2>/dev/null || echo "no nvidia-smi"
for name in "${parts[@]}"; do
  case $name in
    conformance) part $name "$build/tests/conformance/vl2_conformance_test" --gtest_filter='*/cuda*' ;;
    variants) part $name "$build/tests/parity/vl2_variants_test" --gtest_filter='*/cuda*' ;;
    golden) part $name "$build/tests/parity/vl2_golden_test" --gtest_filter="*/cuda*$golden_model*" ;;
    nano) part $name "$build/tests/runtime/vl2_nano_slow_test" --gtest_filter='Gpu/*' ;;
    divided | drawn) part "$name" "$name" ;;
    sanitize)
      if command -v compute-sanitizer >/dev/null; then
        part $name compute-sanitizer --error-exitcode 9 "$build/tests/conformance/vl2_conformance_test" \
          --gtest_filter='*Ops*/cuda*'
      else
        echo "sanitize     left out: no compute-sanitizer"
      fi
      ;;
    bench) part $name bench; grep -vE '^$' "$logs/bench.log" | cut -c1-160 | head -n 80 ;;
    *) echo "gpu_check: no part '$name'" >&2; exit 2 ;;
  esac
done
exit $failed
