// The twin against what the official implementation computed: losses, every gradient, every stage of the forward pass.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cstring>
#include <regex>

#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"
#include "train/model/test_batches.h"

namespace vl2::train {
namespace {

namespace fs = std::filesystem;

at::Tensor to_double(const TensorView& view) {
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  at::Tensor result = at::empty(view.shape, wide);
  auto* out = result.data_ptr<double>();
  for (int64_t i = 0; i < view.size(); ++i) {
    switch (view.dtype) {
      case DType::kF64:
        out[i] = view.as<double>()[i];
        break;
      case DType::kI64:
        out[i] = static_cast<double>(view.as<int64_t>()[i]);
        break;
      case DType::kI32:
        out[i] = static_cast<double>(view.as<int32_t>()[i]);
        break;
      case DType::kBool:
        out[i] = view.as<uint8_t>()[i] != 0 ? 1.0 : 0.0;
        break;
      default: {
        float value = 0;
        to_floats(view, i, 1, &value);
        out[i] = static_cast<double>(value);
      }
    }
  }
  return result;
}

// The samples of a case with all their padding, which the official model computes too.
MicroBatch read_case(const SafetensorsFile& file, const SafetensorsFile& tiles, const ModelConfig& config) {
  MicroBatch batch;
  const TensorView& ids = file.at("input_ids");
  const int64_t samples = ids.shape[0], length = ids.shape[1];
  const TensorView* labels = file.find("labels");
  batch.sample_starts = {0};
  for (int64_t i = 0; i < ids.size(); ++i) {
    batch.input_ids.push_back(static_cast<int32_t>(ids.as<int64_t>()[i]));
    batch.labels.push_back(labels != nullptr ? static_cast<int32_t>(labels->as<int64_t>()[i]) : kIgnoredLabel);
    batch.positions.push_back(static_cast<int32_t>(i % length));
    batch.vision_mask.push_back(file.at("images_seq_mask").as<uint8_t>()[i]);
    batch.key_mask.push_back(file.at("attention_mask").as<uint8_t>()[i]);
    if (i % length == length - 1) batch.sample_starts.push_back(i + 1);
  }
  // Behind padding on the left, generation counts positions from the first token (golden/README.md, 20).
  for (int64_t b = 0; labels == nullptr && b < samples; ++b) {
    int32_t next = 0;
    for (int64_t i = b * length; i < (b + 1) * length; ++i)
      batch.positions[static_cast<size_t>(i)] = batch.key_mask[static_cast<size_t>(i)] != 0 ? next++ : 1;
  }
  batch.row_starts = batch.sample_starts;
  batch.record_ids.resize(static_cast<size_t>(samples), "golden");

  const TensorView &crops = file.at("images_spatial_crop"), &tile_ids = file.at("tile_ids");
  const int64_t size = config.vision.image_size;
  for (int64_t b = 0; b < samples; ++b) {
    int64_t next = b * tile_ids.shape[1];
    for (int64_t n = 0; n < crops.shape[1]; ++n) {
      TiledImage image;
      image.tiles_wide = crops.as<int64_t>()[(b * crops.shape[1] + n) * 2];
      image.tiles_high = crops.as<int64_t>()[(b * crops.shape[1] + n) * 2 + 1];
      if (image.tiles_wide == 0) break;
      image.tile_size = size;
      for (int64_t tile = 0; tile < image.num_tiles(); ++tile, ++next) {
        const uint8_t* chw = tiles.at("tiles_u8").as<uint8_t>() + tile_ids.as<int64_t>()[next] * 3 * size * size;
        for (int64_t i = 0; i < size * size; ++i)
          for (int64_t c = 0; c < 3; ++c) image.pixels.push_back(chw[c * size * size + i]);
      }
      batch.images.push_back(std::move(image));
    }
  }
  return batch;
}

Parameters load_golden(const fs::path& folder) {
  return Parameters::load(load_model_config(folder / "config.json"), std::make_shared<Checkpoint>(folder));
}

class GoldenTraining : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTraining, LossAuxiliaryLossesAndEveryGradientAreTheOfficialOnes) {
  VL2_NEED_SHARED(shared);
  const std::string model_name = GetParam();
  Parameters parameters = load_golden(shared / "golden/models" / model_name);
  const SafetensorsFile golden(shared / "golden/cases" / model_name / "train.safetensors");
  const SafetensorsFile tiles(shared / "golden/tiles.safetensors");
  const MicroBatch batch = read_case(golden, tiles, parameters.config());
  ForwardOptions options;
  options.aux_loss_alpha = 0.02;  // from the models' config.json, as seq_aux
  options.seq_aux = model_name == "a_tiny_mha";
  const DeepseekVl2 model(parameters);
  // The official loss is a mean: its gradient needs the count, which the batch tells.
  int64_t supervised = 0;
  for (size_t b = 0; b + 1 < batch.sample_starts.size(); ++b)
    for (int64_t t = batch.sample_starts[b] + 1; t < batch.sample_starts[b + 1]; ++t)
      supervised += batch.labels[static_cast<size_t>(t)] != kIgnoredLabel ? 1 : 0;
  options.loss_scale = 1.0 / static_cast<double>(supervised);
  const ForwardResult result = model.forward(batch, options);
  EXPECT_EQ(result.supervised, supervised);
  const double loss = golden.at("loss_f64").as<double>()[0];
  EXPECT_NEAR(result.loss_sum.item<double>() * options.loss_scale, loss, 1e-5 * loss);
  for (size_t i = 0; i < result.moe_layers.size(); ++i) {
    const double aux = golden.at(fmt::format("aux_loss_f64.{}", result.moe_layers[i])).as<double>()[0];
    EXPECT_NEAR(result.aux_losses[static_cast<int64_t>(i)].item<double>(), aux, 1e-5 * aux);
  }

  result.loss.backward();
  int compared = 0;
  for (const auto& [name, view] : golden.tensors()) {
    if (!name.starts_with("grad.") && !name.starts_with("grad@4.")) continue;
    const bool thinned = name.starts_with("grad@4.");
    const std::string parameter = name.substr(name.find('.') + 1);
    const at::Tensor grad = parameters.grad(parameter);
    ASSERT_TRUE(grad.defined()) << parameter << " has no gradient";
    const at::Tensor values = thinned ? grad.flatten().slice(0, 0, grad.numel(), 4) : grad;
    EXPECT_LE(relative_distance(values.flatten(), to_double(view).flatten()), 1e-4) << parameter;
    const double norm = to_double(golden.at("gradnorm." + parameter)).item<double>();
    EXPECT_NEAR(grad.norm().item<double>(), norm, 1e-4 * norm) << parameter;
    ++compared;
  }
  EXPECT_GT(compared, 100);
}
INSTANTIATE_TEST_SUITE_P(Models, GoldenTraining, testing::Values("a_tiny_mha", "b_small_mla"));

struct StageTolerance {
  const char* pattern;
  double tolerance;
};
// golden/README.md, "Tolerances".
constexpr StageTolerance kTolerances[] = {
    {"vision\\..*|projector\\..*|inputs_embeds", 5e-5},
    {"layer\\..*\\.cache.", 1e-4},
    {"layer\\..*", 5e-5},
    {"hidden\\..*", 4e-4},
    {"gate\\..*\\.topk_weight", 6e-5},
    {"gate\\..*\\.scores", 2e-5},
    {"logits", 6e-4},
};

struct GoldenCase {
  std::string model, name;
};
std::string test_name(const testing::TestParamInfo<GoldenCase>& test) {
  return test.param.model + "_" + test.param.name;
}
void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.model << " " << c.name; }

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const char* model : {"a_tiny_mha", "b_small_mla", "c_base_noaux"})
    for (const char* name : {"text", "img11", "img23", "img31", "img2", "img3"}) cases.push_back({model, name});
  for (const char* model : {"d1_qlora", "d2_yarn", "e_group", "g_gqa_tail"})
    for (const char* name : {"text", "img11", "img2"}) cases.push_back({model, name});
  for (const char* model :
       {"a_tiny_mha", "b_small_mla", "c_base_noaux", "d1_qlora", "d2_yarn", "e_group", "g_gqa_tail"})
    cases.push_back({model, "batch"});
  for (const char* name : {"text", "img11"}) cases.push_back({"b_small_mla_bf16", name});
  return cases;
}

class GoldenForward : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenForward, EveryStageIsTheOfficialOne) {
  VL2_NEED_SHARED(shared);
  const auto& [model_name, name] = GetParam();
  const Parameters parameters = load_golden(shared / "golden/models" / model_name);
  const SafetensorsFile golden(shared / "golden/cases" / model_name / (name + ".safetensors"));
  const SafetensorsFile tiles(shared / "golden/tiles.safetensors");
  const MicroBatch batch = read_case(golden, tiles, parameters.config());
  std::map<std::string, at::Tensor> stages;
  ForwardOptions options;
  options.all_logits = true;
  options.tap = [&](const std::string& stage, const at::Tensor& values) {
    EXPECT_TRUE(stages.emplace(stage, values).second) << stage << " was seen twice";
  };
  const c10::NoGradGuard no_gradients;
  const ForwardResult result = DeepseekVl2(parameters).forward(batch, options);
  stages["logits"] = result.logits;

  // Rows of [.., R, width] that the file kept.
  const auto rows_of = [&](const std::string& stage) {
    const TensorView* rows = golden.find(stage.starts_with("vision.") ? "vision.rows" : "rows");
    return stage == "logits" && golden.find("logits_rows") != nullptr ? golden.find("logits_rows") : rows;
  };
  const int64_t samples = golden.at("input_ids").shape[0];
  const auto kept = [&](const std::string& stage, const at::Tensor& values, const at::Tensor& expected) {
    if (values.numel() == expected.numel()) return values.reshape(expected.sizes());
    const TensorView* rows = rows_of(stage);
    const at::Tensor by_row = values.dim() == 2 ? values.reshape({samples, -1, values.size(1)}) : values;
    EXPECT_TRUE(rows != nullptr) << stage;
    return by_row.index_select(1, to_double(*rows).to(at::kLong));
  };
  // Without the rows of padding, which have no meaning: every key of their softmax is hidden.
  const at::Tensor is_text = to_double(golden.at("attention_mask"));  // [B, T]
  const auto meant = [&](const std::string& stage, const at::Tensor& difference) {
    if (name != "batch") return difference;
    const TensorView* rows = stage.starts_with("gate.") ? nullptr : rows_of(stage);
    const at::Tensor mask = rows != nullptr ? is_text.index_select(1, to_double(*rows).to(at::kLong)) : is_text;
    const at::Tensor flat = difference.reshape({-1, difference.size(-1)});
    return flat.index_select(0, mask.flatten().nonzero().squeeze(1));
  };
  int compared = 0;
  for (const auto& [recorded, view] : golden.tensors()) {
    // Of bf16 weights: what float32 arithmetic makes of them; bf16's own noise says nothing about the twin.
    constexpr std::string_view kCompute = "fp32compute.";
    const std::string stage = recorded.starts_with(kCompute) ? recorded.substr(kCompute.size()) : recorded;
    if (recorded.starts_with("bf16compute.")) continue;
    if (stage.starts_with("gen") || stage.starts_with("incremental") || stage.ends_with(".gap") ||
        stage.ends_with("rows"))
      continue;
    if (stage.ends_with("topk_idx")) {
      ASSERT_TRUE(stages.count(stage)) << stage;
      EXPECT_EQ(meant(stage, stages[stage].to(at::kDouble) - to_double(view)).abs().max().item<double>(), 0) << stage;
      continue;
    }
    const auto known = std::find_if(std::begin(kTolerances), std::end(kTolerances), [&](const StageTolerance& t) {
      return std::regex_match(stage, std::regex(t.pattern));
    });
    if (known == std::end(kTolerances)) continue;
    ASSERT_TRUE(stages.count(stage)) << stage << " was not computed";
    at::Tensor values = stages[stage];
    if (stage == "projector.unfold_in") values = values.narrow(0, 1, 1);  // tile 1 only
    const at::Tensor expected = to_double(view);
    const at::Tensor difference = kept(stage, values, expected).to(at::kDouble) - expected;
    const double error = meant(stage, difference).abs().max().item<double>();
    EXPECT_LE(error, known->tolerance) << stage;
    ++compared;
  }
  EXPECT_GE(compared, 5);
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenForward, testing::ValuesIn(golden_cases()), test_name);

class GoldenGeneration : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenGeneration, TokensAreTheOfficialOnesWhileTheirMarginsAreClear) {
  VL2_NEED_SHARED(shared);
  const auto& [model_name, name] = GetParam();
  const Parameters parameters = load_golden(shared / "golden/models" / model_name);
  const SafetensorsFile golden(shared / "golden/cases" / model_name / (name + ".safetensors"));
  const SafetensorsFile tiles(shared / "golden/tiles.safetensors");
  const MicroBatch batch = read_case(golden, tiles, parameters.config());
  MultimodalPrompt prompt;
  prompt.input_ids = batch.input_ids;
  prompt.images_seq_mask = batch.vision_mask;
  prompt.images = batch.images;
  const TensorView& tokens = golden.at("gen.tokens");
  const std::vector<float> margins = to_floats(golden.at("gen.margin"));
  const Generation generation = DeepseekVl2(parameters).generate(prompt, tokens.size());
  for (size_t i = 0; i < generation.tokens.size(); ++i) {
    if (margins[i] <= 2e-3f) break;  // either is right, and all behind it differs
    ASSERT_EQ(generation.tokens[i], tokens.as<int64_t>()[i]) << "token " << i;
    EXPECT_NEAR(generation.margins[i], margins[i], 1.2e-3) << "token " << i;
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, GoldenGeneration,
                         testing::Values(GoldenCase{"a_tiny_mha", "img11"}, GoldenCase{"b_small_mla", "img2"},
                                         GoldenCase{"d2_yarn", "text"}, GoldenCase{"g_gqa_tail", "text"}),
                         test_name);

}  // namespace
}  // namespace vl2::train
