#include "engine/runtime/logit_rows.h"

#include <array>
#include <limits>

#define VL2_ALWAYS_INLINE inline __attribute__((always_inline))

namespace vl2 {
namespace logits {

// Sums that do not wait for each other; their number decides about the last bit, so it is the same everywhere.
constexpr size_t kLanes = 16;
constexpr size_t kPiece = 512;  // doubles that stay in the first-level cache

constexpr double kLeast = -708;  // of which e^x is no subnormal number
constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;  // the first times 2^11 is exact
// Added to a small number it leaves the nearest integer in the low bits.
constexpr double kRounder = 0x1.8p52;

// The series as far as a double shows it: |r| <= ln 2 / 2, and r^14 / 14! is below 2^-57.
constexpr double kSeries[] = {
    1.0,        1.0,         1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
    1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};

constexpr float kMost = std::numeric_limits<float>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

namespace plain {
#include "engine/runtime/logit_rows-inl.h"
}  // namespace plain

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
#include "engine/runtime/logit_rows-inl.h"
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace avx512 {
#include "engine/runtime/logit_rows-inl.h"
}  // namespace avx512
#pragma GCC pop_options
#endif

}  // namespace logits

std::span<const LogitKernels* const> logit_kernels() {
#if defined(__x86_64__)
  static constexpr std::array kAll = {&logits::plain::kKernels, &logits::avx2::kKernels, &logits::avx512::kKernels};
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return std::span(kAll).first(wide ? 3 : __builtin_cpu_supports("avx2") ? 2 : 1);
#else
  static constexpr std::array kAll = {&logits::plain::kKernels};
  return kAll;
#endif
}

namespace {

const LogitKernels& best() {
  static const LogitKernels& kernels = *logit_kernels().back();
  return kernels;
}

}  // namespace

bool all_usable(std::span<const float> logits) { return best().all_usable(logits.data(), logits.size()); }
double largest(std::span<const float> x) { return best().largest_float(x.data(), x.size()); }
double largest(std::span<const double> x) { return best().largest_double(x.data(), x.size()); }
double sum(std::span<const double> x) { return best().sum(x.data(), x.size()); }
void exp_row(std::span<double> x) { best().exp_row(x.data(), x.size()); }
double sum_exp(std::span<const float> x, double shift) { return best().sum_exp(x.data(), x.size(), shift); }

}  // namespace vl2
