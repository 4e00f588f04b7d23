#include "engine/cpu/cpu_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/random.h"
#include "engine/cpu/kernels/select_kernels.h"

namespace vl2::cpu {
namespace {

constexpr int64_t kLayers = 2, kBlocks = 3, kBlockTokens = 4;

struct Layout {
  int64_t segment, planes, segments;
};
// Latents of the releases; keys and values of heads; sizes that are no multiple of anything.
constexpr Layout kLayouts[] = {{576, 1, 1}, {128, 2, 6}, {23, 2, 2}, {1, 2, 2}, {150, 1, 3}};

class CodesCache : public testing::TestWithParam<Isa> {
 protected:
  // Every token of every layer; blocks in an order of their own.
  std::vector<std::vector<float>> fill(CpuCache& cache, const Layout& l) {
    cache.lay_out(l.segment, l.planes);
    std::vector<std::vector<float>> rows;
    for (int64_t layer = 0; layer < kLayers; ++layer)
      for (int64_t t = 0; t < kBlocks * kBlockTokens; ++t) {
        std::vector<float>& row = rows.emplace_back(static_cast<size_t>(cache.width()));
        for (float& x : row) x = random_.normal();
        for (int64_t s = 0; s < l.segments; ++s) cache.write(layer, blocks_, t, s, row.data() + s * l.segment);
      }
    return rows;
  }
  CpuCache cache_of(const Layout& l, CacheType stored, int64_t block_tokens = kBlockTokens) const {
    return {kernels_, stored, kLayers, kBlocks, block_tokens, l.segment * l.segments};
  }

  const KernelTable& kernels_ = select_kernels(GetParam());
  const std::vector<int32_t> blocks_ = {2, 0, 1};
  Random random_{3};
};

TEST_P(CodesCache, AValueIsHalfAStepOffAtMost) {
  for (const Layout& l : kLayouts) {
    CpuCache cache = cache_of(l, CacheType::kInt8);
    const std::vector<std::vector<float>> rows = fill(cache, l);
    std::vector<float> out(static_cast<size_t>(cache.width()));
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto tokens = kBlocks * kBlockTokens, token = static_cast<int64_t>(i) % tokens;
      cache.read(static_cast<int64_t>(i) / tokens, blocks_, token, out.data());
      for (int64_t s = 0; s < l.segments; ++s)
        for (int64_t c = 0; c < l.segment; ++c) {
          const float* row = rows[i].data() + s * l.segment;
          float top = 0;
          for (int64_t g = c / kCacheGroup * kCacheGroup; g < std::min(l.segment, (c / kCacheGroup + 1) * kCacheGroup);
               ++g)
            top = std::max(top, std::abs(row[g]));
          // Besides, the scale itself is rounded to bf16.
          ASSERT_NEAR(out[static_cast<size_t>(s * l.segment + c)], row[c], top * (0.5 / 127 + 1.0 / 512))
              << "row " << i << ", column " << c << " of " << l.segment;
        }
    }
  }
}

TEST_P(CodesCache, PartsOfARowAreThatRowsParts) {
  for (const CacheType stored : {CacheType::kF32, CacheType::kBF16, CacheType::kInt8})
    for (const Layout& l : kLayouts) {
      CpuCache cache = cache_of(l, stored);
      fill(cache, l);
      std::vector<float> row(static_cast<size_t>(cache.width())), part(static_cast<size_t>(l.segment));
      cache.read(1, blocks_, 5, row.data());
      for (int64_t first : {int64_t{0}, l.segment / 3, l.segment - 1})
        for (int64_t count = 1; first + count <= l.segment; count += 7) {
          const int64_t column = (l.segments - 1) * l.segment + first;
          cache.gather(1, blocks_, 5, 6, column, count, part.data(), l.segment);
          for (int64_t c = 0; c < count; ++c)
            ASSERT_EQ(part[static_cast<size_t>(c)], row[static_cast<size_t>(column + c)]) << first << " + " << c;
        }
    }
}

TEST_P(CodesCache, TakesAQuarterOfFloat32) {
  const Layout tiny{128, 2, 20}, small{576, 1, 1};
  for (const Layout& l : {tiny, small}) {
    CpuCache codes = cache_of(l, CacheType::kInt8, 16), floats = cache_of(l, CacheType::kF32, 16);
    codes.lay_out(l.segment, l.planes);
    EXPECT_LE(4 * codes.num_bytes(), floats.num_bytes() * 33 / 32);
  }
}

TEST_P(CodesCache, WhatIsNoNumberStaysNone) {
  const Layout l{40, 1, 1};
  CpuCache cache = cache_of(l, CacheType::kInt8);
  cache.lay_out(l.segment, l.planes);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> row(40, 1.0f), out(40);
    row[17] = bad;
    cache.write(0, blocks_, 2, 0, row.data());
    cache.read(0, blocks_, 2, out.data());
    EXPECT_FALSE(std::isfinite(out[17]));
  }
}

TEST_P(CodesCache, ZeroTinyAndHugeValuesStayWhatTheyAre) {
  const Layout l{130, 1, 1};
  CpuCache cache = cache_of(l, CacheType::kInt8);
  cache.lay_out(l.segment, l.planes);
  for (const float size : {0.0f, 1e-42f, 1e-30f, 1e30f, 3e38f}) {
    std::vector<float> row(130), out(130);
    for (size_t c = 0; c < row.size(); ++c) row[c] = size * (c % 3 == 0 ? 1.0f : c % 3 == 1 ? -0.5f : 0.0f);
    cache.write(0, blocks_, 2, 0, row.data());
    cache.read(0, blocks_, 2, out.data());
    for (size_t c = 0; c < row.size(); ++c)
      ASSERT_NEAR(out[c], row[c], std::max(1e-36, 0.006 * static_cast<double>(size))) << size;
  }
}

std::string name_of(const testing::TestParamInfo<Isa>& info) { return std::string(isa_name(info.param)); }
INSTANTIATE_TEST_SUITE_P(Isas, CodesCache, testing::ValuesIn(available_isas()), name_of);

}  // namespace
}  // namespace vl2::cpu
