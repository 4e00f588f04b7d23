// What an engine remembers changes how long an answer takes and nothing else: every answer is compared, to the last
// bit, with that of an engine that remembers nothing.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/model/test_variants.h"
#include "engine/runtime/caches_test.h"
#include "engine/runtime/told_test.h"

namespace vl2 {
namespace {

std::vector<Told> one_by_one(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Told> told;
  for (const Request& request : requests) told.push_back(read(*engine.submit(request)));
  return told;
}

std::vector<Told> all_at_once(Engine& engine, const std::vector<Request>& requests) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const Request& request : requests) streams.push_back(engine.submit(request));
  std::vector<Told> told;
  for (const auto& stream : streams) told.push_back(read(*stream));
  return told;
}

// Prompts that share nothing, their beginnings, their pictures, everything; of lengths around whole blocks.
std::vector<Request> related_requests(const ModelConfig& config) {
  std::vector<Request> requests = mixed_requests(config);
  const TiledImage picture = test_image(config, 2, 1, 21), other = test_image(config, 2, 1, 22);
  requests.push_back(question(config, picture, 1));
  requests.push_back(question(config, picture, 2));
  requests.push_back(question(config, other, 1));
  requests.push_back(question(config, picture, 1));
  requests.back().sampling.temperature = 0.9;
  requests.back().sampling.seed = 3;
  requests.push_back(test_request(test_prompt(config, 9, {other, picture}, 5), 7));  // elsewhere, in another order
  requests.push_back(test_request(test_prompt(config, 64, {}, 6), 5));
  requests.push_back(test_request(test_prompt(config, 65, {}, 6), 5));
  requests.push_back(test_request(test_prompt(config, 80, {}, 6), 5));
  requests.push_back(test_request(test_prompt(config, 64, {}, 6), 8));
  for (Request& request : requests) request.top_logprobs = 2;
  return requests;
}

struct Case {
  TestBackend backend;
  std::string variant;
  CacheType cache;
  Compute compute;
};
std::string name_of(const Case& c) {
  return c.backend.label() + "_" + c.variant +
         (c.cache == CacheType::kBF16   ? "_bf16cache"
          : c.cache == CacheType::kInt8 ? "_int8cache"
                                        : "") +
         (c.compute == Compute::kBF16 ? "_bf16" : "");
}
void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c); }

class CachesOnEveryBackend : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Engine> engine(EngineOptions options) const {
    options.compute.cache = GetParam().cache;
    options.compute.compute = GetParam().compute;
    return test_engine(GetParam().backend, options, config_);
  }
  const ModelConfig config_ = variant_config(GetParam().variant);
};

TEST_P(CachesOnEveryBackend, ChangeNoBitOfAnyAnswer) {
  const std::vector<Request> requests = related_requests(config_);
  const std::vector<Told> expected = one_by_one(*engine(without_caches()), requests);
  EngineOptions options;
  options.max_cached_tokens = 8192;  // nothing is forgotten
  for (const int64_t chunk : {7, 512}) {
    SCOPED_TRACE(fmt::format("chunk {}", chunk));
    options.prefill_chunk = chunk;
    const auto e = engine(options);
    EXPECT_EQ(all_at_once(*e, requests), expected) << "prefixes shared while they are computed";
    const EngineStats cold = e->stats();
    EXPECT_GT(cold.prefix_hit_tokens, 0);
    EXPECT_EQ(all_at_once(*e, requests), expected);
    EXPECT_EQ(one_by_one(*e, requests), expected);
    const EngineStats warm = e->stats();
    EXPECT_EQ(warm.tiles, cold.tiles) << "no picture was encoded again";
    EXPECT_EQ(warm.cache_blocks_used, 0);
    EXPECT_EQ(warm.prompt_tokens + warm.prefix_hit_tokens, warm.prefix_query_tokens);
  }
}

TEST_P(CachesOnEveryBackend, BlocksThatWereForgottenAndUsedAgainHoldWhatTheyShould) {
  const std::vector<Request> requests = related_requests(config_);
  const std::vector<Told> expected = one_by_one(*engine(without_caches()), requests);
  EngineOptions options;
  int64_t longest = 0;
  for (const Request& r : requests) longest = std::max(longest, length_of(r) + r.max_new_tokens);
  options.max_cached_tokens = longest + 100;  // a few at a time, and little is remembered for long
  options.prefill_chunk = 24;
  const auto e = engine(options);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(all_at_once(*e, requests), expected) << i;
  EXPECT_EQ(one_by_one(*e, requests), expected);
  const EngineStats stats = e->stats();
  EXPECT_GT(stats.prefix_hit_tokens, 0);
  EXPECT_EQ(stats.cache_blocks_used, 0);
  EXPECT_LE(stats.cache_blocks_remembered, stats.cache_blocks_total);
}

std::vector<Case> all_cases() {
  std::vector<Case> cases = {{{"reference", ""}, "tiny", CacheType::kF32, Compute::kF32},
                             {{"reference", ""}, "small", CacheType::kF32, Compute::kF32}};
  for (const char* variant : {"tiny", "small", "base", "gqa"}) {
    cases.push_back({{"cpu", ""}, variant, CacheType::kF32, Compute::kF32});
    cases.push_back({{"cpu", ""}, variant, CacheType::kBF16, Compute::kF32});
    cases.push_back({{"cpu", ""}, variant, CacheType::kInt8, Compute::kF32});
  }
  for (const Isa isa : available_isas())
    for (const char* variant : {"tiny", "small"})
      if (isa == Isa::kAmx) cases.push_back({{"cpu", "amx"}, variant, CacheType::kBF16, Compute::kBF16});
  return cases;
}
std::string test_name(const testing::TestParamInfo<Case>& test) { return name_of(test.param); }
INSTANTIATE_TEST_SUITE_P(Backends, CachesOnEveryBackend, testing::ValuesIn(all_cases()), test_name);

}  // namespace
}  // namespace vl2
