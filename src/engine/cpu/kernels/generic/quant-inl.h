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
  static constexpr bool kWords = kWordsOfBytes;
  static constexpr int64_t kDepth = 4;  // k of 64 stored bytes
  // Of 8 k from p on.
  static Codes first(const uint8_t* p) { return load_codes(p); }
  static Codes second(const uint8_t* p) { return load_codes(p + 64); }
  template <typename Whole>
  static Whole dot(const Whole& sums, const Codes& codes, const int8_t* a) {
    return dot_bytes(sums, codes, a);
  }
};
struct Nibbles {
  static constexpr PanelFormat kFormat = PanelFormat::kQ4;
  static constexpr int kOffset = 8;
  static constexpr bool kWords = kWordsOfNibbles;
  static constexpr int64_t kDepth = 8;
  static Codes first(const uint8_t* p) { return low_nibbles(load_codes(p)); }
  static Codes second(const uint8_t* p) { return high_nibbles(load_codes(p)); }
  template <typename Whole>
  static Whole dot(const Whole& sums, const Codes& codes, const int8_t* a) {
    return dot_nibbles(sums, codes, a);
  }
};

// Where a group of M packed rows has the byte of (k, row) and its scales; its sums of bytes follow the scales.
struct Interleaved {
  static constexpr bool kRowsAdjoin = true;  // the words of four rows lie side by side
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

// One group of n <= kQuantGroup values to kQuantGroup bytes, zeros beyond n. Returns the scale; NaN if a value is none.
inline float round_group(const float* x, int64_t n, int8_t* out) {
  constexpr int kVectors = kQuantGroup / 16;
  alignas(64) float padded[kQuantGroup];
  if (n < kQuantGroup) {
    for (int64_t i = 0; i < kQuantGroup; ++i) padded[i] = i < n ? x[i] : 0.0f;
    x = padded;
  }
  Vec largest[2] = {zero(), zero()}, poison[2] = {zero(), zero()};
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const Vec v = load(x + 16 * i);
    largest[i % 2] = max(largest[i % 2], max(v, sub(zero(), v)));
    poison[i % 2] = fma(v, zero(), poison[i % 2]);  // maximum loses a NaN, this does not
  }
  const float top = reduce_max(max(largest[0], largest[1])) + reduce_add(add(poison[0], poison[1]));
  const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
  // 127 / top overflows for tiny values: they count as zeros.
  if (!(inverse > 0.0f && inverse < INFINITY)) {
    std::memset(out, 0, kQuantGroup);
    return top;
  }
  const Vec factor = set1(inverse);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; i += 4) {
    Vec v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) v[j] = mul(load(x + 16 * (i + j)), factor);
    store_bytes(out + 16 * i, v);
  }
  return top / 127.0f;
}

inline void quant_pack(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  const int64_t depth = round_up(k, kQuantDepth), groups = quant_groups(k);
  auto* out = static_cast<int8_t*>(packed);
  for (int64_t first = 0; first < rows; first += kQuantRows) {
    const int64_t count = rows - first < kQuantRows ? rows - first : kQuantRows;
    auto* scales = reinterpret_cast<float*>(out + depth * count);
    auto* sums = reinterpret_cast<int32_t*>(scales + groups * count);
    for (int64_t g = 0; g < groups; ++g) {
      alignas(64) int8_t bytes[kQuantRows][kQuantGroup];
      const int64_t begin = g * kQuantGroup;
      const int64_t n = k - begin < kQuantGroup ? k - begin : kQuantGroup;
      const int64_t stored = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
      for (int64_t r = 0; r < count; ++r) {
        const float* row = a + (index != nullptr ? index[first + r] : first + r) * stride;
        scales[g * count + r] = round_group(row + begin, n, bytes[r]);
        sums[g * count + r] = sum_bytes(bytes[r], stored);
      }
      int8_t* to = out + begin * count;
      if (count < kRowsToTranspose) {
        for (int64_t r = 0; r < count; ++r)
          for (int64_t i = 0; i < stored; i += 4) std::memcpy(to + i * count + r * 4, bytes[r] + i, 4);
        continue;
      }
      // Four bytes move as one word, whatever they would mean as a float.
      for (int64_t i = 0; i < stored; i += 64) {
        Vec block[16] = {};
        for (int64_t r = 0; r < count; ++r) block[r] = load(reinterpret_cast<const float*>(bytes[r] + i));
        store_interleaved(block, 16, count, reinterpret_cast<float*>(to + i * count), (depth - begin - i) / 4 * count);
      }
    }
    out += quant_packed_bytes(count, k);
  }
}

// --- the register block: M rows x P panels over one group ---

// Of one group: sums of the rows' bytes and scales of rows [M] and panels (panel_stride apart).
struct GroupScales {
  const int32_t* a_sums;
  const float* a_scales;
  const std::byte* scales;
};

// With sums of 16 bits, which hold the products of two nibbles and bytes over kWordDepth k: words-inl.h.
inline constexpr int64_t kWordDepth = 32;
template <typename Kind, typename Layout, int M, bool kTwo, typename Fetched>
void stream_words(Sums* sums, Fetched& fetch, const uint8_t* codes, const int8_t* a, int64_t begin, int64_t end);
template <typename Kind, typename Layout, int M, int P>
void multiply_words(const uint8_t* codes, int64_t panel_stride, const int8_t* a, int64_t depth,
                    const GroupScales& group, float* sums);

// sums [M][P][16] += codes a over `depth` <= kQuantGroup. A function of its own, because the compiler keeps the block
// in registers only when nothing else competes for them.
template <typename Kind, typename Layout, int M, int P>
[[gnu::noinline]] void multiply_group(const uint8_t* codes, int64_t panel_stride, const int8_t* a, int64_t depth,
                                      const GroupScales& group, float* sums) {
  Sums sum[M][P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[m][p] = set_sums(-Kind::kOffset * group.a_sums[m]);
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
  for (int p = 0; p < P; ++p) {
    const Vec scale = load_bf16(reinterpret_cast<const BF16*>(group.scales + p * panel_stride));
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      float* to = sums + (m * P + p) * kPanel;
      store(to, fma(to_floats(sum[m][p]), mul(scale, set1(group.a_scales[m])), load(to)));
    }
  }
}

// M rows against P panels over the whole depth; sums [M][P][16].
template <typename Kind, typename Layout, int M, int P>
inline void multiply_groups(const std::byte* panels, int64_t panel_stride, const int8_t* a, int64_t k, float* sums) {
  const int64_t depth = round_up(k, kQuantDepth), groups = quant_groups(k);
  const int64_t rows = Layout::template rows<M>();
  const auto* a_scales = reinterpret_cast<const float*>(a + depth * rows);
  const auto* a_sums = reinterpret_cast<const int32_t*>(a_scales + groups * rows);
  const auto* codes = reinterpret_cast<const uint8_t*>(panels) + quant_scale_bytes(k);
  for (int i = 0; i < M * P; ++i) store(sums + i * kPanel, zero());
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * kQuantGroup, count = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
    const int64_t scale_bytes = g * kPanelRows * static_cast<int64_t>(sizeof(BF16));
    const GroupScales group = {a_sums + g * rows, a_scales + g * rows, panels + scale_bytes};
    const uint8_t* at = codes + begin / Kind::kDepth * 64;
    const int8_t* from = a + Layout::template at<M>(begin, 0);
    if constexpr (Kind::kWords) {
      multiply_words<Kind, Layout, M, P>(at, panel_stride, from, count, group, sums);
    } else {
      multiply_group<Kind, Layout, M, P>(at, panel_stride, from, count, group, sums);
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
      expect<M, P>(task, row, first);
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
