// The official implementation's single operations: routers, rotary tables and rotations, norms, activations. (The u8
// table and the sampling distributions are compared beside core/image/normalize and engine/runtime/sampler.)
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/test_data.h"
#include "core/checkpoint/safetensors.h"
#include "engine/model/rope.h"
#include "parity/backends.h"

namespace vl2::parity {
namespace {

constexpr double kEps = 0x1.0p-24;

class OpsGolden : public testing::TestWithParam<std::string> {
 protected:
  OpsGolden() : ops_(backend(GetParam()).make()) {}

  // [rows, cols] of a golden tensor as activations that may be overwritten.
  Tensor load(const TensorView& view, int64_t rows, int64_t cols) {
    Tensor x = ops_->workspace().tensor(rows, cols);
    to_floats(view, 0, view.size(), x.data);
    return x;
  }
  Tensor ones(int64_t rows, int64_t cols) {
    Tensor x = ops_->workspace().tensor(rows, cols);
    std::fill_n(x.data, x.size(), 1.0f);
    return x;
  }

  std::unique_ptr<Ops> ops_;
};

// Relative 2e-6, and as much of the largest value of the row where terms cancel.
void expect_row(const float* actual, const float* expected, int64_t n, const std::string& what) {
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  for (int64_t i = 0; i < n; ++i)
    EXPECT_NEAR(actual[i], expected[i], 2e-6 * std::max(largest, 1e-3)) << what << " [" << i << "]";
}

RouterParams router_params(const nlohmann::json& c) {
  RouterParams p;
  const std::string method = c["topk_method"];
  p.topk_method = method == "noaux_tc"               ? TopkMethod::kNoauxTc
                  : method == "group_limited_greedy" ? TopkMethod::kGroupLimitedGreedy
                                                     : TopkMethod::kGreedy;
  p.scoring_func = c["scoring_func"] == "sigmoid" ? ScoringFunc::kSigmoid : ScoringFunc::kSoftmax;
  p.top_k = c["num_experts_per_tok"];
  p.num_groups = c["n_group"];
  p.topk_groups = c["topk_group"];
  p.norm_topk_prob = c["norm_topk_prob"];
  p.routed_scaling_factor = c["routed_scaling_factor"];
  return p;
}

TEST_P(OpsGolden, Routers) {
  VL2_NEED_SHARED(shared);
  const auto cases = nlohmann::json::parse(read_file(shared / "golden/ops/gate_cases.json"));
  const SafetensorsFile file(shared / "golden/ops/gate_cases.safetensors");
  int64_t compared = 0;
  for (const auto& [name, config] : cases.items()) {
    SCOPED_TRACE(name);
    Workspace::Scope scope(ops_->workspace());
    const RouterParams p = router_params(config);
    const TensorView& x = file.at(name + ".x");
    const int64_t rows = x.shape[0] * x.shape[1];
    const Weight gate = ops_->pack(file.at(name + ".weight"), WeightUse::kRouter);
    const TensorView* bias = file.find(name + ".e_score_correction_bias");
    const Routing routing = ops_->route(load(x, rows, x.shape[2]), gate,
                                        bias != nullptr ? ops_->pack(*bias, WeightUse::kVector) : Weight{}, p);
    const auto* experts = file.at(name + ".topk_idx").as<int32_t>();
    const auto* weights = file.at(name + ".topk_weight").as<float>();
    const auto* ambiguous = file.at(name + ".tie_ambiguous").as<uint8_t>();
    for (int64_t r = 0; r < rows; ++r) {
      if (ambiguous[r] != 0) continue;
      ++compared;
      const std::vector<int32_t> chosen(routing.expert.begin() + r * p.top_k,
                                        routing.expert.begin() + (r + 1) * p.top_k);
      EXPECT_EQ(chosen, std::vector<int32_t>(experts + r * p.top_k, experts + (r + 1) * p.top_k)) << "row " << r;
      for (int64_t k = 0; k < p.top_k; ++k) {
        const float expected = weights[r * p.top_k + k];
        EXPECT_NEAR(routing.weight[static_cast<size_t>(r * p.top_k + k)], expected,
                    2e-6 * std::max(1.0, static_cast<double>(p.routed_scaling_factor)))
            << "row " << r;
      }
    }
  }
  EXPECT_EQ(cases.size(), 11u);
  EXPECT_EQ(compared, 11 * 80 - 44);
}

LanguageConfig rope_config(const nlohmann::json& c) {
  LanguageConfig config;
  config.rope_theta = c["base"];
  config.max_position_embeddings = c["max_position_embeddings"];
  const std::string type = c["cls"];
  if (type == "DeepseekV2RotaryEmbedding") return config;
  RopeScaling scaling;
  scaling.factor = c["scaling_factor"];
  if (type == "DeepseekV2LinearScalingRotaryEmbedding") {
    scaling.type = RopeScalingType::kLinear;
  } else if (type == "DeepseekV2DynamicNTKScalingRotaryEmbedding") {
    scaling.type = RopeScalingType::kDynamic;
  } else {
    scaling.type = RopeScalingType::kYarn;
    scaling.original_max_position_embeddings = c["original_max_position_embeddings"];
    scaling.beta_fast = c["beta_fast"];
    scaling.beta_slow = c["beta_slow"];
    scaling.mscale = c["mscale"];
    scaling.mscale_all_dim = c["mscale_all_dim"];
  }
  config.rope_scaling = scaling;
  return config;
}

TEST(OpsGoldenTables, RotaryTables) {
  VL2_NEED_SHARED(shared);
  const auto cases = nlohmann::json::parse(read_file(shared / "golden/ops/rope.json"));
  const SafetensorsFile file(shared / "golden/ops/rope.safetensors");
  EXPECT_EQ(cases.size(), 6u);
  for (const auto& [name, c] : cases.items()) {
    SCOPED_TRACE(name);
    const int64_t dim = c["dim"], half = dim / 2;
    const std::vector<int64_t> positions = c["rows"];
    const RopeAngles angles(rope_config(c), dim);
    if (c.contains("softmax_scale_multiplier")) {
      EXPECT_NEAR(angles.softmax_scale_factor(), c["softmax_scale_multiplier"].get<double>(), 1e-12);
    }
    Workspace workspace;
    const auto rows = static_cast<int64_t>(positions.size());
    Tensor cos = workspace.tensor(rows, half), sin = workspace.tensor(rows, half);
    angles.fill(positions, c["seq_len"], cos, sin);
    const float* expected_cos = file.at(name + ".cos").as<float>();
    const float* expected_sin = file.at(name + ".sin").as<float>();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < half; ++k) {
        // The official table rounds the frequency and its product with the position to float32; then cos and sin once.
        const double angle =
            static_cast<double>(positions[static_cast<size_t>(r)]) *
            std::pow(c["base"].get<double>(), -2.0 * static_cast<double>(k) / static_cast<double>(dim));
        const double tolerance = (3 * angle + 4) * kEps;
        for (const int64_t column : {k, k + half}) {
          EXPECT_NEAR(cos.row(r)[k], expected_cos[r * dim + column], tolerance) << r << " " << k;
          EXPECT_NEAR(sin.row(r)[k], expected_sin[r * dim + column], tolerance) << r << " " << k;
        }
      }
    }
  }
}

TEST_P(OpsGolden, Rotations) {
  VL2_NEED_SHARED(shared);
  const auto cases = nlohmann::json::parse(read_file(shared / "golden/ops/rope.json"));
  const SafetensorsFile file(shared / "golden/ops/rope.safetensors");
  for (const auto& [name, c] : cases.items()) {
    Workspace::Scope scope(ops_->workspace());
    const int64_t dim = c["dim"], half = dim / 2, rows = static_cast<int64_t>(c["rows"].size());
    Tensor cos = load(file.at(name + ".cos"), rows, dim).columns(0, half);
    Tensor sin = load(file.at(name + ".sin"), rows, dim).columns(0, half);
    for (const std::string which : {".q", ".k"}) {
      const TensorView& in = file.at(name + which);  // [1, H, T, R]
      const float* expected = file.at(name + which + "_rot").as<float>();
      const int64_t heads = in.shape[1];
      Tensor x = ops_->workspace().tensor(rows, heads * dim).split_heads(heads);
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < rows; ++t) to_floats(in, (h * rows + t) * dim, dim, x.at(t, h));
      ops_->rope(x, cos, sin, RopeLayout::kInterleaved);
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t t = 0; t < rows; ++t)
          expect_row(x.at(t, h), expected + (h * rows + t) * dim, dim,
                     fmt::format("{}{} head {} row {}", name, which, h, t));
    }
  }
}

// bfloat16 variants in the file show the official rounding between two steps; ours keeps float32 there, so they are no
// target.
TEST_P(OpsGolden, NormsAndActivations) {
  VL2_NEED_SHARED(shared);
  const SafetensorsFile file(shared / "golden/ops/elementwise.safetensors");
  const TensorView& input = file.at("x");
  const int64_t rows = input.shape[0], cols = input.shape[1];
  const Weight w = ops_->pack(file.at("w"), WeightUse::kVector), b = ops_->pack(file.at("b"), WeightUse::kVector);
  const auto expect = [&](const std::string& name, Tensor actual) {
    for (int64_t r = 0; r < rows; ++r)
      expect_row(actual.row(r), file.at(name).as<float>() + r * cols, cols, fmt::format("{} row {}", name, r));
  };
  Tensor out = ops_->workspace().tensor(rows, cols);
  ops_->rms_norm(out, load(input, rows, cols), w, 1e-6f);
  expect("rmsnorm_1e-06", out);
  ops_->rms_norm(out, load(input, rows, cols), w, 1e-5f);
  expect("rmsnorm_1e-05", out);
  ops_->layer_norm(out, load(input, rows, cols), w, b, 1e-6f);
  expect("layernorm_1e-6", out);
  Tensor x = load(input, rows, cols);
  ops_->gelu(x, GeluKind::kTanh);
  expect("gelu_tanh", x);
  x = load(input, rows, cols);
  ops_->gelu(x, GeluKind::kErf);
  expect("gelu_erf", x);
  x = load(input, rows, cols);
  ops_->silu_mul(x, ones(rows, cols));
  expect("silu", x);
  // A router with the unit matrix scores by softmax alone.
  std::vector<float> unit(static_cast<size_t>(cols * cols), 0.0f);
  for (int64_t i = 0; i < cols; ++i) unit[static_cast<size_t>(i * cols + i)] = 1.0f;
  const Weight gate =
      ops_->pack({reinterpret_cast<const std::byte*>(unit.data()), DType::kF32, {cols, cols}}, WeightUse::kRouter);
  const Routing routing = ops_->route(load(input, rows, cols), gate, {}, {});
  expect("softmax", {routing.scores.data(), rows, 1, cols, cols, cols});
}

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const Backend& b : backends()) result.push_back(b.name);
  return result;
}
INSTANTIATE_TEST_SUITE_P(Backends, OpsGolden, testing::ValuesIn(names()), [](const auto& i) { return i.param; });

}  // namespace
}  // namespace vl2::parity
