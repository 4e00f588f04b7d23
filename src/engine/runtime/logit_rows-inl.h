// The passes of logit_rows.h for one instruction set: included inside a namespace of its own, once for each. Loops are
// written for the compiler to take as many values at a time as there the registers hold; no result depends on it.

VL2_ALWAYS_INLINE double exp_nonpositive(double x) {
  // Masks instead of choices, which would be branches.
  const int64_t inside = -static_cast<int64_t>(x >= kLeast);
  const auto kept = __builtin_bit_cast(
      double, (__builtin_bit_cast(int64_t, x) & inside) | (__builtin_bit_cast(int64_t, kLeast) & ~inside));
  const double rounded = kept * kLog2E + kRounder;
  const double k = rounded - kRounder;
  const double r = (kept - k * kLn2High) - k * kLn2Low;
  // By pairs of pairs: in one chain each product would wait for the one before it.
  const double r2 = r * r, r4 = r2 * r2;
  const auto two = [&](size_t i) { return kSeries[i] + kSeries[i + 1] * r; };
  const auto four = [&](size_t i) { return two(i) + two(i + 2) * r2; };
  const double value = (four(0) + four(4) * r4) + (four(8) + two(12) * r4) * (r4 * r4);
  // 2^k: k goes where the exponent is; what lies above its bits is shifted out.
  const auto power =
      __builtin_bit_cast(double, (__builtin_bit_cast(int64_t, rounded) << 52) + __builtin_bit_cast(int64_t, 1.0));
  return __builtin_bit_cast(double, __builtin_bit_cast(int64_t, value * power) & inside);
}

bool all_usable(const float* x, size_t n) {
  int bad = 0;
  for (size_t i = 0; i < n; ++i) bad |= static_cast<int>(!(x[i] <= kMost));
  return bad == 0;
}

template <typename T>
VL2_ALWAYS_INLINE T largest_of(const T* x, size_t n) {
  T best[kLanes];
  for (T& lane : best) lane = static_cast<T>(-kInfinity);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) best[l] = x[i + l] > best[l] ? x[i + l] : best[l];
  for (; i < n; ++i) best[0] = x[i] > best[0] ? x[i] : best[0];
  T top = best[0];
  for (const T lane : best) top = lane > top ? lane : top;
  return top;
}
float largest_float(const float* x, size_t n) { return largest_of(x, n); }
double largest_double(const double* x, size_t n) { return largest_of(x, n); }

double sum(const double* x, size_t n) {
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) sums[l] += x[i + l];
  double total = 0;
  for (const double lane : sums) total += lane;
  for (; i < n; ++i) total += x[i];
  return total;
}

void exp_row(double* x, size_t n) {
  for (size_t i = 0; i < n; ++i) x[i] = exp_nonpositive(x[i]);
}

double sum_exp(const float* x, size_t n, double shift) {
  double piece[kPiece];
  double total = 0;
  for (size_t begin = 0; begin < n; begin += kPiece) {
    const size_t count = n - begin < kPiece ? n - begin : kPiece;
    for (size_t i = 0; i < count; ++i) piece[i] = exp_nonpositive(static_cast<double>(x[begin + i]) - shift);
    total += sum(piece, count);
  }
  return total;
}

constexpr LogitKernels kKernels = {all_usable, largest_float, largest_double, sum, exp_row, sum_exp};
