// The row kernels, once for each instruction set: see row_vectors-inl.h.

#include "train/model/row_vectors-inl.h"

// tanh of the argument of gelu's approximation.
VL2_ALWAYS_INLINE Floats gelu_tanh_of(Floats x) {
  const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
  return 1.0f - 2.0f / (exponential(2.0f * u) + 1.0f);
}

VL2_ALWAYS_INLINE Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

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
