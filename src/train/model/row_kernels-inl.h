// The row kernels in the compiler's own vectors, once for each instruction set. Included inside a namespace of a target
// region, after all headers; VL2_ALWAYS_INLINE says how helpers get into it.

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

// tanh of the argument of gelu's approximation.
VL2_ALWAYS_INLINE Floats gelu_tanh_of(Floats x) {
  const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
  return 1.0f - 2.0f / (exponential(2.0f * u) + 1.0f);
}

VL2_ALWAYS_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

constexpr Half kLowest = 0xff80;  // -infinity

// e^(x - top), 0 for -infinity.
VL2_ALWAYS_INLINE Floats shown(Floats x, float top) {
  const Floats nothing = {};
  return x == nothing - std::numeric_limits<float>::infinity() ? nothing : exponential(x - top);
}

inline void gelu_tanh(const Half* x, Half* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats v = load(x + i, left(n, i));
    store(y + i, 0.5f * v * (1.0f + gelu_tanh_of(v)), left(n, i));
  }
}

inline void gelu_tanh_backward(const Half* x, const Half* dy, Half* dx, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats v = load(x + i, left(n, i)), t = gelu_tanh_of(v);
    const Floats slope = 0.7978845608f * (1.0f + 3.0f * 0.044715f * v * v);
    const Floats d = load(dy + i, left(n, i));
    store(dx + i, d * (0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * slope), left(n, i));
  }
}

inline void silu_mul(const Half* gate, const Half* up, Half* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats g = load(gate + i, left(n, i));
    store(y + i, g * sigmoid(g) * load(up + i, left(n, i)), left(n, i));
  }
}

inline void silu_mul_backward(const Half* gate, const Half* up, const Half* dy, Half* dgate, Half* dup, int64_t n) {
  for (int64_t i = 0; i < n; i += kWidth) {
    const Floats g = load(gate + i, left(n, i)), d = load(dy + i, left(n, i)), s = sigmoid(g);
    const Floats u = load(up + i, left(n, i));
    store(dup + i, d * g * s, left(n, i));
    store(dgate + i, d * u * s * (1.0f + g * (1.0f - s)), left(n, i));
  }
}

inline void softmax(const Half* x, Half* y, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Floats highest = Floats{} - std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < width; i += kWidth) {
      const Floats v = load(x + i, left(width, i), kLowest);
      highest = v > highest ? v : highest;
    }
    float top = highest[0];
    for (int64_t i = 1; i < kWidth; ++i) top = highest[i] > top ? highest[i] : top;
    // Exponentials pass by twice instead of being stored: rounded ones would not add up to 1.
    Floats sum = {};
    for (int64_t i = 0; i < width; i += kWidth) sum += shown(load(x + i, left(width, i), kLowest), top);
    const float scale = 1.0f / total(sum);
    for (int64_t i = 0; i < width; i += kWidth)
      store(y + i, shown(load(x + i, left(width, i), kLowest), top) * scale, left(width, i));
  }
}

inline void softmax_backward(const Half* y, const Half* dy, Half* dx, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, y += width, dy += width, dx += width) {
    Floats products = {};
    for (int64_t i = 0; i < width; i += kWidth) products += load(y + i, left(width, i)) * load(dy + i, left(width, i));
    const float sum = total(products);
    for (int64_t i = 0; i < width; i += kWidth)
      store(dx + i, load(y + i, left(width, i)) * (load(dy + i, left(width, i)) - sum), left(width, i));
  }
}

inline void rms_norm(const Half* x, const Half* weight, Half* y, float* scale, int64_t rows, int64_t width, float eps) {
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Floats squares = {};
    for (int64_t i = 0; i < width; i += kWidth) {
      const Floats v = load(x + i, left(width, i));
      squares += v * v;
    }
    const float s = 1.0f / std::sqrt(total(squares) / static_cast<float>(width) + eps);
    scale[r] = s;
    for (int64_t i = 0; i < width; i += kWidth)
      store(y + i, round_to_half(load(x + i, left(width, i)) * s) * load(weight + i, left(width, i)), left(width, i));
  }
}

inline void rms_norm_backward(const Half* x, const Half* weight, const float* scale, const Half* dy, Half* dx,
                              float* dweight, int64_t rows, int64_t width) {
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    const float s = scale[r];
    Floats products = {};
    for (int64_t i = 0; i < width; i += kWidth)
      products += load(dy + i, left(width, i)) * load(weight + i, left(width, i)) * (load(x + i, left(width, i)) * s);
    const float mean = total(products) / static_cast<float>(width);
    for (int64_t i = 0; i < width; i += kWidth) {
      const Floats normed = load(x + i, left(width, i)) * s, d = load(dy + i, left(width, i));
      add_to(dweight + i, d * normed, left(width, i));
      store(dx + i, (d * load(weight + i, left(width, i)) - normed * mean) * s, left(width, i));
    }
  }
}

inline void layer_norm(const Half* x, const Half* weight, const Half* bias, Half* y, float* mean, float* scale,
                       int64_t rows, int64_t width, float eps) {
  const auto n = static_cast<float>(width);
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Floats sum = {};
    for (int64_t i = 0; i < width; i += kWidth) sum += load(x + i, left(width, i));
    const float m = total(sum) / n;
    // What stands beyond a row's end is 0 and would count as 0 - m: it is left out of the last vector.
    Floats squares = {};
    int64_t i = 0;
    for (; i + kWidth <= width; i += kWidth) {
      const Floats d = load(x + i, kWidth) - m;
      squares += d * d;
    }
    float rest = total(squares);
    if (i < width) {
      const Floats d = load(x + i, left(width, i)) - m;
      for (int64_t j = 0; j < width - i; ++j) rest += d[j] * d[j];
    }
    const float s = 1.0f / std::sqrt(rest / n + eps);
    mean[r] = m;
    scale[r] = s;
    for (i = 0; i < width; i += kWidth)
      store(y + i,
            (load(x + i, left(width, i)) - m) * s * load(weight + i, left(width, i)) + load(bias + i, left(width, i)),
            left(width, i));
  }
}

inline void layer_norm_backward(const Half* x, const Half* weight, const float* mean, const float* scale,
                                const Half* dy, Half* dx, float* dweight, float* dbias, int64_t rows, int64_t width) {
  const auto n = static_cast<float>(width);
  for (int64_t r = 0; r < rows; ++r, x += width, dy += width, dx += width) {
    const float m = mean[r], s = scale[r];
    Floats plain = {}, weighted = {};  // beyond a row's end dy is 0, and so are both
    for (int64_t i = 0; i < width; i += kWidth) {
      const Floats d = load(dy + i, left(width, i)) * load(weight + i, left(width, i));
      plain += d;
      weighted += d * ((load(x + i, left(width, i)) - m) * s);
    }
    const float mean_d = total(plain) / n, mean_product = total(weighted) / n;
    for (int64_t i = 0; i < width; i += kWidth) {
      const Floats normed = (load(x + i, left(width, i)) - m) * s, d = load(dy + i, left(width, i));
      add_to(dweight + i, d * normed, left(width, i));
      add_to(dbias + i, d, left(width, i));
      store(dx + i, (d * load(weight + i, left(width, i)) - mean_d - normed * mean_product) * s, left(width, i));
    }
  }
}

inline constexpr RowKernels kKernels = {gelu_tanh,  gelu_tanh_backward, silu_mul, silu_mul_backward,
                                        softmax,    softmax_backward,   rms_norm, rms_norm_backward,
                                        layer_norm, layer_norm_backward};
