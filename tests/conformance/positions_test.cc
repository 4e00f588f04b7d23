// RoPE far out, through the whole path of a model with bf16 weights: what lands in the cache is the key turned by the
// exact angle, however the rest computes. (Angles in bf16 have no two bits right beyond position 256.)
#include <algorithm>
#include <cmath>

#include "conformance/op_test.h"
#include "engine/model/attention.h"
#include "engine/model/deepseek_vl2.h"
#include "engine/model/test_variants.h"

namespace vl2::conformance {
namespace {

class Positions : public testing::TestWithParam<std::string> {
 protected:
  static constexpr int64_t kBlockTokens = 16;

  // What layer 0 caches of `token` at `position`: the rotated key, since layer 0 sees the embedding alone.
  std::vector<float> key_at(const DeepseekVl2& model, int32_t token, int64_t position) {
    const LanguageConfig& c = model.config().language;
    const auto cache = model.make_cache(2, kBlockTokens);
    // All the past is one block over and over: only this token's own row is looked at.
    std::vector<int32_t> blocks(static_cast<size_t>(position / kBlockTokens + 1), 0);
    blocks.back() = 1;
    const SequenceSlice slice{0, 1, position, blocks, false};
    const int32_t ids[] = {token};
    model.forward(ids, {}, {{&slice, 1}, {}}, *cache, {});
    std::vector<float> row(static_cast<size_t>(cache->width()));
    cache->read(0, blocks, position, row.data());
    const int64_t first = c.use_mla ? c.kv_lora_rank : 0;
    return {row.begin() + first, row.begin() + first + rotary_dim(c)};
  }

  void check(const std::string& variant, double position_divisor) {
    SCOPED_TRACE(variant);
    const parity::Backend& backend = parity::backend(GetParam());
    const auto ops = backend.make();
    RandomSource source(5);  // bf16 values
    const DeepseekVl2 model(variant_config(variant), *ops, source);
    const LanguageConfig& c = model.config().language;
    const int64_t dim = rotary_dim(c), half = dim / 2;
    for (const int32_t token : {3, 77}) {
      const std::vector<float> unturned = key_at(model, token, 0);
      for (const int64_t position : {int64_t{257}, int64_t{4095}, int64_t{100000}}) {
        // A hundred thousand keys take minutes where kernels run in software; the angle is the host's business.
        if (ops->name() == "cuda-software" && position > 257) continue;
        const std::vector<float> turned = key_at(model, token, position);
        for (int64_t k = 0; k < half; ++k) {
          const double angle = static_cast<double>(position) / position_divisor *
                               std::pow(c.rope_theta, -2.0 * static_cast<double>(k) / static_cast<double>(dim));
          const auto a = static_cast<double>(unturned[static_cast<size_t>(k)]),
                     b = static_cast<double>(unturned[static_cast<size_t>(k + half)]);
          const double length = std::hypot(a, b);
          // Float32: the products' and the table's rounding. A bf16 cache rounds once before and once after turning.
          const double tolerance = length * (backend.rounds ? 2.5 * 0x1.0p-8 : 8 * 0x1.0p-24);
          EXPECT_NEAR(turned[static_cast<size_t>(k)], a * std::cos(angle) - b * std::sin(angle), tolerance)
              << "position " << position << " pair " << k;
          EXPECT_NEAR(turned[static_cast<size_t>(k + half)], b * std::cos(angle) + a * std::sin(angle), tolerance)
              << "position " << position << " pair " << k;
        }
      }
    }
  }
};

TEST_P(Positions, KeysAreTurnedByTheExactAngle) {
  check("tiny", 1.0);
  check("small", 1.0);
  check("base", 1.0);
  check("gqa", 4.0);  // linear scaling
}

std::vector<std::string> names() {
  std::vector<std::string> result = tested_backends();
  result.insert(result.begin(), "reference");
  return result;
}

INSTANTIATE_TEST_SUITE_P(Backends, Positions, testing::ValuesIn(names()), backend_test_name);

}  // namespace
}  // namespace vl2::conformance
