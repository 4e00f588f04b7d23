// Stored codes on AMX tiles. Included after tiles-inl.h and generic/quant-inl.h, whose kernel takes over where rows are
// few: both give a row the same bits.
//
// A tile of codes is [16 k / 4][16 columns][4 k], just as a q8 panel stores it; q4 panels are widened once for all
// rows. Whole sums of a group leave the tiles after two steps of depth and join the float sums of 32 rows x 2 panels,
// which stay in the first-level cache.

constexpr int64_t kCodeTile = kTileRows * kTileStride;  // bytes of a tile of codes: 64 k x 16 columns
// From this many rows on tiles pay: below, most of their rows would be padding.
constexpr int64_t kRowsForTiles = 8;

// Row tiles: [depth / 64][16][64] bytes, then [groups][16] scales, then as many sums of bytes. Each carries its own, so
// that a block of rows can start at any of them.
struct RowTile {
  static constexpr bool kRowsAdjoin = false;
  template <int M>
  static int64_t rows() {
    return kTileRows;
  }
  template <int M>
  static int64_t at(int64_t k, int64_t m) {
    return k / kQuantDepth * kCodeTile + m * kTileStride + k % kQuantDepth;
  }
};

int64_t code_packed_bytes(int64_t rows, int64_t k) { return quant_packed_bytes(round_up(rows, kTileRows), k); }

void code_pack(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  const int64_t depth = round_up(k, kQuantDepth), groups = quant_groups(k);
  for (int64_t r = 0; r < round_up(rows, kTileRows); ++r) {
    auto* tile = static_cast<int8_t*>(packed) + r / kTileRows * quant_packed_bytes(kTileRows, k);
    auto* scales = reinterpret_cast<float*>(tile + depth * kTileRows);
    auto* sums = reinterpret_cast<int32_t*>(scales + groups * kTileRows);
    const int64_t lane = r % kTileRows;
    const float* row = r < rows ? a + (index != nullptr ? index[r] : r) * stride : nullptr;
    for (int64_t g = 0; g < groups; ++g) {
      alignas(64) int8_t bytes[kQuantGroup] = {};
      const int64_t begin = g * kQuantGroup, n = k - begin < kQuantGroup ? k - begin : kQuantGroup;
      const int64_t stored = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
      scales[g * kTileRows + lane] = row != nullptr ? round_group(row + begin, n, bytes) : 0.0f;
      sums[g * kTileRows + lane] = sum_bytes(bytes, stored);
      for (int64_t i = 0; i < stored; i += kQuantDepth)
        std::memcpy(tile + RowTile::at<1>(begin + i, lane), bytes + i, kQuantDepth);
    }
  }
}

// whole [MT][NT][16][16] = tiles of A times tiles of codes, `steps` of depth.
template <int MT, int NT>
inline void multiply_code_tiles(const int8_t* a, int64_t a_stride, const uint8_t* codes, int64_t code_stride,
                                int64_t steps, int32_t* whole) {
  _tile_zero(0);
  if constexpr (NT > 1) _tile_zero(1);
  if constexpr (MT > 1) _tile_zero(2);
  if constexpr (MT > 1 && NT > 1) _tile_zero(3);
  for (int64_t t = 0; t < steps; ++t) {
    _tile_loadd(4, a + t * kCodeTile, kTileStride);
    _tile_loadd(6, codes + t * kCodeTile, kTileStride);
    _tile_dpbsud(0, 4, 6);
    if constexpr (NT > 1) {
      _tile_loadd(7, codes + code_stride + t * kCodeTile, kTileStride);
      _tile_dpbsud(1, 4, 7);
    }
    if constexpr (MT > 1) {
      _tile_loadd(5, a + a_stride + t * kCodeTile, kTileStride);
      _tile_dpbsud(2, 5, 6);
      if constexpr (NT > 1) _tile_dpbsud(3, 5, 7);
    }
  }
  _tile_stored(0, whole, kTileStride);
  if constexpr (NT > 1) _tile_stored(1, whole + kSumElements, kTileStride);
  if constexpr (MT > 1) _tile_stored(2, whole + NT * kSumElements, kTileStride);
  if constexpr (MT > 1 && NT > 1) _tile_stored(3, whole + 3 * kSumElements, kTileStride);
  __asm__ volatile("" ::: "memory");
}

// MT row tiles against NT panels over the whole depth. The order of the float sums is multiply_groups'.
template <typename Kind, int MT, int NT>
void code_block(const GemmTask& task, const std::byte* a, const std::byte* panels, int64_t panel_stride,
                const uint8_t* codes, int64_t code_stride, int64_t first_row, int64_t first_panel) {
  const int64_t depth = round_up(task.k, kQuantDepth), groups = quant_groups(task.k);
  const int64_t row_tile = depth / kQuantDepth * kCodeTile, block = quant_packed_bytes(kTileRows, task.k);
  alignas(64) int32_t whole[MT * NT * kSumElements];
  alignas(64) float total[MT * NT * kSumElements];
  const auto* bytes = reinterpret_cast<const int8_t*>(a);
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * kQuantGroup, count = depth - begin < kQuantGroup ? depth - begin : kQuantGroup;
    multiply_code_tiles<MT, NT>(bytes + begin / kQuantDepth * kCodeTile, block, codes + begin / kQuantDepth * kCodeTile,
                                code_stride, count / kQuantDepth, whole);
    for (int p = 0; p < NT; ++p) {
      const Vec scale = load_bf16(reinterpret_cast<const BF16*>(panels + p * panel_stride) + g * kPanelRows);
      for (int m = 0; m < MT; ++m) {
        const auto* a_scales = reinterpret_cast<const float*>(a + m * block + row_tile);
        const auto* a_sums = reinterpret_cast<const int32_t*>(a_scales + groups * kTileRows);
        for (int64_t r = 0; r < kTileRows; ++r) {
          const int64_t at = (m * NT + p) * kSumElements + r * kPanel, of = g * kTileRows + r;
          const Sums sum = add(Sums{_mm512_loadu_si512(whole + at)}, set_sums(-Kind::kOffset * a_sums[of]));
          store(total + at, fma(to_floats(sum), mul(scale, set1(a_scales[of])), g == 0 ? zero() : load(total + at)));
        }
      }
    }
  }
  const int64_t rows = task.rows - first_row < MT * kTileRows ? task.rows - first_row : MT * kTileRows;
  for (int64_t r = 0; r < rows; ++r)
    for (int p = 0; p < NT; ++p)
      finish(task, task.c + (first_row + r) * task.c_stride, (first_panel + p) * kPanel,
             load(total + (r / kTileRows * NT + p) * kSumElements + r % kTileRows * kPanel));
}

// All rows against NT panels. `wide`: room for the codes of NT panels as bytes.
template <typename Kind, int NT>
void code_panels(const GemmTask& task, int64_t first_panel, int64_t panel_stride, uint8_t* wide) {
  const int64_t depth = round_up(task.k, kQuantDepth), block = quant_packed_bytes(kTileRows, task.k);
  const std::byte* panels = static_cast<const std::byte*>(task.b) + first_panel * panel_stride;
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(panels) + quant_scale_bytes(task.k);
  int64_t code_stride = panel_stride;
  if constexpr (Kind::kFormat == PanelFormat::kQ4) {
    for (int p = 0; p < NT; ++p) {
      for (int64_t i = 0; i < depth * kPanel / 2; i += 64) {
        const Codes both = load_codes(codes + p * panel_stride + i);
        _mm512_storeu_si512(wide + p * depth * kPanel + 2 * i, low_nibbles(both).v);
        _mm512_storeu_si512(wide + p * depth * kPanel + 2 * i + 64, high_nibbles(both).v);
      }
    }
    codes = wide;
    code_stride = depth * kPanel;
  }
  for (int64_t row = 0; row < task.rows; row += 2 * kTileRows) {
    const std::byte* a = static_cast<const std::byte*>(task.a) + row / kTileRows * block;
    if (task.rows - row > kTileRows) {
      code_block<Kind, 2, NT>(task, a, panels, panel_stride, codes, code_stride, row, first_panel);
    } else {
      code_block<Kind, 1, NT>(task, a, panels, panel_stride, codes, code_stride, row, first_panel);
    }
  }
}

template <typename Kind>
void code_gemm(const GemmTask& task) {
  if (task.rows < kRowsForTiles) return quant_gemm<Kind, RowTile>(task);
  const int64_t stride = vl2::panel_bytes(Kind::kFormat, task.k), depth = round_up(task.k, kQuantDepth);
  // Rows of a tile that cross cache lines load at half the rate.
  std::vector<uint8_t> memory(Kind::kFormat == PanelFormat::kQ4 ? static_cast<size_t>(2 * depth * kPanel) + 64 : 64);
  uint8_t* wide = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  configure_tiles();
  int64_t panel = 0;
  for (; panel + 2 <= task.panels; panel += 2) code_panels<Kind, 2>(task, panel, stride, wide);
  if (panel < task.panels) code_panels<Kind, 1>(task, panel, stride, wide);
  _tile_release();
}

template <typename Kind>
constexpr GemmKernel kCodeKernel = {code_pack, code_packed_bytes, 2 * kTileRows, code_gemm<Kind>};
