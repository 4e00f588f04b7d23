// The model is defined twice, for running and for training. Both must be the same function of the same files, stage by
// stage, for every kind of model, whoever wrote the weights.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "core/base/temp_folder.h"
#include "core/base/test_data.h"
#include "core/checkpoint/checkpoint.h"
#include "engine/model/random_model.h"
#include "engine/model/test_variants.h"
#include "engine/model/trace_case.h"
#include "parity/backends.h"
#include "parity/golden_models.h"
#include "train/model/test_batches.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

TraceCase trace_case_of(const train::MicroBatch& batch) {
  TraceCase c;
  c.length = batch.num_tokens();
  c.input_ids = batch.input_ids;
  c.image_mask = batch.vision_mask;
  c.attention_mask.assign(batch.input_ids.size(), 1);
  c.images.resize(1);
  c.pixels.resize(1);
  for (const TiledImage& image : batch.images) {
    c.images[0].push_back({image.tiles_wide, image.tiles_high});
    const int64_t plane = image.tile_size * image.tile_size;
    for (int64_t tile = 0; tile < image.num_tiles(); ++tile)
      for (int64_t channel = 0; channel < 3; ++channel)
        for (int64_t i = 0; i < plane; ++i) {
          const auto at = static_cast<size_t>((tile * plane + i) * 3 + channel);
          c.pixels[0].push_back((static_cast<float>(image.pixels[at]) / 255.0f - 0.5f) / 0.5f);
        }
  }
  return c;
}

// golden/README.md, "Tolerances": what two float32 implementations may differ by.
double tolerance(const std::string& stage) {
  if (stage == "logits") return 6e-4;
  if (stage.starts_with("hidden.")) return 4e-4;
  if (stage.find(".cache") != std::string::npos) return 1e-4;
  return 5e-5;
}

void expect_the_same_stages(const fs::path& folder) {
  const auto ops = parity::backend("reference").make();
  const auto engine = parity::load_model(folder, *ops);
  const train::Parameters parameters =
      train::Parameters::load(load_model_config(folder / "config.json"), std::make_shared<Checkpoint>(folder));
  const train::MicroBatch batch = train::random_sample(parameters.config(), 17, 25, {{2, 1}, {1, 1}});

  std::map<std::string, at::Tensor> stages;
  train::ForwardOptions options;
  options.all_logits = true;
  options.tap = [&](const std::string& name, const at::Tensor& values) { stages[name] = values; };
  const at::NoGradGuard no_gradients;
  stages["logits"] = train::DeepseekVl2(parameters).forward(batch, options).logits;

  size_t compared = 0;
  for (const TraceTensor& expected : run_trace_case(*engine, trace_case_of(batch), {})) {
    if (expected.name.ends_with(".gap")) continue;
    ASSERT_TRUE(stages.count(expected.name)) << expected.name;
    at::Tensor actual = stages[expected.name];
    if (expected.name == "projector.unfold_in") actual = actual.narrow(0, 1, 1);  // a trace keeps tile 1 alone
    ASSERT_EQ(actual.numel(), num_elements(expected.shape)) << expected.name;
    const at::Tensor wide = actual.flatten().to(at::kDouble);
    double error = 0.0;
    for (int64_t i = 0; i < wide.numel(); ++i) {
      const double value = wide.data_ptr<double>()[i];
      const double other = expected.dtype == DType::kI32 ? static_cast<double>(expected.view().as<int32_t>()[i])
                                                         : static_cast<double>(expected.view().as<float>()[i]);
      error = std::max(error, std::abs(value - other));
    }
    EXPECT_LE(error, expected.dtype == DType::kI32 ? 0.0 : tolerance(expected.name)) << expected.name;
    ++compared;
  }
  EXPECT_GE(compared, stages.size());
}

class TrainParity : public testing::TestWithParam<std::string> {};

TEST_P(TrainParity, EngineComputesWhatTheTrainerSaved) {
  train::Parameters parameters = train::Parameters::random(variant_config(GetParam()), {.seed = 8, .stddev = 0.1});
  Random random(4);
  for (const train::Parameter& p : parameters.all()) {  // norms of one and biases of zero would hide mistakes
    if (p.role != WeightRole::kVector || p.name.ends_with("pos_embed")) continue;
    at::Tensor values = p.value.detach();
    for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<float>()[i] += random.symmetric(0.2f);
  }
  const TempFolder folder;
  parameters.save(folder / "model", DType::kF32);
  expect_the_same_stages(folder / "model");
}

TEST_P(TrainParity, TrainerComputesWhatTheEngineWrote) {
  const TempFolder folder;
  RandomModelOptions options;
  options.files_from = fs::path(source_dir()) / "tests/goldens/nano/model";
  write_random_model(folder / "model", variant_config(GetParam()), options);
  expect_the_same_stages(folder / "model");
}

INSTANTIATE_TEST_SUITE_P(Variants, TrainParity, testing::ValuesIn(variant_names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace vl2
