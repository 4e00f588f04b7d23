// The twin on a GPU against the twin on the CPU.
#include "train/model/device.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "core/base/error.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

std::string refusal(const std::string& name) {
  try {
    training_device(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(TrainingDevice, IsWhatItIsCalled) {
  EXPECT_TRUE(training_device("cpu").is_cpu());
  if (torch::cuda::is_available()) {
    EXPECT_EQ(training_device("auto"), at::Device(at::kCUDA, 0));
    EXPECT_NE(refusal("cuda:99").find("numbered from 0"), std::string::npos);
  } else {
    EXPECT_TRUE(training_device("auto").is_cpu());
    EXPECT_NE(refusal("cuda").find("finds no GPU"), std::string::npos);
  }
}

class TwinOnGpu : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "libtorch finds no GPU";
  }
  Parameters random_parameters() const {
    return Parameters::random(preset_config(GetParam()), {.seed = 5, .stddev = 0.1});
  }
  static MicroBatch batch(const ModelConfig& config) {
    return packed({random_sample(config, 1, 23, {{1, 1}}), random_sample(config, 2, 70),
                   random_sample(config, 3, 11, {{2, 1}, {1, 2}}), random_sample(config, 6, 64)},
                  false);
  }
};
INSTANTIATE_TEST_SUITE_P(Presets, TwinOnGpu, testing::Values("test-tiny", "test-small", "test-base"),
                         [](const auto& test) { return std::string(test.param).substr(5); });

TEST_P(TwinOnGpu, HasTheLossesAndGradientsOfTheCpu) {
  Parameters host = random_parameters(), card = random_parameters();
  card.to(training_device("cuda"));
  for (const DType compute : {DType::kF32, DType::kBF16}) {
    for (const bool whole_rows : {false, true}) {
      ForwardOptions options;
      options.compute = compute;
      host.zero_grad();
      card.zero_grad();
      const ForwardResult expected = DeepseekVl2(host).forward(batch(host.config()), options);
      expected.loss.backward();
      options.whole_rows = whole_rows;
      const ForwardResult actual = DeepseekVl2(card).forward(batch(card.config()), options);
      actual.loss.backward();
      const double loss = expected.loss_sum.item<double>();
      const bool exact = compute == DType::kF32;
      EXPECT_NEAR(actual.loss_sum.item<double>(), loss, (exact ? 1e-5 : 1e-2) * loss);
      if (exact) {
        EXPECT_TRUE(at::equal(actual.tokens_per_expert.cpu(), expected.tokens_per_expert));
      }
      const auto gradient = gradients(host);
      for (const auto& [name, grad] : gradients(card)) {
        // Rounded, a token may go to another expert, which changes an expert's gradient in whole.
        if (!exact && name != "language.lm_head.weight" && !name.starts_with("projector.")) continue;
        EXPECT_LE(relative_distance(grad.cpu(), gradient.at(name)), exact ? 1e-4 : 0.2) << name << " " << whole_rows;
      }
    }
  }
}

}  // namespace
}  // namespace vl2::train
