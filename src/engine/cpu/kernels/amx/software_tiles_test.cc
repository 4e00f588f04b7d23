// The AMX kernel on tiles in software, for machines that have AVX-512 but no AMX: everything but the tile unit itself
// is the shipped code. The tiles follow Intel's description of the instructions and refuse what would fault.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "core/base/random.h"
#include "engine/cpu/cpu_isa.h"
#include "engine/cpu/kernels/kernel_table.h"

#if defined(__x86_64__)

#include <immintrin.h>

namespace vl2::cpu {
namespace software {

struct TileUnit {
  struct Tile {
    int rows = 0, bytes_per_row = 0;
    std::array<std::array<uint8_t, 64>, 16> data{};
  };
  bool configured = false;
  std::array<Tile, 8> tiles;

  Tile& tile(int t) {
    if (!configured || tiles.at(static_cast<size_t>(t)).rows == 0) throw std::logic_error("tile without configuration");
    return tiles.at(static_cast<size_t>(t));
  }
  void configure(const void* memory) {
    std::array<uint8_t, 64> c;
    std::memcpy(c.data(), memory, c.size());
    if (c[0] != 1) throw std::logic_error("unknown palette");
    for (size_t i = 2; i < 16; ++i)
      if (c[i] != 0) throw std::logic_error("reserved byte of the configuration is not zero");
    for (size_t t = 0; t < 16; ++t) {
      const int bytes = c[16 + 2 * t] | c[17 + 2 * t] << 8, rows = c[48 + t];
      if (bytes > 64 || rows > 16 || (bytes == 0) != (rows == 0)) throw std::logic_error("impossible tile");
      if (t >= 8 && rows != 0) throw std::logic_error("there are eight tiles");
      if (t < 8) tiles[t] = {rows, bytes, {}};
    }
    configured = true;
  }
  void release() { *this = {}; }
  void zero(int t) { tile(t).data = {}; }
  void load(int t, const void* base, int64_t stride) {
    Tile& to = tile(t);
    to.data = {};
    for (int r = 0; r < to.rows; ++r)
      std::memcpy(to.data[static_cast<size_t>(r)].data(), static_cast<const char*>(base) + r * stride,
                  static_cast<size_t>(to.bytes_per_row));
  }
  void store(int t, void* base, int64_t stride) {
    const Tile& from = tile(t);
    for (int r = 0; r < from.rows; ++r)
      std::memcpy(static_cast<char*>(base) + r * stride, from.data[static_cast<size_t>(r)].data(),
                  static_cast<size_t>(from.bytes_per_row));
  }
  template <typename T>
  static T& element(Tile& t, int row, int column) {
    return *reinterpret_cast<T*>(t.data[static_cast<size_t>(row)].data() + static_cast<size_t>(column) * sizeof(T));
  }
  void dot_bf16(int c, int a, int b) {
    Tile &sums = tile(c), &left = tile(a), &right = tile(b);
    if (left.rows != sums.rows || right.bytes_per_row != sums.bytes_per_row || left.bytes_per_row / 4 != right.rows)
      throw std::logic_error("tiles do not fit each other");
    for (int m = 0; m < sums.rows; ++m)
      for (int k = 0; k < left.bytes_per_row / 4; ++k)
        for (int n = 0; n < sums.bytes_per_row / 4; ++n)
          for (int pair = 0; pair < 2; ++pair)
            element<float>(sums, m, n) +=
                to_float(element<BF16>(left, m, 2 * k + pair)) * to_float(element<BF16>(right, k, 2 * n + pair));
  }
  // Signed bytes of a by unsigned bytes of b.
  void dot_signed_unsigned(int c, int a, int b) {
    Tile &sums = tile(c), &left = tile(a), &right = tile(b);
    if (left.rows != sums.rows || right.bytes_per_row != sums.bytes_per_row || left.bytes_per_row / 4 != right.rows)
      throw std::logic_error("tiles do not fit each other");
    for (int m = 0; m < sums.rows; ++m)
      for (int k = 0; k < left.bytes_per_row / 4; ++k)
        for (int n = 0; n < sums.bytes_per_row / 4; ++n)
          for (int i = 0; i < 4; ++i)
            element<int32_t>(sums, m, n) +=
                int32_t{element<int8_t>(left, m, 4 * k + i)} * element<uint8_t>(right, k, 4 * n + i);
  }
};

TileUnit unit;

}  // namespace software

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#undef _tile_dpbsud
#define _tile_loadconfig(memory) software::unit.configure(memory)
#define _tile_release() software::unit.release()
#define _tile_zero(t) software::unit.zero(t)
#define _tile_loadd(t, base, stride) software::unit.load(t, base, stride)
#define _tile_stored(t, base, stride) software::unit.store(t, base, stride)
#define _tile_dpbf16ps(c, a, b) software::unit.dot_bf16(c, a, b)
#define _tile_dpbsud(c, a, b) software::unit.dot_signed_unsigned(c, a, b)

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace amx {
namespace in_software {
// clang-format off
#include "engine/cpu/kernels/avx512/simd.h"
#include "engine/cpu/kernels/generic/interleave-inl.h"
#include "engine/cpu/kernels/generic/math-inl.h"
#include "engine/cpu/kernels/generic/finish-inl.h"
#include "engine/cpu/kernels/generic/pages-inl.h"
#include "engine/cpu/kernels/amx/tiles-inl.h"
#include "engine/cpu/kernels/avx512/codes.h"
#include "engine/cpu/kernels/avx512/dot_words.h"
#include "engine/cpu/kernels/generic/quant-inl.h"
#include "engine/cpu/kernels/generic/words-inl.h"
#include "engine/cpu/kernels/generic/stream-inl.h"
#include "engine/cpu/kernels/amx/code-tiles-inl.h"
// clang-format on
}  // namespace in_software
}  // namespace amx
#pragma GCC pop_options

namespace {

struct Size {
  int64_t rows, k, columns;
};

class SoftwareTiles : public testing::TestWithParam<Size> {
 protected:
  void SetUp() override {
    if (detect_isa() < Isa::kAvx512) GTEST_SKIP() << "the code around the tiles needs AVX-512, this machine has none";
  }
};

// The same product by a kernel: rows and weights are given as floats that bf16 holds exactly.
std::vector<float> product(const GemmKernel& kernel, const Size& size, const std::vector<float>& a,
                           const std::vector<BF16>& panels, const std::vector<float>& bias, Epilogue epilogue,
                           const std::vector<float>& start) {
  std::vector<std::byte> memory(static_cast<size_t>(kernel.packed_a_bytes(size.rows, size.k)) + 64);
  auto* packed = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  kernel.pack_a(a.data(), size.k, nullptr, size.rows, size.k, packed);
  std::vector<float> scratch(static_cast<size_t>(gemm_scratch_floats(size.rows))), c = start;
  kernel.run({packed, size.rows, panels.data(), (size.columns + kPanel - 1) / kPanel, size.k, c.data(), size.columns,
              size.columns, bias.data(), epilogue, scratch.data()});
  return c;
}

TEST_P(SoftwareTiles, MultiplyAsTheScalarKernel) {
  const Size size = GetParam();
  Random random(static_cast<uint64_t>(size.rows * 1000 + size.k));
  const auto bf16_values = [&](int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& x : values) x = to_float(to_bf16(random.normal()));
    return values;
  };
  const std::vector<float> a = bf16_values(size.rows * size.k), bias = bf16_values(size.columns),
                           start = bf16_values(size.rows * size.columns);
  // Panels with zeros beyond the last column and the last k, as weights are packed.
  const int64_t depth = round_up(size.k, kTileDepth), panels = (size.columns + kPanel - 1) / kPanel;
  std::vector<BF16> b(static_cast<size_t>(panels * depth * kPanel) + 32 * static_cast<size_t>(kTileDepth), BF16{0});
  for (int64_t column = 0; column < size.columns; ++column)
    for (int64_t k = 0; k < size.k; ++k)
      b[static_cast<size_t>((column / kPanel * depth / 2 + k / 2) * 2 * kPanel + column % kPanel * 2 + k % 2)] =
          to_bf16(random.normal());

  for (Epilogue epilogue : {Epilogue::kStore, Epilogue::kAdd, Epilogue::kGeluTanh}) {
    const std::vector<float> found = product(amx::in_software::kTileKernel, size, a, b, bias, epilogue, start);
    const std::vector<float> expected = product(scalar_kernels().bf16, size, a, b, bias, epilogue, start);
    const double tolerance = 4 * 0x1.0p-24 * static_cast<double>(size.k) + 2e-6;  // |w| |x| is about k
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], tolerance)
          << "row " << i / static_cast<size_t>(size.columns) << ", column " << i % static_cast<size_t>(size.columns);
  }

  // Row by row, the bits are the same.
  const std::vector<float> together = product(amx::in_software::kTileKernel, size, a, b, bias, Epilogue::kStore, start);
  for (int64_t r = 0; r < size.rows; r += 7) {
    const std::vector<float> row(a.begin() + r * size.k, a.begin() + (r + 1) * size.k);
    const std::vector<float> alone = product(amx::in_software::kTileKernel, {1, size.k, size.columns}, row, b, bias,
                                             Epilogue::kStore, std::vector<float>(static_cast<size_t>(size.columns)));
    ASSERT_EQ(std::memcmp(alone.data(), &together[static_cast<size_t>(r * size.columns)], alone.size() * sizeof(float)),
              0)
        << "row " << r;
  }
}

// Codes: the tiles, the kernel for few rows behind them, and the vector kernels give the same bits.
TEST_P(SoftwareTiles, MultiplyCodesToTheBitsOfTheVectorKernels) {
  const Size size = GetParam();
  Random random(static_cast<uint64_t>(size.rows * 1000 + size.k));
  std::vector<float> a(static_cast<size_t>(size.rows * size.k)), bias(static_cast<size_t>(size.columns));
  std::vector<float> start(static_cast<size_t>(size.rows * size.columns)), w(static_cast<size_t>(kPanel * size.k));
  for (auto* values : {&a, &bias, &start})
    for (float& x : *values) x = random.normal();
  const auto run = [&](const GemmKernel& kernel, const std::byte* panels, int64_t rows, const float* x, float* c) {
    std::vector<std::byte> memory(static_cast<size_t>(kernel.packed_a_bytes(rows, size.k)) + 64);
    auto* packed = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    kernel.pack_a(x, size.k, nullptr, rows, size.k, packed);
    std::vector<float> scratch(static_cast<size_t>(gemm_scratch_floats(rows)));
    kernel.run({packed, rows, panels, (size.columns + kPanel - 1) / kPanel, size.k, c, size.columns, size.columns,
                bias.data(), Epilogue::kAdd, scratch.data()});
  };
  for (const PanelFormat format : {PanelFormat::kQ8, PanelFormat::kQ4}) {
    const auto bytes = static_cast<size_t>(matrix_bytes(format, size.columns, size.k));
    const std::unique_ptr<std::byte, decltype(&std::free)> panels(
        static_cast<std::byte*>(std::aligned_alloc(64, bytes)), &std::free);
    for (int64_t r = 0; r < size.columns; r += kPanel) {
      for (float& x : w) x = random.normal();
      encode_panel(format, w.data(), size.k, std::min(kPanel, size.columns - r), size.k, nullptr,
                   panels.get() + r / kPanel * vl2::panel_bytes(format, size.k));
    }
    const bool eight = format == PanelFormat::kQ8;
    const GemmKernel& vectors = eight ? avx512_kernels().q8 : avx512_kernels().q4;
    const GemmKernel& tiles = eight ? amx::in_software::kCodeKernel<amx::in_software::Bytes>
                                    : amx::in_software::kCodeKernel<amx::in_software::Nibbles>;
    std::vector<float> expected = start, found = start, alone = start;
    run(vectors, panels.get(), size.rows, a.data(), expected.data());
    run(tiles, panels.get(), size.rows, a.data(), found.data());
    for (int64_t r = 0; r < size.rows; ++r)
      run(tiles, panels.get(), 1, a.data() + r * size.k, alone.data() + r * size.columns);
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0) << panel_format_name(format);
    EXPECT_EQ(std::memcmp(alone.data(), expected.data(), found.size() * sizeof(float)), 0) << panel_format_name(format);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, SoftwareTiles,
                         testing::Values(Size{1, 1, 1}, Size{1, 32, 16}, Size{2, 33, 17}, Size{15, 64, 32},
                                         Size{16, 95, 33}, Size{17, 96, 48}, Size{31, 513, 40}, Size{32, 512, 15},
                                         Size{33, 544, 64}, Size{48, 1000, 50}, Size{65, 1153, 31}, Size{100, 66, 7}),
                         [](const auto& test) {
                           return std::to_string(test.param.rows) + "x" + std::to_string(test.param.k) + "x" +
                                  std::to_string(test.param.columns);
                         });

}  // namespace
}  // namespace vl2::cpu

#endif
