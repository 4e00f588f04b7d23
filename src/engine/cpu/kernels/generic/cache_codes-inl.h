// Rows of a cache in 8 bits: whole numbers from -127 to 127 in groups of kCacheGroup values, each with a scale in bf16.
// Included inside an ISA namespace after codes.h.

// Up to kCacheGroup values; returns the scale. Of values that are no numbers it is none, so that nobody takes them for
// numbers.
inline BF16 to_codes(const float* x, int64_t n, int8_t* out) {
  alignas(64) float padded[kCacheGroup] = {};
  alignas(64) int8_t bytes[kCacheGroup];
  for (int64_t i = 0; i < n; ++i) padded[i] = x[i];
  Vec largest = zero(), poison = zero();
  for (int64_t i = 0; i < kCacheGroup / 16; ++i) {
    const Vec v = load(padded + 16 * i);
    largest = max(largest, max(v, sub(zero(), v)));
    poison = fma(v, zero(), poison);  // maximum loses a NaN, this does not
  }
  const BF16 scale = to_bf16((reduce_max(largest) + reduce_add(poison)) / 127.0f);
  const float inverse = 1.0f / to_float(scale);
  if (!(inverse > 0.0f && inverse < INFINITY)) {
    for (int64_t i = 0; i < n; ++i) out[i] = 0;
    return scale;
  }
  const Vec factor = set1(inverse), most = set1(127.0f), least = set1(-127.0f);
  for (int64_t i = 0; i < kCacheGroup; i += 64) {
    Vec v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) v[j] = max(least, min(most, mul(load(padded + i + 16 * j), factor)));
    store_bytes(bytes + i, v);
  }
  std::memcpy(out, bytes, static_cast<size_t>(n));
  return scale;
}

inline void to_codes_row(int8_t* codes, BF16* scales, int64_t stride, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += kCacheGroup)
    scales[i / kCacheGroup * stride] = to_codes(x + i, n - i < kCacheGroup ? n - i : kCacheGroup, codes + i);
}

inline void from_codes_row(float* out, const int8_t* codes, const BF16* scales, int64_t stride, int64_t n) {
  const auto scale = [&](int64_t i) { return to_float(scales[i / kCacheGroup * stride]); };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, mul(load_signed(codes + i), set1(scale(i))));
  for (; i < n; ++i) out[i] = static_cast<float>(codes[i]) * scale(i);
}
