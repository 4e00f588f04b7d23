#include "engine/runtime/placement.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace vl2 {
namespace {

MemoryPlanInput on_a_card() {
  MemoryPlanInput in;
  in.footprint = {2, 2, 4, 2, false};
  in.host = {2, 2, 4, 4, true};
  in.cached_tokens = in.max_context = 2048;
  return in;
}

MemoryReport plan(const ModelConfig& config, int64_t layers) {
  MemoryPlanInput in = on_a_card();
  in.gpu_layers = layers;
  return plan_memory(config, in);
}

TEST(Placement, ExpertsThatStayOnTheHostAreCountedThere) {
  const ModelConfig config = preset_config("small");
  const LanguageConfig& c = config.language;
  const MemoryReport whole = plan(config, -1);
  EXPECT_EQ(whole.host_experts, 0);
  EXPECT_EQ(plan(config, c.num_hidden_layers).host_experts, 0);
  const int64_t layer = 2 * *c.n_routed_experts * 3 * c.moe_intermediate_size * c.hidden_size;
  EXPECT_EQ(plan(config, c.num_hidden_layers - 3).host_experts, 3 * layer);
  for (const int64_t layers : {int64_t{0}, int64_t{1}, int64_t{9}, c.num_hidden_layers}) {
    const MemoryReport split = plan(config, layers);
    EXPECT_EQ(split.weights + split.host_experts, whole.weights) << layers;
    EXPECT_EQ(split.cache, whole.cache);
  }
  EXPECT_EQ(plan(config, 0).host_experts, plan(config, 1).host_experts) << "the first layer of Small has no experts";
}

TEST(Placement, AHostKeepsExpertsAsItsBackendDoes) {
  const ModelConfig config = preset_config("test-small");
  MemoryPlanInput in = on_a_card();
  in.gpu_layers = 0;
  const int64_t narrow = plan_memory(config, in).host_experts;
  in.host.matrix = 4;
  EXPECT_EQ(plan_memory(config, in).host_experts, 2 * narrow);
  in.format = ModelFormat::kQ4;
  const int64_t codes = plan_memory(config, in).host_experts;
  in.host.matrix = 2;
  EXPECT_EQ(plan_memory(config, in).host_experts, codes);
}

TEST(Placement, AsManyLayersAsTheCardHasRoomFor) {
  const ModelConfig config = preset_config("small");
  const int64_t layers = config.language.num_hidden_layers;
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), INT64_MAX, INT64_MAX), layers);
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), plan(config, layers).total() - 1, INT64_MAX), layers - 1);
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), plan(config, 5).total(), INT64_MAX), 5);
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), plan(config, 0).total() - 1, INT64_MAX), std::nullopt);
  // What the card has not, the host must have.
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), plan(config, 5).total(), plan(config, 5).host_experts), 5);
  EXPECT_EQ(most_gpu_layers(config, on_a_card(), plan(config, 5).total(), plan(config, 5).host_experts - 1),
            std::nullopt);
}

TEST(Placement, AutoIsABackendWithRoom) {
  const ModelConfig config = preset_config("test-tiny");
  MemoryPlanInput in;
  in.cached_tokens = in.max_context = 64;
  const Placement p = place_model(config, in, "auto", {});
  EXPECT_EQ(p.backend, backend_names().front());
  EXPECT_EQ(p.compute.gpu_layers, -1);
  EXPECT_GT(p.memory.available, 0);
  check_placement(p, config, "toy");
  const Placement named = place_model(config, in, "reference", {});
  EXPECT_EQ(named.backend, "reference");
  EXPECT_EQ(named.memory.weights, plan_memory(config, named.input).weights);
}

TEST(Placement, WithoutRoomItSaysWhatIsNeededAndWhatThereIs) {
  const ModelConfig config = preset_config("test-tiny");
  MemoryPlanInput in;
  in.cached_tokens = in.max_context = 64;
  const Placement p = place_model(config, in, "cpu", {}, 1000);
  EXPECT_EQ(p.memory.available, 1000);
  try {
    check_placement(p, config, "toy");
    FAIL() << "a thousand bytes are not enough";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    EXPECT_NE(std::string(error.what()).find("only 1.0 KiB"), std::string::npos) << error.what();
  }
}

// A card of a chosen size, with what is known about it filled in as place_model does.
TEST(Placement, ACardThatIsTooSmallIsToldHowManyLayersItHolds) {
  const ModelConfig config = preset_config("small");
  Placement p{"cuda", {}, on_a_card(), plan(config, -1), "memory of GPU 0"};
  p.memory.available = plan(config, 7).total();
  try {
    check_placement(p, config, "Small");
    FAIL() << "20 layers of experts too many";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kOutOfMemory);
    const std::string what = error.what();
    EXPECT_NE(what.find("memory of GPU 0"), std::string::npos) << what;
    // Where this machine has no room for the other 20 either, nothing is promised.
    const bool room = plan(config, 7).host_experts <= backend_memory("cpu", {}).available.value_or(INT64_MAX);
    EXPECT_EQ(what.find("--gpu-layers 7 has room") != std::string::npos, room) << what;
  }
}

}  // namespace
}  // namespace vl2
