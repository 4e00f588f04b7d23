// What the kernels share: bf16 rows as the compiler's own vectors, once for each instruction set. Included inside a
// namespace of a target region, after all headers; VL2_ALWAYS_INLINE says how helpers get into it.

// Sixteen at a time, in the compiler's own vectors: it makes of them what the target has. Left to itself it does not
// vectorise the exponential.
constexpr int64_t kWidth = 16;
using Floats = float __attribute__((vector_size(4 * kWidth)));
using Ints = int32_t __attribute__((vector_size(4 * kWidth)));
using Words = uint32_t __attribute__((vector_size(4 * kWidth)));
using Halves = uint16_t __attribute__((vector_size(2 * kWidth)));

VL2_ALWAYS_INLINE int64_t left(int64_t n, int64_t i) { return n - i < kWidth ? n - i : kWidth; }

VL2_ALWAYS_INLINE Floats load(const Half* x, int64_t count, Half fill = 0) {
  Halves halves;
  if (count == kWidth) {
    std::memcpy(&halves, x, sizeof(halves));
  } else {
    halves = Halves{} + fill;
    std::memcpy(&halves, x, static_cast<size_t>(count) * sizeof(Half));
  }
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
}

// To nearest, ties to even. NaNs become some NaN or infinity; both are found by whoever looks for what is not finite.
VL2_ALWAYS_INLINE Words rounded(Floats x) {
  const auto bits = reinterpret_cast<Words>(x);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
VL2_ALWAYS_INLINE void store(Half* y, Floats x, int64_t count) {
  const Halves halves = __builtin_convertvector(rounded(x), Halves);
  if (count == kWidth) {
    std::memcpy(y, &halves, sizeof(halves));
  } else {
    std::memcpy(y, &halves, static_cast<size_t>(count) * sizeof(Half));
  }
}
VL2_ALWAYS_INLINE Floats round_to_half(Floats x) { return reinterpret_cast<Floats>(rounded(x) << 16); }

// y[0, count) += x
VL2_ALWAYS_INLINE void add_to(float* y, Floats x, int64_t count) {
  if (count == kWidth) {
    Floats sum;
    std::memcpy(&sum, y, sizeof(sum));
    sum += x;
    std::memcpy(y, &sum, sizeof(sum));
  } else {
    for (int64_t i = 0; i < count; ++i) y[i] += x[i];
  }
}

VL2_ALWAYS_INLINE float total(Floats x) {
  float sum = 0;
  for (int64_t i = 0; i < kWidth; ++i) sum += x[i];
  return sum;
}

// e^x with an error of some 2^-23: 2^n times a polynomial of the rest, fitted to 2^f for |f| <= 1/2. Below -87 the
// result is as good as 0.
VL2_ALWAYS_INLINE Floats exponential(Floats x) {
  constexpr float kLog2E = 1.44269504088896341f, kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Floats low = Floats{} - 87.0f, high = Floats{} + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Floats t = x * kLog2E;
  const Floats shifted = t + kMagic;
  const Floats f = t - (shifted - kMagic);
  Floats p = Floats{} + 1.5353362e-4f;
  p = p * f + 1.3398874e-3f;
  p = p * f + 9.6184373e-3f;
  p = p * f + 5.5503324e-2f;
  p = p * f + 2.4022648e-1f;
  p = p * f + 6.9314720e-1f;
  p = p * f + 1.0f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + (reinterpret_cast<Ints>(shifted) << 23));
}

constexpr Half kLowest = 0xff80;  // -infinity

// e^(x - top), 0 for -infinity.
VL2_ALWAYS_INLINE Floats shown(Floats x, float top) {
  const Floats nothing = {};
  return x == nothing - std::numeric_limits<float>::infinity() ? nothing : exponential(x - top);
}
