// The product on AMX tiles. Included inside a namespace and target region after avx512/simd.h and finish-inl.h; whoever
// includes it says what _tile_loadd and its kin are, so that a test can run it on tiles in software.

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileElements = kTileRows * kTileDepth;  // bf16 of a tile of A or B
constexpr int64_t kSumElements = kTileRows * kPanel;       // floats of a tile of C
constexpr int64_t kTileStride = 64;                        // bytes between rows of any tile
// Tiles of depth that two panels pass at once when many rows follow: 32 KiB of weights, which stay in the first-level
// cache.
constexpr int64_t kDepthTiles = 16;
// How far ahead weights are fetched while they stream from memory, in tiles of one panel.
constexpr int64_t kPrefetchTiles = 4;

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void configure_tiles() {
  const TileConfig config;
  // The intrinsic claims to read 8 bytes only; without the barrier GCC may drop the stores of the others.
  __asm__ volatile("" ::: "memory");
  _tile_loadconfig(&config);
}

// [row tiles][depth tiles][16][32], zeros beyond the last row and column.
int64_t packed_bytes(int64_t rows, int64_t k) {
  return round_up(rows, kTileRows) * round_up(k, kTileDepth) * static_cast<int64_t>(sizeof(BF16));
}

void pack(const float* a, int64_t stride, const int32_t* index, int64_t rows, int64_t k, void* packed) {
  BF16* out = static_cast<BF16*>(packed);
  const int64_t depth_tiles = round_up(k, kTileDepth) / kTileDepth;
  for (int64_t r = 0; r < round_up(rows, kTileRows); ++r) {
    BF16* tile = out + r / kTileRows * depth_tiles * kTileElements + r % kTileRows * kTileDepth;
    if (r >= rows) {
      for (int64_t t = 0; t < depth_tiles; ++t) std::memset(tile + t * kTileElements, 0, kTileStride);
      continue;
    }
    const float* row = a + (index != nullptr ? index[r] : r) * stride;
    for (int64_t t = 0; t < depth_tiles; ++t) {
      const int64_t n = k - t * kTileDepth;
      const float* x = row + t * kTileDepth;
      const __m512 low = n >= 16 ? load(x).v : load_n(x, n).v;
      const __m512 high = n >= 32 ? load(x + 16).v : n > 16 ? load_n(x + 16, n - 16).v : _mm512_setzero_ps();
      store_bf16(tile + t * kTileElements, {low});
      store_bf16(tile + t * kTileElements + 16, {high});
    }
  }
}

// sums [MT][NT][16][16] (+)= tiles of A (MT row tiles, a_stride apart) times tiles of B (NT panels, b_stride apart).
template <int MT, int NT, bool kFetch>
inline void multiply_tiles(const BF16* a, int64_t a_stride, const BF16* b, int64_t b_stride, int64_t depth_tiles,
                           bool first, float* sums) {
  if (first) {
    _tile_zero(0);
    if constexpr (NT > 1) _tile_zero(1);
    if constexpr (MT > 1) _tile_zero(2);
    if constexpr (MT > 1 && NT > 1) _tile_zero(3);
  } else {
    __asm__ volatile("" ::: "memory");
    _tile_loadd(0, sums, kTileStride);
    if constexpr (NT > 1) _tile_loadd(1, sums + kSumElements, kTileStride);
    if constexpr (MT > 1) _tile_loadd(2, sums + NT * kSumElements, kTileStride);
    if constexpr (MT > 1 && NT > 1) _tile_loadd(3, sums + 3 * kSumElements, kTileStride);
  }
  for (int64_t t = 0; t < depth_tiles; ++t) {
    if constexpr (kFetch) {
      for (int64_t line = 0; line < kTileRows; ++line) {
        const BF16* ahead = b + (t + kPrefetchTiles) * kTileElements + line * kTileDepth;
        _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T0);
        if constexpr (NT > 1) _mm_prefetch(reinterpret_cast<const char*>(ahead + b_stride), _MM_HINT_T0);
      }
    }
    _tile_loadd(4, a + t * kTileElements, kTileStride);
    _tile_loadd(6, b + t * kTileElements, kTileStride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (NT > 1) {
      _tile_loadd(7, b + b_stride + t * kTileElements, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (MT > 1) {
      _tile_loadd(5, a + a_stride + t * kTileElements, kTileStride);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (NT > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kTileStride);
  if constexpr (NT > 1) _tile_stored(1, sums + kSumElements, kTileStride);
  if constexpr (MT > 1) _tile_stored(2, sums + NT * kSumElements, kTileStride);
  if constexpr (MT > 1 && NT > 1) _tile_stored(3, sums + 3 * kSumElements, kTileStride);
  __asm__ volatile("" ::: "memory");
}

template <int NT>
void panels_step(const GemmTask& task, int64_t first_panel) {
  const int64_t depth_tiles = round_up(task.k, kTileDepth) / kTileDepth;
  const int64_t a_stride = depth_tiles * kTileElements;                        // of a row tile
  const int64_t b_stride = round_up(task.panel_depth(), kTileDepth) * kPanel;  // of a panel
  const BF16* a = static_cast<const BF16*>(task.a);
  const BF16* b = static_cast<const BF16*>(task.b) + first_panel * b_stride;
  const int64_t block = task.rows <= 2 * kTileRows ? depth_tiles : kDepthTiles;
  for (int64_t begin = 0; begin < depth_tiles; begin += block) {
    const int64_t count = depth_tiles - begin < block ? depth_tiles - begin : block;
    for (int64_t row = 0; row < task.rows; row += 2 * kTileRows) {
      const BF16* rows = a + row / kTileRows * a_stride + begin * kTileElements;
      const BF16* slice = b + begin * kTileElements;
      float* sums = task.scratch + row * NT * kPanel;
      const int64_t n = task.rows - row < 2 * kTileRows ? task.rows - row : 2 * kTileRows;
      const bool fetch = row == 0;  // later rows find the weights in the cache
      if (n > kTileRows) {
        if (fetch) {
          multiply_tiles<2, NT, true>(rows, a_stride, slice, b_stride, count, begin == 0, sums);
        } else {
          multiply_tiles<2, NT, false>(rows, a_stride, slice, b_stride, count, begin == 0, sums);
        }
      } else if (fetch) {
        multiply_tiles<1, NT, true>(rows, a_stride, slice, b_stride, count, begin == 0, sums);
      } else {
        multiply_tiles<1, NT, false>(rows, a_stride, slice, b_stride, count, begin == 0, sums);
      }
      if (begin + count < depth_tiles) continue;
      for (int64_t r = 0; r < n; ++r)
        for (int p = 0; p < NT; ++p)
          finish(task, task.c + (row + r) * task.c_stride, (first_panel + p) * kPanel,
                 load(sums + (r / kTileRows * NT + p) * kSumElements + r % kTileRows * kPanel));
    }
  }
}

void run(const GemmTask& task) {
  configure_tiles();
  int64_t panel = 0;
  for (; panel + 2 <= task.panels; panel += 2) panels_step<2>(task, panel);
  if (panel < task.panels) panels_step<1>(task, panel);
  _tile_release();
}

constexpr GemmKernel kTileKernel = {pack, packed_bytes, 2 * kTileRows, run};
