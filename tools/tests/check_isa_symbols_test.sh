#!/usr/bin/env bash
# tools/check_isa_symbols accepts AVX inside the kernel namespaces and finds it anywhere else.
source "$(dirname "$0")/lib.sh"
if [ "$(uname -m)" != x86_64 ]; then
  echo "skipped: this is $(uname -m) and the rule is about x86-64"
  exit 77
fi

put kernel.cc <<'END'
template <typename Fn>
__attribute__((noinline)) float apply(const Fn& fn, int i) { return fn(i); }
#pragma GCC push_options
#pragma GCC target("avx2,avx512f")
typedef float f8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
namespace vl2::cpu::avx2 {
template <typename T>
T twice(const T* x) {
  const f8 v = *reinterpret_cast<const f8*>(x);
  return (v + v)[0];
}
float sum(const float* x, int n) {
  f8 s = {};
  for (int i = 0; i < n; i += 8) s += *reinterpret_cast<const f8*>(x + i);
  return apply([&](int i) { return (s + s)[i & 7]; }, n) + twice<float>(x);
}
}  // namespace vl2::cpu::avx2
namespace vl2::cpu::avx512 {
void fill(float* x) { *reinterpret_cast<f16*>(x) += 1.0f; }
}  // namespace vl2::cpu::avx512
#if defined(FREE_FUNCTION)
float stray(const float* x) { return (*reinterpret_cast<const f8*>(x) * 2.0f)[3]; }
#elif defined(OTHER_NAMESPACE)
namespace vl2::cpu::avx2x {
float stray(const float* x) { return (*reinterpret_cast<const f8*>(x) * 2.0f)[3]; }
}
#elif defined(TEMPLATE_ARGUMENT)
// A shared template made AVX code by what it is instantiated with: its name mentions the namespace, it does not live there.
namespace vl2::cpu::avx2 {
struct Tag {};
}
template <typename T>
__attribute__((target("avx2"), noinline)) float stray(const float* x) {
  return (*reinterpret_cast<const f8*>(x) * 2.0f)[3];
}
template float stray<vl2::cpu::avx2::Tag>(const float*);
#elif defined(BMI)
__attribute__((target("bmi2"))) unsigned long stray(unsigned long x, unsigned long y) {
  return __builtin_ia32_pdep_di(x, y);
}
#endif
#pragma GCC pop_options
int main(int argc, char**) {
  float x[64] = {};
  if (argc > 5) {
    vl2::cpu::avx512::fill(x);
    return static_cast<int>(vl2::cpu::avx2::sum(x, argc));
  }
  return 0;
}
END
compile() { "${CXX:-c++}" -std=c++20 -O2 -c "$scratch/kernel.cc" -o "$scratch/$1.o" "${@:2}"; }

compile good
"${CXX:-c++}" "$scratch/good.o" -o "$scratch/good"
expect 0 " 0 violations" "$top/tools/check_isa_symbols" "$scratch/good.o" "$scratch/good"
for case in FREE_FUNCTION OTHER_NAMESPACE TEMPLATE_ARGUMENT BMI; do
  compile "$case" "-D$case"
  expect 1 "stray" "$top/tools/check_isa_symbols" "$scratch/$case.o"
done
compile whole_file -mavx2  # the mistake of per-file flags: shared code becomes AVX code
expect 1 "main: v" "$top/tools/check_isa_symbols" "$scratch/whole_file.o"

mkdir "$scratch/folder"
expect 2 "no program vl2" "$top/tools/check_isa_symbols" "$scratch/folder"
cp "$scratch/good" "$scratch/folder/vl2"
ar rc "$scratch/folder/libshared.a" "$scratch/FREE_FUNCTION.o"
expect 1 "stray" "$top/tools/check_isa_symbols" "$scratch/folder"
strip -o "$scratch/stripped" "$scratch/good"
expect 1 "no function names" "$top/tools/check_isa_symbols" "$scratch/stripped"
expect 2 "does not exist" "$top/tools/check_isa_symbols" "$scratch/absent"
finish
