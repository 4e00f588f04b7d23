// C = A W^T for stored codes (core/quant/panel_format.h), written once over Vec and Codes. Included inside an ISA
// namespace after simd.h, codes.h, math-inl.h and finish-inl.h.
//
// A row of A is rounded to whole numbers in groups of 128 values, each with its own scale. Inside a group sums are
// whole numbers, which have no order; over groups every element of C is one chain of fused multiply-adds from k = 0
// upwards. So a row's bits depend on neither its neighbours nor on how the work is cut, nor on the instruction set (but
// for the scalar one, which has no fused multiply-add).

struct Bytes {
  static constexpr PanelFormat kFormat = PanelFormat::kQ8;
  static constexpr int kOffset = kByteOffset;  // subtracted here
  static constexpr int64_t kDepth = 4;         // k of 64 stored bytes
  // Of 8 k from p on.
  static Codes first(const uint8_t* p) { return load_codes(p); }
  static Codes second(const uint8_t* p) { return load_codes(p + 64); }
  static Sums dot(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_bytes(sums, codes, a); }
};
struct Nibbles {
  static constexpr PanelFormat kFormat = PanelFormat::kQ4;
  static constexpr int kOffset = 8;
  static constexpr int64_t kDepth = 8;
  static Codes first(const uint8_t* p) { return low_nibbles(load_codes(p)); }
  static Codes second(const uint8_t* p) { return high_nibbles(load_codes(p)); }
  static Sums dot(const Sums& sums, const Codes& codes, const int8_t* a) { return dot_nibbles(sums, codes, a); }
};

// Where a group of M packed rows has the byte of (k, row) and its scales; its sums of bytes follow the scales.
struct Interleaved {
  template <int M>
  static int64_t rows() {
    return M;
  }
  template <int M>
  static int64_t at(int64_t k, int64_t m) {
    return k * M + m * 4;
  }
};

// --- packing of A: groups of kQuantRows rows. Each holds [depth / 4][rows][4] bytes, then per group of k and row the
// scale, then the sum of the bytes. ---

inline int64_t quant_packed_bytes(int64_t rows, int64_t k) {
  return rows * (round_up(k, kQuantDepth) + quant_groups(k) * static_cast<int64_t>(sizeof(float) + sizeof(int32_t)));
}

// One group of `n` <= 128 values; bytes beyond n up to `depth` are zeros. Returns the scale; NaN if a value is none.
inline float round_group(const float* x, int64_t n, int64_t depth, int8_t* out) {
  Vec largest = zero(), poison = zero();
  for (int64_t i = 0; i < n; i += 16) {
    const Vec v = n - i < 16 ? load_n(x + i, n - i) : load(x + i);
    largest = max(largest, max(v, sub(zero(), v)));
    poison = fma(v, zero(), poison);  // maximum loses a NaN, this does not
  }
  const float top = reduce_max(largest) + reduce_add(poison);
  const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
  // 127 / top overflows for tiny values: they count as zeros.
  const bool usable = inverse > 0.0f && inverse < INFINITY;
  const Vec factor = set1(usable ? inverse : 0.0f);
  for (int64_t i = 0; i < depth; i += 16) {
    const Vec v = i >= n ? zero() : n - i < 16 ? load_n(x + i, n - i) : load(x + i);
    store_bytes(out + i, usable ? mul(v, factor) : zero());
  }
  return usable ? top / 127.0f : top;
}

inline void quant_pack(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  const int64_t depth = round_up(k, kQuantDepth), groups = quant_groups(k);
  auto* out = static_cast<int8_t*>(packed);
  for (int64_t first = 0; first < rows; first += kQuantRows) {
    const int64_t count = rows - first < kQuantRows ? rows - first : kQuantRows;
    auto* scales = reinterpret_cast<float*>(out + depth * count);
    auto* sums = reinterpret_cast<int32_t*>(scales + groups * count);
    for (int64_t r = 0; r < count; ++r) {
      const float* row = a + (index != nullptr ? index[first + r] : first + r) * stride;
      for (int64_t g = 0; g < groups; ++g) {
        alignas(64) int8_t bytes[kQuantGroup];
        const int64_t begin = g * kQuantGroup;
        const int64_t n = k - begin < kQuantGroup ? k - begin : kQuantGroup;
        const int64_t stored = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
        scales[g * count + r] = round_group(row + begin, n, stored, bytes);
        sums[g * count + r] = sum_bytes(bytes, stored);
        for (int64_t i = 0; i < stored; i += 4) std::memcpy(out + (begin + i) * count + r * 4, bytes + i, 4);
      }
    }
    out += quant_packed_bytes(count, k);
  }
}

// --- the register block: M rows x P panels over one group ---

// sums [M][P] += codes a over `depth`. A function of its own, and sums in memory around it, because the compiler keeps
// the block in registers only when nothing else competes for them.
template <typename Kind, typename Layout, int M, int P>
[[gnu::noinline]] void multiply_codes(const uint8_t* codes, int64_t panel_stride, const int8_t* a, int64_t depth,
                                      Sums* sums) {
  Sums sum[M][P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[m][p] = sums[m * P + p];
  for (int64_t k = 0; k < depth; k += Kind::kDepth) {
    Codes w[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) w[p] = load_codes(codes + p * panel_stride);
    codes += 64;
    if constexpr (Kind::kFormat == PanelFormat::kQ8) {
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = dot_bytes(sum[m][p], w[p], a + Layout::template at<M>(k, m));
    } else {
      Codes low[P];
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) low[p] = low_nibbles(w[p]);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = dot_nibbles(sum[m][p], low[p], a + Layout::template at<M>(k, m));
      // Loaded again: kept, they would not leave enough registers for the sums.
      if constexpr (M > 4) __asm__ volatile("" ::: "memory");
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) low[p] = high_nibbles(M > 4 ? load_codes(codes - 64 + p * panel_stride) : w[p]);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[m][p] = dot_nibbles(sum[m][p], low[p], a + Layout::template at<M>(k + 4, m));
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sums[m * P + p] = sum[m][p];
}

// M rows against P panels over the whole depth; sums [M][P][16].
template <typename Kind, typename Layout, int M, int P>
inline void multiply_groups(const std::byte* panels, int64_t panel_stride, const int8_t* a, int64_t k, float* sums) {
  const int64_t depth = round_up(k, kQuantDepth), groups = quant_groups(k);
  const int64_t rows = Layout::template rows<M>();
  const auto* a_scales = reinterpret_cast<const float*>(a + depth * rows);
  const auto* a_sums = reinterpret_cast<const int32_t*>(a_scales + groups * rows);
  const auto* codes = reinterpret_cast<const uint8_t*>(panels) + quant_scale_bytes(k);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * kQuantGroup, count = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
    alignas(64) Sums sum[M * P];
    for (int m = 0; m < M; ++m)
      for (int p = 0; p < P; ++p) sum[m * P + p] = set_sums(-Kind::kOffset * a_sums[g * rows + m]);
    multiply_codes<Kind, Layout, M, P>(codes + begin / Kind::kDepth * 64, panel_stride,
                                       a + Layout::template at<M>(begin, 0), count, sum);
    for (int p = 0; p < P; ++p) {
      const Vec scale = load_bf16(reinterpret_cast<const BF16*>(panels + p * panel_stride) + g * kPanelRows);
      for (int m = 0; m < M; ++m) {
        float* to = sums + (m * P + p) * kPanel;
        store(to, fma(to_floats(sum[m * P + p]), mul(scale, set1(a_scales[g * rows + m])), g == 0 ? zero() : load(to)));
      }
    }
  }
}

// All rows against P panels.
template <typename Kind, typename Layout, int P>
inline void quant_panels(const GemmTask& task, int64_t first, int64_t panel_stride) {
  const std::byte* panels = static_cast<const std::byte*>(task.b) + first * panel_stride;
  const auto* a = static_cast<const int8_t*>(task.a);
  for (int64_t row = 0; row < task.rows; row += kQuantRows) {
    const int64_t count = task.rows - row < kQuantRows ? task.rows - row : kQuantRows;
    with_size<kQuantRows>(count, [&]<int M>(Size<M>) {
      multiply_groups<Kind, Layout, M, P>(panels, panel_stride, a, task.k, task.scratch);
      for (int m = 0; m < M; ++m)
        for (int p = 0; p < P; ++p)
          finish(task, task.c + (row + m) * task.c_stride, (first + p) * kPanel,
                 load(task.scratch + (m * P + p) * kPanel));
    });
    a += quant_packed_bytes(count, task.k);
  }
}

// More rows than a group.
template <typename Kind, typename Layout>
void quant_blocks(const GemmTask& task) {
  const int64_t stride = vl2::panel_bytes(Kind::kFormat, task.k);
  int64_t panel = 0;
  for (; panel + kQuantPanels <= task.panels; panel += kQuantPanels)
    quant_panels<Kind, Layout, kQuantPanels>(task, panel, stride);
  for (; panel < task.panels; ++panel) quant_panels<Kind, Layout, 1>(task, panel, stride);
}
