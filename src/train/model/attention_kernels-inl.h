// The attention kernels, once for each instruction set: see row_vectors-inl.h.
//
// Matrices in scratch are row-major float32 with rows padded to whole vectors; what is padded is zero or never read.

#include "train/model/row_vectors-inl.h"

constexpr int64_t kQueries = 32;                        // whose scores are computed at once
constexpr int64_t kRowsAtOnce = 8, kVectorsAtOnce = 2;  // of a product's result, in registers

VL2_ALWAYS_INLINE int64_t whole_vectors(int64_t n) { return (n + kWidth - 1) / kWidth * kWidth; }

VL2_ALWAYS_INLINE Floats load_floats(const float* x) {
  Floats v;
  std::memcpy(&v, x, sizeof(v));
  return v;
}
VL2_ALWAYS_INLINE void store_floats(float* y, Floats v) { std::memcpy(y, &v, sizeof(v)); }

// C [R, V * kWidth] = A B, or += where `add`. A's element (r, k) is at a[r * row + k * step].
template <int R, int V>
VL2_ALWAYS_INLINE void multiply_block(const float* a, int64_t row, int64_t step, const float* b, int64_t b_stride,
                                      float* c, int64_t c_stride, int64_t depth, bool add) {
  Floats sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = add ? load_floats(c + r * c_stride + v * kWidth) : Floats{};
  for (int64_t k = 0; k < depth; ++k) {
    Floats right[V];
    for (int v = 0; v < V; ++v) right[v] = load_floats(b + k * b_stride + v * kWidth);
    for (int r = 0; r < R; ++r) {
      const Floats left_value = Floats{} + a[r * row + k * step];
      for (int v = 0; v < V; ++v) sum[r][v] += left_value * right[v];
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) store_floats(c + r * c_stride + v * kWidth, sum[r][v]);
}

template <int R>
inline void multiply_rows(const float* a, int64_t row, int64_t step, const float* b, int64_t b_stride, float* c,
                          int64_t c_stride, int64_t columns, int64_t depth, bool add) {
  int64_t n = 0;
  for (; n + kVectorsAtOnce * kWidth <= columns; n += kVectorsAtOnce * kWidth)
    multiply_block<R, kVectorsAtOnce>(a, row, step, b + n, b_stride, c + n, c_stride, depth, add);
  if (n < columns) multiply_block<R, 1>(a, row, step, b + n, b_stride, c + n, c_stride, depth, add);
}

// C [rows, columns] = A B or += A B; columns in whole vectors.
inline void multiply(const float* a, int64_t row, int64_t step, const float* b, int64_t b_stride, float* c,
                     int64_t c_stride, int64_t rows, int64_t columns, int64_t depth, bool add) {
  int64_t m = 0;
  for (; m + kRowsAtOnce <= rows; m += kRowsAtOnce)
    multiply_rows<kRowsAtOnce>(a + m * row, row, step, b, b_stride, c + m * c_stride, c_stride, columns, depth, add);
  for (; m + 4 <= rows; m += 4)
    multiply_rows<4>(a + m * row, row, step, b, b_stride, c + m * c_stride, c_stride, columns, depth, add);
  for (; m < rows; ++m)
    multiply_rows<1>(a + m * row, row, step, b, b_stride, c + m * c_stride, c_stride, columns, depth, add);
}

// Rows of a head as float32 times `scale`, [rows, stride].
inline void widen(const HeadRows<const Half>& from, int64_t head, int64_t first, int64_t rows, int64_t width,
                  float scale, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const Half* x = from.at(first + r, head);
    for (int64_t i = 0; i < width; i += kWidth) store_floats(to + r * stride + i, load(x + i, left(width, i)) * scale);
  }
}

// [width, stride] with a row's values in a column.
inline void turn(const float* from, int64_t from_stride, int64_t rows, int64_t width, float* to, int64_t stride) {
  constexpr int64_t kBlock = 16;
  for (int64_t r0 = 0; r0 < rows; r0 += kBlock)
    for (int64_t i = 0; i < width; ++i)
      for (int64_t r = r0; r < std::min(rows, r0 + kBlock); ++r) to[i * stride + r] = from[r * from_stride + i];
  for (int64_t i = 0; i < width; ++i)
    for (int64_t r = rows; r < stride; ++r) to[i * stride + r] = 0;
}

inline void narrow(const float* from, int64_t stride, int64_t rows, int64_t width, const HeadRows<Half>& to,
                   int64_t head, int64_t first) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < width; i += kWidth)
      store(to.at(first + r, head) + i, load_floats(from + r * stride + i), left(width, i));
}

// Hands out pieces of the scratch, each at a cache line's start within it.
class Pieces {
 public:
  Pieces(std::vector<float>& scratch, int64_t floats) {
    if (static_cast<int64_t>(scratch.size()) < floats) scratch.resize(static_cast<size_t>(floats));
    next_ = scratch.data();
  }
  float* take(int64_t rows, int64_t stride) {
    float* piece = next_;
    next_ += rows * stride;
    return piece;
  }

 private:
  float* next_;
};

// Keys that a block of queries sees at all, and those that query i of it sees.
VL2_ALWAYS_INLINE int64_t keys_of_block(const AttentionSizes& s, int64_t first, int64_t count) {
  return s.causal ? first + count : s.length;
}
VL2_ALWAYS_INLINE int64_t keys_of_query(const AttentionSizes& s, int64_t query) {
  return s.causal ? query + 1 : s.length;
}

// e^(score - top) of the keys that are seen, 0 behind them up to `padded`. Their sum.
inline float exponentials(float* scores, int64_t seen, int64_t padded, float top) {
  Floats sum = {};
  int64_t i = 0;
  for (; i + kWidth <= seen; i += kWidth) {
    const Floats e = exponential(load_floats(scores + i) - top);
    sum += e;
    store_floats(scores + i, e);
  }
  if (i < seen) {
    Floats e = exponential(load_floats(scores + i) - top);
    for (int64_t j = seen - i; j < kWidth; ++j) e[j] = 0;
    sum += e;
    store_floats(scores + i, e);
    i += kWidth;
  }
  for (; i < padded; i += kWidth) store_floats(scores + i, Floats{});
  return total(sum);
}

inline float highest_of(const float* scores, int64_t seen) {
  float top = scores[0];
  for (int64_t i = 1; i < seen; ++i) top = scores[i] > top ? scores[i] : top;
  return top;
}

inline void attention_forward(const AttentionSizes& s, int64_t group, const AttentionKernels::Forward& rows,
                              std::vector<float>& scratch) {
  const int64_t keys = whole_vectors(s.length), width = whole_vectors(s.width), values = whole_vectors(s.value_width);
  Pieces pieces(scratch, s.length * (width + values) + s.width * keys + kQueries * (width + values + keys));
  float* k = pieces.take(s.length, width);
  float* v = pieces.take(s.length, values);
  float* turned_k = pieces.take(s.width, keys);
  float* q = pieces.take(kQueries, width);
  float* out = pieces.take(kQueries, values);
  float* scores = pieces.take(kQueries, keys);
  widen(rows.k, group, 0, s.length, s.width, 1, k, width);
  widen(rows.v, group, 0, s.length, s.value_width, 1, v, values);
  turn(k, width, s.length, s.width, turned_k, keys);
  for (int64_t head = group * s.heads_a_group; head < (group + 1) * s.heads_a_group; ++head) {
    for (int64_t first = 0; first < s.length; first += kQueries) {
      const int64_t count = std::min(kQueries, s.length - first), block = keys_of_block(s, first, count);
      const int64_t padded = whole_vectors(block);
      widen(rows.q, head, first, count, s.width, s.scale, q, width);
      multiply(q, width, 1, turned_k, keys, scores, keys, count, padded, s.width, false);
      float sums[kQueries];
      for (int64_t i = 0; i < count; ++i) {
        const int64_t seen = keys_of_query(s, first + i);
        const float top = highest_of(scores + i * keys, seen);
        sums[i] = exponentials(scores + i * keys, seen, padded, top);
        *rows.lse.at(first + i, head) = top + std::log(sums[i]);
      }
      multiply(scores, keys, 1, v, values, out, values, count, values, block, false);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t c = 0; c < values; c += kWidth)
          store_floats(out + i * values + c, load_floats(out + i * values + c) * (1.0f / sums[i]));
      narrow(out, values, count, s.value_width, rows.out, head, first);
    }
  }
}

inline void attention_backward(const AttentionSizes& s, int64_t group, const AttentionKernels::Backward& rows,
                               std::vector<float>& scratch) {
  const int64_t keys = whole_vectors(s.length), width = whole_vectors(s.width), values = whole_vectors(s.value_width);
  Pieces pieces(scratch, 2 * s.length * (width + values) + (s.width + s.value_width) * keys +
                             kQueries * (2 * width + 2 * values + 2 * keys));
  float* k = pieces.take(s.length, width);
  float* v = pieces.take(s.length, values);
  float* dk = pieces.take(s.length, width);
  float* dv = pieces.take(s.length, values);
  float* turned_k = pieces.take(s.width, keys);
  float* turned_v = pieces.take(s.value_width, keys);
  float* q = pieces.take(kQueries, width);
  float* dq = pieces.take(kQueries, width);
  float* out = pieces.take(kQueries, values);
  float* dout = pieces.take(kQueries, values);
  float* weights = pieces.take(kQueries, keys);
  float* dscores = pieces.take(kQueries, keys);
  widen(rows.k, group, 0, s.length, s.width, 1, k, width);
  widen(rows.v, group, 0, s.length, s.value_width, 1, v, values);
  turn(k, width, s.length, s.width, turned_k, keys);
  turn(v, values, s.length, s.value_width, turned_v, keys);
  std::fill_n(dk, s.length * width, 0.0f);
  std::fill_n(dv, s.length * values, 0.0f);
  for (int64_t head = group * s.heads_a_group; head < (group + 1) * s.heads_a_group; ++head) {
    for (int64_t first = 0; first < s.length; first += kQueries) {
      const int64_t count = std::min(kQueries, s.length - first), block = keys_of_block(s, first, count);
      const int64_t padded = whole_vectors(block);
      widen(rows.q, head, first, count, s.width, s.scale, q, width);
      widen(rows.out, head, first, count, s.value_width, 1, out, values);
      widen(rows.dout, head, first, count, s.value_width, 1, dout, values);
      multiply(q, width, 1, turned_k, keys, weights, keys, count, padded, s.width, false);
      multiply(dout, values, 1, turned_v, keys, dscores, keys, count, padded, s.value_width, false);
      for (int64_t i = 0; i < count; ++i) {
        exponentials(weights + i * keys, keys_of_query(s, first + i), padded, *rows.lse.at(first + i, head));
        Floats products = {};
        for (int64_t c = 0; c < values; c += kWidth)
          products += load_floats(out + i * values + c) * load_floats(dout + i * values + c);
        const float mean = total(products);
        for (int64_t j = 0; j < padded; j += kWidth)
          store_floats(dscores + i * keys + j,
                       load_floats(weights + i * keys + j) * (load_floats(dscores + i * keys + j) - mean));
      }
      multiply(weights, 1, keys, dout, values, dv, values, block, values, count, true);
      multiply(dscores, 1, keys, q, width, dk, width, block, width, count, true);
      multiply(dscores, keys, 1, k, width, dq, width, count, width, block, false);
      for (int64_t i = 0; i < count * width; i += kWidth) store_floats(dq + i, load_floats(dq + i) * s.scale);
      narrow(dq, width, count, s.width, rows.dq, head, first);
    }
  }
  narrow(dk, width, s.length, s.width, rows.dk, group, 0);
  narrow(dv, values, s.length, s.value_width, rows.dv, group, 0);
}

constexpr AttentionKernels kAttention = {attention_forward, attention_backward};
