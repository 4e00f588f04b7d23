// The binder against the schema, and against checkpoints that lack something.
#include "engine/model/bind_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/base/temp_folder.h"
#include "core/model_spec/weight_schema.h"
#include "engine/model/test_variants.h"
#include "engine/ops/trace_ops.h"
#include "engine/reference/reference_ops.h"

namespace vl2 {
namespace {

// Every twin, and settings of the projector and the heads that no twin has.
std::map<std::string, ModelConfig> all_configs() {
  std::map<std::string, ModelConfig> configs;
  for (const std::string& name : variant_names()) configs[name] = variant_config(name);
  ModelConfig config = variant_config("tiny");
  config.projector.depth = 1;
  config.projector.mlp_ratio = 2;
  configs["projector depth 1"] = config;
  config = variant_config("tiny");
  config.language.attention_bias = true;
  configs["MHA with biases"] = config;
  return configs;
}

// Hands out random tensors and writes down what was asked for.
class RecordingSource : public WeightSource {
 public:
  TensorView get(const std::string& name, const Shape& shape) override {
    asked[name] = shape;
    ++open;
    return random_.get(name, shape);
  }
  void done(const TensorView&) override { --open; }

  std::map<std::string, Shape> asked;
  int open = 0;

 private:
  RandomSource random_{7};
};

TEST(BindWeights, ReadsExactlyTheTensorsOfTheSchema) {
  for (const auto& [name, config] : all_configs()) {
    SCOPED_TRACE(name);
    RecordingSource source;
    const auto ops = make_trace_ops();
    bind_weights(config, *ops, source);
    std::map<std::string, Shape> expected;
    for (const WeightSpec& spec : weight_schema(config))
      if (spec.role != WeightRole::kUnused) expected[spec.name] = spec.shape;
    for (const auto& [tensor, shape] : expected)
      EXPECT_EQ(source.asked.contains(tensor) ? source.asked[tensor] : Shape{}, shape) << tensor;
    for (const auto& [tensor, shape] : source.asked)
      EXPECT_TRUE(expected.contains(tensor)) << tensor << " is in no schema";
    EXPECT_EQ(source.open, 0) << "tensors not given back";
  }
}

TEST(BindWeights, ProgressCountsOneByOneToTheTotal) {
  for (const auto& [name, config] : all_configs()) {
    SCOPED_TRACE(name);
    RandomSource source(7);
    const auto ops = make_trace_ops();
    int64_t last = 0, end = -1;
    bind_weights(config, *ops, source, [&](int64_t done, int64_t total) {
      EXPECT_EQ(done, last + 1);
      EXPECT_LE(done, total);
      last = done;
      end = total;
    });
    EXPECT_EQ(last, end);
  }
}

// Writes the twin's checkpoint after `change` and binds it for the reference.
template <typename Change>
void bind_changed(const Change& change) {
  const ModelConfig config = variant_config("base");
  std::vector<TensorHeader> headers = tensor_headers(weight_schema(config), DType::kF32);
  change(headers);
  const TempFolder folder;
  write_sharded(folder.path(), headers, [](const TensorHeader&, std::span<std::byte>) {});
  const Checkpoint checkpoint(folder.path());
  CheckpointSource source(checkpoint);
  const auto ops = make_reference_ops();
  bind_weights(config, *ops, source);
}

TensorHeader& header(std::vector<TensorHeader>& headers, const std::string& name) {
  return *std::find_if(headers.begin(), headers.end(), [&](const TensorHeader& h) { return h.name == name; });
}

template <typename Change>
void expect_refused(ErrorCode code, const std::vector<std::string>& says, const Change& change) {
  try {
    bind_changed(change);
    ADD_FAILURE() << "the checkpoint was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& text : says)
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
  }
}

const char* const kExpert = "language.model.layers.2.mlp.experts.5.up_proj.weight";
const char* const kBias = "language.model.layers.1.mlp.gate.e_score_correction_bias";
const char* const kLatent = "language.model.layers.0.self_attn.kv_b_proj.weight";

TEST(BindWeights, AWholeCheckpointBinds) {
  bind_changed([](std::vector<TensorHeader>&) {});
}

TEST(BindWeights, AMissingTensorIsNamed) {
  for (const char* name : {kExpert, kBias, kLatent, "image_newline", "language.lm_head.weight"})
    expect_refused(ErrorCode::kNotFound, {name}, [&](std::vector<TensorHeader>& headers) {
      headers.erase(headers.begin() + (&header(headers, name) - headers.data()));
    });
}

TEST(BindWeights, AWrongShapeIsNamedWithBothShapes) {
  expect_refused(ErrorCode::kCorrupt, {kExpert, "[20, 48]", "[48, 20]"}, [](std::vector<TensorHeader>& headers) {
    header(headers, kExpert).shape = {48, 20};
  });
  expect_refused(ErrorCode::kCorrupt, {kBias, "[8]", "[8, 1]"}, [](std::vector<TensorHeader>& headers) {
    header(headers, kBias).shape = {8, 1};
  });
  expect_refused(ErrorCode::kCorrupt, {kLatent}, [](std::vector<TensorHeader>& headers) {
    std::swap(header(headers, kLatent).shape[0], header(headers, kLatent).shape[1]);
  });
}

TEST(BindWeights, NumbersThatAreNoFloatsAreNamed) {
  for (const char* name : {kExpert, kBias, kLatent, "language.model.embed_tokens.weight", "vision.pos_embed"})
    expect_refused(ErrorCode::kCorrupt, {name, "I32"},
                   [&](std::vector<TensorHeader>& headers) { header(headers, name).dtype = DType::kI32; });
}

TEST(BindWeights, EveryFloatTypeIsReadAndMayBeMixed) {
  bind_changed([](std::vector<TensorHeader>& headers) {
    const DType types[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kF64};
    for (size_t i = 0; i < headers.size(); ++i) headers[i].dtype = types[i % 4];
    // The format wants wide types first within a shard.
    std::stable_sort(headers.begin(), headers.end(), [](const TensorHeader& a, const TensorHeader& b) {
      return dtype_size(a.dtype) > dtype_size(b.dtype);
    });
  });
}

TEST(BindWeights, TensorsNobodyReadsMayBeMissingOrMore) {
  bind_changed([](std::vector<TensorHeader>& headers) {
    std::erase_if(headers, [](const TensorHeader& h) { return h.name.starts_with("vision.attn_pool."); });
    headers.push_back({"language.model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {4}});
  });
}

}  // namespace
}  // namespace vl2
