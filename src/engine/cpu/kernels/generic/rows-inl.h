// Operations on single rows. Included inside an ISA namespace after simd.h and math-inl.h.
// Sums run over sixteen lanes and are folded in one fixed order, so they depend on the row alone.

inline Vec load_some(const float* p, int64_t n) { return n == 16 ? load(p) : load_n(p, n); }
inline void store_some(float* p, const Vec& x, int64_t n) {
  if (n == 16) {
    store(p, x);
  } else {
    store_n(p, x, n);
  }
}

inline float exp_row(float* x, int64_t n, float scale, float* max_out) {
  const Vec factor = set1(scale);
  Vec largest = set1(-INFINITY);
  for (int64_t i = 0; i + 16 <= n; i += 16) largest = max(largest, mul(load(x + i), factor));
  float top = reduce_max(largest);
  for (int64_t i = n / 16 * 16; i < n; ++i) top = x[i] * scale > top ? x[i] * scale : top;
  const Vec top_v = set1(top);
  Vec sum = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Vec e = exp(sub(mul(load(x + i), factor), top_v));
    store(x + i, e);
    sum = add(sum, e);
  }
  if (i < n) {
    store_n(x + i, exp(sub(mul(load_n(x + i, n - i), factor), top_v)), n - i);
    sum = add(sum, load_n(x + i, n - i));
  }
  *max_out = top;
  return reduce_add(sum);
}

inline void scale_row(float* x, int64_t n, float factor) {
  const Vec f = set1(factor);
  for (int64_t i = 0; i < n; i += 16)
    store_some(x + i, mul(load_some(x + i, n - i < 16 ? n - i : 16), f), n - i < 16 ? n - i : 16);
}

inline void rms_norm_row(float* out, const float* x, const float* weight, int64_t n, float eps) {
  Vec sum = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Vec v = load_some(x + i, n - i < 16 ? n - i : 16);
    sum = fma(v, v, sum);
  }
  const Vec scale = set1(1.0f / std::sqrt(reduce_add(sum) / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    store_some(out + i, mul(mul(load_some(x + i, m), scale), load_some(weight + i, m)), m);
  }
}

inline void layer_norm_row(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps) {
  Vec sum = zero();
  for (int64_t i = 0; i < n; i += 16) sum = add(sum, load_some(x + i, n - i < 16 ? n - i : 16));
  const float mean = reduce_add(sum) / static_cast<float>(n);
  const Vec mean_v = set1(mean);
  Vec squares = zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Vec d = sub(load(x + i), mean_v);
    squares = fma(d, d, squares);
  }
  float rest = 0;
  for (; i < n; ++i) rest += (x[i] - mean) * (x[i] - mean);
  const Vec scale = set1(1.0f / std::sqrt((reduce_add(squares) + rest) / static_cast<float>(n) + eps));
  for (int64_t j = 0; j < n; j += 16) {
    const int64_t m = n - j < 16 ? n - j : 16;
    const Vec normed = mul(sub(load_some(x + j, m), mean_v), scale);
    store_some(out + j, fma(normed, load_some(weight + j, m), load_some(bias + j, m)), m);
  }
}

inline void add_row(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    store_some(x + i, add(load_some(x + i, m), load_some(y + i, m)), m);
  }
}

inline void add_scaled_row(float* x, const float* y, float factor, int64_t n) {
  const Vec f = set1(factor);
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    store_some(x + i, fma(f, load_some(y + i, m), load_some(x + i, m)), m);
  }
}

// (a, b) -> (a cos - b sin, b cos + a sin), first halves and second halves apart.
inline void rotate(const float* a, const float* b, const float* cos, const float* sin, int64_t half, float* out) {
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t m = half - i < 16 ? half - i : 16;
    const Vec x = load_some(a + i, m), y = load_some(b + i, m), c = load_some(cos + i, m), s = load_some(sin + i, m);
    store_some(out + i, sub(mul(x, c), mul(y, s)), m);
    store_some(out + half + i, add(mul(y, c), mul(x, s)), m);
  }
}

inline void rope_row(float* x, const float* cos, const float* sin, int64_t half, bool interleaved) {
  if (!interleaved) {
    rotate(x, x + half, cos, sin, half, x);
    return;
  }
  float a[kMaxRope / 2], b[kMaxRope / 2];
  for (int64_t i = 0; i < half; ++i) {
    a[i] = x[2 * i];
    b[i] = x[2 * i + 1];
  }
  rotate(a, b, cos, sin, half, x);
}

inline void gelu_tanh_row(float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    store_some(x + i, gelu_tanh(load_some(x + i, m)), m);
  }
}

inline void silu_mul_row(float* gate, const float* up, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t m = n - i < 16 ? n - i : 16;
    store_some(gate + i, mul(silu(load_some(gate + i, m)), load_some(up + i, m)), m);
  }
}

inline void to_bf16_row(BF16* out, const float* x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store_bf16(out + i, load(x + i));
  for (; i < n; ++i) out[i] = to_bf16(x[i]);
}

inline void to_float_row(float* out, const BF16* x, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load_bf16(x + i));
  for (; i < n; ++i) out[i] = to_float(x[i]);
}
