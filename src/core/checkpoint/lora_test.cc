#include "core/checkpoint/lora.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/temp_folder.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/lora_merge.h"
#include "core/checkpoint/lora_test.h"
#include "core/model_spec/format_plan.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

std::string error_of(ErrorCode code, const std::function<void()>& fn) {
  try {
    fn();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

#define EXPECT_ERROR(error, text) EXPECT_NE((error).find(text), std::string::npos) << "error: " << (error)

ModelConfig write_model(const fs::path& folder, const char* preset, DType dtype) {
  const ModelConfig config = preset_config(preset);
  write_sharded(folder, tensor_headers(weight_schema(config), dtype),
                [](const TensorHeader& header, std::span<std::byte> bytes) {
                  Random random(fnv1a64(header.name));
                  for (size_t i = 0; i < bytes.size() / dtype_size(header.dtype); ++i) {
                    const float x = random.normal();
                    const BF16 rounded = to_bf16(x);
                    if (header.dtype == DType::kF32) std::memcpy(bytes.data() + i * 4, &x, 4);
                    if (header.dtype == DType::kBF16) std::memcpy(bytes.data() + i * 2, &rounded, 2);
                  }
                });
  write_file_atomic(folder / "config.json", model_config_json(config));
  write_file_atomic(folder / "tokenizer.json", "{}");
  return config;
}

TEST(Lora, AllLinearIsEveryLinearOfDecoderAndProjectorButRouterAndHead) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    const ModelConfig config = preset_config(preset);
    std::vector<std::string> expected, found;
    for (const WeightSpec& spec : weight_schema(config)) {
      const bool linear = spec.role == WeightRole::kMatrix || spec.role == WeightRole::kExpert;
      const bool reached = spec.name.starts_with("language.model.") || spec.name.starts_with("projector.");
      if (linear && reached) expected.push_back(spec.name);
    }
    for (const LoraLayer& layer : lora_layers(config, std::vector<std::string>{"all-linear"}))
      found.push_back(layer.module + ".weight");
    EXPECT_EQ(found, expected) << preset;
    EXPECT_GT(found.size(), 50u);
  }
}

TEST(Lora, TargetsChooseByLastNameAndReachEveryExpert) {
  const ModelConfig config = preset_config("test-small");
  const auto layers = lora_layers(config, std::vector<std::string>{"kv_b_proj", "down_proj"});
  // 3 layers: kv_b each; one dense down_proj; two with 8 routed experts and the shared ones.
  EXPECT_EQ(layers.size(), 3u + 1u + 2u * 9u);
  EXPECT_EQ(lora_layers(config, std::vector<std::string>{"projector"}).size(), 2u);
  int64_t values = 0;
  for (const LoraLayer& layer : layers) values += 4 * layer.in + 4 * layer.out;
  EXPECT_EQ(lora_num_parameters(layers, 4), values);
}

TEST(Lora, UnknownAndAbsentTargetsAreRefusedByName) {
  const ModelConfig tiny = preset_config("test-tiny");
  EXPECT_ERROR(error_of(ErrorCode::kInvalidArgument, [&] { lora_layers(tiny, std::vector<std::string>{"q_prj"}); }),
               "\"q_prj\": expected one of all-linear, q_proj");
  EXPECT_ERROR(error_of(ErrorCode::kInvalidArgument, [&] { lora_layers(tiny, std::vector<std::string>{"kv_b_proj"}); }),
               "no such linear layer");
}

TEST(Lora, WhatIsWrittenIsReadBackUnderPeftsNames) {
  const TempFolder temp;
  const ModelConfig config = preset_config("test-small");
  RandomAdapter random(config, {"q_proj", "projector"}, 3);
  random.config.base_model = "models/nano";
  random.config.dropout = 0.05;
  random.write(temp / "adapter");
  const LoraAdapter adapter(temp / "adapter");
  adapter.check(config);
  EXPECT_EQ(adapter.config().rank, 3);
  EXPECT_EQ(adapter.config().alpha, 32);
  EXPECT_EQ(adapter.config().dropout, 0.05);
  EXPECT_EQ(adapter.config().base_model, "models/nano");
  ASSERT_EQ(adapter.modules().size(), random.tensors.size());
  for (const LoraTensors& t : random.tensors) {
    const LoraPair* pair = adapter.find(t.module + ".weight");
    ASSERT_NE(pair, nullptr) << t.module;
    EXPECT_EQ(to_floats(pair->a), to_floats(t.a));
    EXPECT_EQ(to_floats(pair->b), to_floats(t.b));
  }
  EXPECT_EQ(adapter.find("language.model.layers.0.self_attn.o_proj.weight"), nullptr);
  const SafetensorsFile file(temp / "adapter/adapter_model.safetensors");
  EXPECT_NE(file.find("base_model.model.language.model.layers.0.self_attn.q_proj.lora_A.weight"), nullptr);
  const auto json = nlohmann::json::parse(read_file(temp / "adapter/adapter_config.json"));
  EXPECT_EQ(json["peft_type"], "LORA");
  EXPECT_EQ(json["r"], 3);
  EXPECT_EQ(json["target_modules"], (nlohmann::json{"projector.layers.0", "projector.layers.2", "q_proj"}));
}

TEST(Lora, TheScaleIsAlphaOverRankOrItsRoot) {
  LoraConfig config;
  config.rank = 16;
  config.alpha = 32;
  EXPECT_EQ(config.scale(), 2.0f);
  config.rank_stabilised = true;
  EXPECT_EQ(config.scale(), 8.0f);
}

// Two files as another tool would write them, with one thing changed.
struct HostileAdapter {
  TempFolder temp;
  nlohmann::json config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"q_proj"}}};
  std::string a = "base_model.model.language.model.layers.0.self_attn.q_proj.lora_A.weight";
  std::string b = "base_model.model.language.model.layers.0.self_attn.q_proj.lora_B.weight";
  Shape a_shape = {2, 48}, b_shape = {48, 2};
  std::vector<float> values = std::vector<float>(512, 0.5f);

  std::string error(ErrorCode code) {
    write_file_atomic(temp / "adapter_config.json", config.dump());
    const auto* data = reinterpret_cast<const std::byte*>(values.data());
    std::vector<NamedTensor> tensors = {{a, {data, DType::kF32, a_shape}}};
    if (!b.empty()) tensors.push_back({b, {data, DType::kF32, b_shape}});
    write_safetensors(temp / "adapter_model.safetensors", tensors);
    return error_of(code, [&] { LoraAdapter(temp.path()).check(preset_config("test-tiny")); });
  }
};

TEST(Lora, AnAdapterThatIsNotWhatItClaimsIsRefused) {
  {
    HostileAdapter h;
    h.config["r"] = 3;
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "expected rank 3");
  }
  {
    HostileAdapter h;
    h.config["r"] = int64_t{1} << 40;
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "r is 1099511627776");
  }
  {
    HostileAdapter h;
    h.config.erase("r");
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "r is missing");
  }
  {
    HostileAdapter h;
    h.b.clear();
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "has no lora_B.weight");
  }
  {
    HostileAdapter h;
    h.a_shape = {2, 4, 12};
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "expected a matrix");
  }
  {
    HostileAdapter h;
    h.values[3] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "no finite number");
  }
  {
    HostileAdapter h;
    h.a_shape = {2, 40};
    EXPECT_ERROR(h.error(ErrorCode::kInvalidArgument), "is for a layer [48, 40], it has [48, 48]");
  }
  {
    HostileAdapter h;
    h.a = "base_model.model.lora_A.weight";
    EXPECT_ERROR(h.error(ErrorCode::kCorrupt), "names no module");
  }
}

TEST(Lora, AnAdapterOfAnotherModelOrVariantIsRefused) {
  for (const char* module : {"language.model.layers.1.mlp.gate", "language.model.embed_tokens",
                             "vision.patch_embed.proj", "language.model.layers.7.self_attn.q_proj"}) {
    HostileAdapter h;
    h.a = fmt::format("base_model.model.{}.lora_A.weight", module);
    h.b = fmt::format("base_model.model.{}.lora_B.weight", module);
    EXPECT_ERROR(h.error(ErrorCode::kInvalidArgument), "is no linear layer of it");
  }
  for (const auto& [key, value] : std::map<std::string, nlohmann::json>{{"use_dora", true},
                                                                        {"bias", "all"},
                                                                        {"peft_type", "LOHA"},
                                                                        {"rank_pattern", {{"q_proj", 4}}},
                                                                        {"modules_to_save", {"lm_head"}}}) {
    HostileAdapter h;
    h.config[key] = value;
    EXPECT_ERROR(h.error(ErrorCode::kUnsupported), key);
  }
  HostileAdapter h;
  h.a = "something.else";
  EXPECT_ERROR(h.error(ErrorCode::kUnsupported), "something.else");
}

TEST(Lora, AbsentFilesAreNamed) {
  const TempFolder temp;
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { LoraAdapter{temp.path()}; }), "adapter_config.json");
  write_file_atomic(temp / "adapter_config.json", "{}");
  write_file_atomic(temp / "adapter_model.bin", "");
  EXPECT_ERROR(error_of(ErrorCode::kNotFound, [&] { LoraAdapter{temp.path()}; }), "save it as safetensors");
}

TEST(MergeLora, IsTheWeightPlusTheScaledProductRoundedOnce) {
  constexpr int64_t kOut = 70, kIn = 37, kRank = 5;
  Random random(3);
  const auto values = [&random](int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = random.normal();
    return v;
  };
  const std::vector<float> w = values(kOut * kIn), a = values(kRank * kIn), b = values(kOut * kRank);
  const auto view = [](const std::vector<float>& v, Shape shape) {
    return TensorView{reinterpret_cast<const std::byte*>(v.data()), DType::kF32, std::move(shape)};
  };
  const LoraPair pair{view(a, {kRank, kIn}), view(b, {kOut, kRank})};
  std::vector<float> merged(w.size());
  merge_lora(view(w, {kOut, kIn}), pair, 0.75f, std::as_writable_bytes(std::span(merged)));
  std::vector<BF16> w16, merged16(w.size());
  for (float x : w) w16.push_back(to_bf16(x));
  merge_lora({reinterpret_cast<const std::byte*>(w16.data()), DType::kBF16, {kOut, kIn}}, pair, 0.75f,
             std::as_writable_bytes(std::span(merged16)));
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t i = 0; i < kIn; ++i) {
      double sum = 0, size = 0;
      for (int64_t r = 0; r < kRank; ++r) {
        const double term = double{b[static_cast<size_t>(o * kRank + r)]} * a[static_cast<size_t>(r * kIn + i)];
        sum += term;
        size += std::abs(term);
      }
      const auto at = static_cast<size_t>(o * kIn + i);
      // Each of the r products, sums, the scale and the last sum round once: (2 r + 2) halves of an ulp, of the
      // largest.
      const double bound = (2 * kRank + 2) * 0x1p-24 * (0.75 * size + std::abs(w[at]));
      EXPECT_NEAR(merged[at], w[at] + 0.75 * sum, bound);
      const double exact16 = double{to_float(w16[at])} + 0.75 * sum;
      EXPECT_NEAR(to_float(merged16[at]), exact16, 0x1p-8 * std::abs(exact16) + 2 * bound);
    }
}

TEST(MergeLora, BitsDoNotDependOnThreads) {
  const ModelConfig config = preset_config("test-small");
  const RandomAdapter adapter(config, {"gate_proj"}, 4);
  const LoraTensors& t = adapter.tensors.front();
  const Shape shape = {t.b.shape[0], t.a.shape[1]};
  Random random(5);
  std::vector<float> w(static_cast<size_t>(num_elements(shape)));
  for (float& x : w) x = random.normal();
  const TensorView view{reinterpret_cast<const std::byte*>(w.data()), DType::kF32, shape};
  std::vector<float> alone(w.size()), together(w.size());
  merge_lora(view, {t.a, t.b}, 4.0f, std::as_writable_bytes(std::span(alone)));
  ThreadPool pool(3);
  merge_lora(view, {t.a, t.b}, 4.0f, std::as_writable_bytes(std::span(together)), &pool);
  EXPECT_EQ(std::memcmp(alone.data(), together.data(), alone.size() * sizeof(float)), 0);
  EXPECT_NE(alone, w);
}

TEST(MergeLora, HalvesRoundToNearest) {
  // Halfway cases go to the even neighbour; subnormals and the end of the range round as any other value.
  EXPECT_EQ(float_to_half(1.0f + 0x1p-11f), 0x3c00);
  EXPECT_EQ(float_to_half(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(float_to_half(0x1p-24f), 0x0001);
  EXPECT_EQ(float_to_half(0x1p-25f), 0x0000);
  EXPECT_EQ(float_to_half(1.5f * 0x1p-24f), 0x0002);
  EXPECT_EQ(float_to_half(0x1p-14f * (1 - 0x1p-12f)), 0x0400);
  EXPECT_EQ(float_to_half(65519.0f), 0x7bff);
  EXPECT_EQ(float_to_half(-65520.0f), 0xfc00);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::quiet_NaN()) & 0x7fff, 0x7e00);
  for (uint32_t bits = 0; bits < 0x7c00; ++bits)
    EXPECT_EQ(float_to_half(half_to_float(static_cast<uint16_t>(bits))), bits);
}

TEST(MergeLoraModel, ChangesWhatTheAdapterNamesAndNothingElse) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const TempFolder temp;
    const ModelConfig config = write_model(temp / "model", "test-tiny", dtype);
    const RandomAdapter adapter(config, {"v_proj", "up_proj", "projector"}, 2);
    adapter.write(temp / "adapter");
    LoraMergeOptions options;
    options.max_shard_bytes = 100 << 10;
    options.num_threads = 2;
    const LoraMergeReport report = merge_lora_model(temp / "model", temp / "adapter", temp / "out", options);
    EXPECT_EQ(report.merged, static_cast<int64_t>(adapter.tensors.size()));
    const Checkpoint before(temp / "model"), after(temp / "out");
    after.check(load_model_config(temp / "out/config.json"));
    EXPECT_EQ(after.names(), before.names());
    EXPECT_EQ(read_file(temp / "out/config.json"), read_file(temp / "model/config.json"));
    EXPECT_EQ(read_file(temp / "out/tokenizer.json"), "{}");
    const LoraAdapter read(temp / "adapter");
    int64_t changed = 0;
    for (const std::string& name : before.names()) {
      const TensorView& w = before.at(name);
      std::vector<std::byte> expected(w.data, w.data + w.num_bytes());
      if (const LoraPair* pair = read.find(name)) merge_lora(w, *pair, read.config().scale(), expected);
      EXPECT_EQ(after.at(name).dtype, dtype);
      EXPECT_EQ(std::memcmp(expected.data(), after.at(name).data, expected.size()), 0) << name;
      changed += std::memcmp(w.data, after.at(name).data, expected.size()) != 0 ? 1 : 0;
    }
    EXPECT_EQ(changed, report.merged);
  }
}

TEST(MergeLoraModel, RefusesWhatCannotBeMergedAndLeavesNothing) {
  const TempFolder temp;
  const ModelConfig config = write_model(temp / "model", "test-tiny", DType::kBF16);
  RandomAdapter(config, {"v_proj"}, 2).write(temp / "adapter");
  RandomAdapter(preset_config("test-small"), {"kv_b_proj"}, 2).write(temp / "other");
  const auto merge = [&](const char* adapter, const char* out, const LoraMergeOptions& options = {}) {
    return error_of(options.cancelled         ? ErrorCode::kCancelled
                    : adapter[0] == 'o'       ? ErrorCode::kInvalidArgument
                    : std::string(out) == "q" ? ErrorCode::kUnsupported
                                              : ErrorCode::kInvalidArgument,
                    [&] { merge_lora_model(temp / "model", temp / adapter, temp / out, options); });
  };
  EXPECT_ERROR(merge("other", "out"), "was not made for this model");
  EXPECT_ERROR(merge("adapter", "model"), "the model itself");
  LoraMergeOptions stopped;
  stopped.cancelled = [] { return true; };
  EXPECT_ERROR(merge("adapter", "out", stopped), "nothing was written");
  write_file_atomic(temp / "model/config.json",
                    with_quantization_config(read_file(temp / "model/config.json"), ModelFormat::kQ8, "config.json"));
  EXPECT_ERROR(merge("adapter", "q"), "quantise the result");
  int64_t entries = 0;
  for (const auto& entry : fs::directory_iterator(temp.path())) entries += entry.is_directory() ? 1 : 0;
  EXPECT_EQ(entries, 3);
}

}  // namespace
}  // namespace vl2
