// The CUDA backend with the experts of some layers on the CPU, on the software device, against the committed variants.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/test_data.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/model/test_variants.h"
#include "engine/model/trace_case.h"
#include "parity/compare_case.h"

namespace vl2::parity {
namespace {

std::unique_ptr<Ops> split(int64_t layers) {
  return make_cuda_ops({.compute = Compute::kF32,
                        .expert_host = make_cpu_ops({.threads = 2, .isa = std::nullopt}),
                        .expert_layers = layers});
}

std::vector<float> logits_of(const std::vector<TraceTensor>& trace) {
  const auto found = std::find_if(trace.begin(), trace.end(), [](const TraceTensor& t) { return t.name == "logits"; });
  return to_floats(found->view());
}

struct SplitCase {
  std::string variant;
  int64_t layers;  // with experts on the card
};
void PrintTo(const SplitCase& c, std::ostream* out) { *out << c.variant << " " << c.layers; }

class HostExperts : public testing::TestWithParam<SplitCase> {};

TEST_P(HostExperts, AreTheSameModel) {
  const auto& [variant, layers] = GetParam();
  const std::filesystem::path folder = std::filesystem::path(source_dir()) / "tests/goldens/variants";
  const SafetensorsFile golden(folder / (variant + ".safetensors")), tiles(folder / "tiles.safetensors");
  const ModelConfig config = variant_config(variant);
  const auto ops = split(layers);
  RandomSource source(std::stoull(golden.metadata().at("seed")));
  const DeepseekVl2 model(config, *ops, source);
  const CaseReport report = compare_case(model, golden, &tiles);
  EXPECT_TRUE(report.passed()) << report_table(ops->description(), variant, report);

  // As an engine runs it: experts, shared ones and the residual in one operation.
  const TraceCase c = read_trace_case(golden, &tiles, config);
  TraceOptions details, plain;
  plain.layer_details = false;
  const std::vector<float> expected = logits_of(run_trace_case(model, c, details)),
                           fused = logits_of(run_trace_case(model, c, plain));
  ASSERT_EQ(fused.size(), expected.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < fused.size(); ++i) {
    difference += std::pow(fused[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  EXPECT_LE(std::sqrt(difference / size), 1e-5);
}

// "tail" has no shared experts.
INSTANTIATE_TEST_SUITE_P(Variants, HostExperts,
                         testing::Values(SplitCase{"tiny", 0}, SplitCase{"small", 2}, SplitCase{"base", 1},
                                         SplitCase{"tail", 1}));

TEST(HostExpertsHome, IsTheCardForTheFirstLayersAndTheHostForTheRest) {
  const auto ops = split(2), whole = make_cuda_ops({.compute = Compute::kF32});
  EXPECT_EQ(&ops->expert_home(0), ops.get());
  EXPECT_EQ(&ops->expert_home(1), ops.get());
  EXPECT_EQ(ops->expert_home(2).name(), "cpu");
  EXPECT_EQ(&whole->expert_home(1000), whole.get());
  EXPECT_NE(ops->description().find("experts of layers 2 and later: cpu"), std::string::npos) << ops->description();
  EXPECT_EQ(whole->description().find("experts"), std::string::npos);
}

}  // namespace
}  // namespace vl2::parity
