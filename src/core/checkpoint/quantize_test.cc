#include "core/checkpoint/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "core/base/file.h"
#include "core/base/random.h"
#include "core/base/temp_folder.h"
#include "core/checkpoint/checkpoint.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

// A model folder with random weights, smaller further down in a tensor so that a wrong place shows.
ModelConfig write_model(const fs::path& folder, const char* preset, DType dtype = DType::kF32) {
  const ModelConfig config = preset_config(preset);
  const std::vector<WeightSpec> schema = weight_schema(config);
  write_sharded(
      folder, tensor_headers(schema, dtype),
      [](const TensorHeader& header, std::span<std::byte> bytes) {
        Random random(fnv1a64(header.name));
        const size_t n = bytes.size() / dtype_size(header.dtype);
        for (size_t i = 0; i < n; ++i) {
          const float x = random.normal() / (1 + static_cast<float>(i) / static_cast<float>(n));
          const BF16 rounded = to_bf16(x);
          if (header.dtype == DType::kF32) std::memcpy(bytes.data() + i * 4, &x, 4);
          if (header.dtype == DType::kBF16) std::memcpy(bytes.data() + i * 2, &rounded, 2);
        }
      },
      64 << 10);
  write_file_atomic(folder / "config.json", model_config_json(config));
  write_file_atomic(folder / "tokenizer.json", "{}");
  return config;
}

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

QuantizeOptions with_format(ModelFormat format) {
  QuantizeOptions options;
  options.format = format;
  options.max_shard_bytes = 100 << 10;
  return options;
}

// Root mean square of stored - w, relative to w's, of rows of `w` from `first`, `cols` values each.
double relative_error(const PanelMatrix& stored, const std::vector<float>& w, int64_t first, bool transposed = false) {
  std::vector<float> row(static_cast<size_t>(stored.cols));
  double error = 0, square = 0;
  for (int64_t r = 0; r < stored.rows; ++r) {
    decode_row(stored, r, row.data());
    for (int64_t k = 0; k < stored.cols; ++k) {
      const int64_t at = first + (transposed ? k * stored.rows + r : r * stored.cols + k);
      const double x = w[static_cast<size_t>(at)], d = row[static_cast<size_t>(k)] - x;
      error += d * d;
      square += x * x;
    }
  }
  return std::sqrt(error / square);
}

double limit_of(PanelFormat format) {
  return format == PanelFormat::kBf16 ? 0.003 : format == PanelFormat::kQ8 ? 0.012 : 0.12;
}

TEST(Quantize, EveryMatrixIsWhatItWasWithinItsFormatAndTheRestIsTheSame) {
  for (const char* preset : {"test-tiny", "test-small", "test-base"}) {
    for (const ModelFormat format : {ModelFormat::kBf16, ModelFormat::kQ8, ModelFormat::kQ4, ModelFormat::kMixed}) {
      SCOPED_TRACE(fmt::format("{} {}", preset, model_format_name(format)));
      const TempFolder temp;
      const ModelConfig original = write_model(temp / "in", preset);
      const QuantizeReport report = quantize_model(temp / "in", temp / "out", with_format(format));
      const ModelConfig config = load_model_config(temp / "out/config.json");
      EXPECT_EQ(config.quantization, format);
      const Checkpoint before(temp / "in"), after(temp / "out");
      after.check(config);
      EXPECT_EQ(report.bytes_after, after.num_bytes());
      for (const WeightSpec& spec : weight_schema(original)) {
        SCOPED_TRACE(spec.name);
        const TensorView* copied = after.find(spec.name);
        if (spec.role == WeightRole::kUnused) {
          EXPECT_EQ(copied, nullptr);
          continue;
        }
        const TensorView& stored = before.at(spec.name);
        const auto panel_format = panel_format_of(format, spec, original);
        if (!panel_format) {
          ASSERT_NE(copied, nullptr);
          EXPECT_EQ(copied->shape, stored.shape);
          EXPECT_EQ(std::memcmp(copied->data, stored.data, stored.num_bytes()), 0);
          continue;
        }
        EXPECT_EQ(copied, nullptr);
        const std::vector<float> w = to_floats(stored);
        const double limit = limit_of(*panel_format);
        if (is_latent_kv_b(spec, original)) {
          const LanguageConfig& c = original.language;
          const int64_t heads = c.num_attention_heads, nope = c.qk_nope_head_dim, v = c.v_head_dim;
          const auto parts = after.latent_panels(spec.name, heads, nope, v, c.kv_lora_rank);
          ASSERT_TRUE(parts.has_value());
          const auto head = [](PanelMatrix matrix, int64_t h) {
            matrix.data += h * matrix.num_bytes();
            return matrix;
          };
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t first = h * (nope + v) * c.kv_lora_rank;
            EXPECT_LT(relative_error(head(parts->uk, h), w, first), limit);
            EXPECT_LT(relative_error(head(parts->uv, h), w, first + nope * c.kv_lora_rank), limit);
            EXPECT_LT(relative_error(head(parts->uk_transposed, h), w, first, true), limit);
          }
        } else {
          const int64_t rows = spec.shape[0];
          const auto panels = after.panels(spec.name, rows, num_elements(spec.shape) / rows);
          ASSERT_TRUE(panels.has_value());
          EXPECT_EQ(panels->format, *panel_format);
          EXPECT_LT(relative_error(*panels, w, 0), limit);
        }
      }
      EXPECT_EQ(read_file(temp / "out/tokenizer.json"), "{}");
    }
  }
}

TEST(Quantize, TheFileDoesNotDependOnThreads) {
  const TempFolder temp;
  write_model(temp / "in", "test-small", DType::kBF16);
  std::string first;
  for (const int threads : {1, 3}) {
    QuantizeOptions options = with_format(ModelFormat::kQ4);
    options.max_shard_bytes = uint64_t{1} << 30;
    options.num_threads = threads;
    const fs::path out = temp / std::to_string(threads);
    quantize_model(temp / "in", out, options);
    const std::string bytes = read_file(out / "model-00001-of-000001.safetensors");
    if (threads == 1) first = bytes;
    EXPECT_TRUE(bytes == first);
  }
}

// Of lm_head, each column's error weighed.
double weighted_error(const fs::path& in, const fs::path& out, const std::vector<float>& importance) {
  const Checkpoint before(in), after(out);
  const std::string head = "language.lm_head.weight";
  const TensorView& tensor = before.at(head);
  const std::vector<float> w = to_floats(tensor);
  const int64_t rows = tensor.shape[0], cols = tensor.shape[1];
  const PanelMatrix stored = after.panels(head, rows, cols).value();
  std::vector<float> row(static_cast<size_t>(cols));
  double error = 0;
  for (int64_t r = 0; r < rows; ++r) {
    decode_row(stored, r, row.data());
    for (int64_t k = 0; k < cols; ++k)
      error += double{importance[static_cast<size_t>(k)]} *
               std::pow(double{row[static_cast<size_t>(k)]} - double{w[static_cast<size_t>(r * cols + k)]}, 2);
  }
  return error;
}

TEST(Quantize, WhatIsImportantIsKeptCloser) {
  const TempFolder temp;
  const ModelConfig config = write_model(temp / "in", "test-tiny");
  std::vector<float> importance(static_cast<size_t>(config.language.hidden_size), 0.01f);
  for (size_t k = 0; k < importance.size(); k += 6) importance[k] = 1.0f;
  QuantizeOptions options = with_format(ModelFormat::kQ4);
  quantize_model(temp / "in", temp / "plain", options);
  int calls = 0;
  options.importance = [&] {
    ++calls;
    return Importance{{"language.lm_head.weight", importance}};
  };
  quantize_model(temp / "in", temp / "weighed", options);
  EXPECT_EQ(calls, 1);
  EXPECT_LT(weighted_error(temp / "in", temp / "weighed", importance),
            0.7 * weighted_error(temp / "in", temp / "plain", importance));
  const Checkpoint plain(temp / "plain"), weighed(temp / "weighed");
  for (const std::string& name : plain.names()) {
    const TensorView &a = plain.at(name), &b = weighed.at(name);
    EXPECT_EQ(std::memcmp(a.data, b.data, a.num_bytes()) == 0, name != "language.lm_head.weight.q4") << name;
  }
}

TEST(Quantize, AnImportanceThatDoesNotFitIsRefusedAndLeavesNothing) {
  const TempFolder temp;
  const ModelConfig config = write_model(temp / "in", "test-tiny");
  const auto cols = static_cast<size_t>(config.language.hidden_size);
  QuantizeOptions options = with_format(ModelFormat::kQ4);
  for (const auto& bad : {std::vector<float>(cols + 1, 1.0f), std::vector<float>(cols, -1.0f),
                          std::vector<float>(cols, INFINITY), std::vector<float>(cols, NAN)}) {
    options.importance = [&] { return Importance{{"language.lm_head.weight", bad}}; };
    EXPECT_ERROR(error_of(ErrorCode::kInvalidArgument, [&] { quantize_model(temp / "in", temp / "out", options); }),
                 "importance of language.lm_head.weight");
  }
  options.importance = []() -> Importance { fail(ErrorCode::kCancelled, "stopped"); };
  error_of(ErrorCode::kCancelled, [&] { quantize_model(temp / "in", temp / "out", options); });
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), fs::directory_iterator()), 1);
}

TEST(Quantize, TheReportTellsErrorsAndSizesOfTheParts) {
  const TempFolder temp;
  const ModelConfig config = write_model(temp / "in", "test-small");
  const QuantizeReport report = quantize_model(temp / "in", temp / "out", with_format(ModelFormat::kMixed));
  std::map<std::string, QuantizedPart> parts;
  int64_t weights = 0, bytes = 0;
  for (const QuantizedPart& part : report.parts) {
    parts[part.name] = part;
    weights += part.weights;
    bytes += part.bytes;
  }
  const ParameterCounts counts = count_parameters(config);
  EXPECT_EQ(weights, counts.vision + counts.projector + counts.language);
  EXPECT_EQ(report.weights, weights);
  EXPECT_EQ(report.bytes_before, weights * 4);
  EXPECT_EQ(report.bytes_after, bytes);
  EXPECT_EQ(parts["routed experts"].format, "q4");
  EXPECT_NEAR(parts["routed experts"].relative_error(), 0.08, 0.03);
  EXPECT_EQ(parts["attention"].format, "q8");
  EXPECT_NEAR(parts["attention"].relative_error(), 0.006, 0.003);
  EXPECT_EQ(parts["vision encoder"].format, "bf16");
  EXPECT_EQ(parts["embedding table"].relative_error(), 0.0);
}

TEST(Quantize, WhatIsInTheWayIsRefused) {
  const TempFolder temp;
  write_model(temp / "in", "test-tiny");
  QuantizeOptions options = with_format(ModelFormat::kQ8);
  const auto refused = [&](const fs::path& out) {
    return error_of(ErrorCode::kInvalidArgument, [&] { quantize_model(temp / "in", out, options); });
  };
  EXPECT_ERROR(refused(temp / "in"), "the model itself");
  EXPECT_ERROR(refused(temp / "in/q8"), "inside");
  EXPECT_ERROR(refused(temp.path()), "around");
  EXPECT_ERROR(refused(temp / "in/../in/"), "the model itself");
  fs::create_directories(temp / "full");
  write_file_atomic(temp / "full/letter.txt", "dear");
  EXPECT_ERROR(refused(temp / "full"), "not empty");
  options.replace = true;
  EXPECT_ERROR(refused(temp / "full"), "no config.json");
  EXPECT_ERROR(refused(temp / "full/letter.txt"), "is a file");
  EXPECT_EQ(read_file(temp / "full/letter.txt"), "dear");
  quantize_model(temp / "in", temp / "out", options);
  write_file_atomic(temp / "out/old", "x");
  quantize_model(temp / "in", temp / "out/", options);
  EXPECT_FALSE(fs::exists(temp / "out/old"));
  EXPECT_ERROR(error_of(ErrorCode::kInvalidArgument, [&] { quantize_model(temp / "out", temp / "twice", options); }),
               "quantised already (q8)");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(temp.path())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"full", "in", "out"})) << "nothing is left of what failed";
}

TEST(Quantize, AStopLeavesNothing) {
  const TempFolder temp;
  write_model(temp / "in", "test-tiny");
  QuantizeOptions options = with_format(ModelFormat::kQ4);
  int asked = 0;
  options.cancelled = [&asked] { return ++asked == 40; };
  error_of(ErrorCode::kCancelled, [&] { quantize_model(temp / "in", temp / "out", options); });
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), fs::directory_iterator()), 1);
}

TEST(Quantize, AWeightThatIsNoNumberIsRefused) {
  for (const float bad : {NAN, INFINITY}) {
    const TempFolder temp;
    const ModelConfig config = write_model(temp / "in", "test-tiny");
    for (const auto& entry : fs::directory_iterator(temp / "in"))
      if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
    fs::remove(temp / "in/model.safetensors.index.json");
    write_safetensors(temp / "in/model.safetensors", tensor_headers(weight_schema(config), DType::kF32),
                      [bad](const TensorHeader& header, std::span<std::byte> bytes) {
                        if (header.name == "language.lm_head.weight")
                          std::memcpy(bytes.data() + bytes.size() - 4, &bad, 4);
                      });
    const std::string error = error_of(
        ErrorCode::kCorrupt, [&] { quantize_model(temp / "in", temp / "out", with_format(ModelFormat::kQ4)); });
    EXPECT_ERROR(error, "language.lm_head.weight has a value that is no finite number");
    EXPECT_FALSE(fs::exists(temp / "out"));
  }
}

// What a hostile or damaged folder may look like: a quantised model with one thing changed.
class QuantizedFolder : public testing::Test {
 protected:
  void SetUp() override {
    write_model(temp_ / "in", "test-small");
    quantize_model(temp_ / "in", temp_ / "good", with_format(ModelFormat::kQ4));
    config_ = load_model_config(temp_ / "good/config.json");
  }

  // Writes the model again after `change`, in one file, and gives what check() says.
  std::string error_after(const std::function<void(std::vector<TensorHeader>&)>& change,
                          ErrorCode code = ErrorCode::kCorrupt) {
    const Checkpoint good(temp_ / "good");
    std::vector<TensorHeader> headers;
    for (const std::string& name : good.names()) headers.push_back({name, good.at(name).dtype, good.at(name).shape});
    std::stable_sort(headers.begin(), headers.end(), [](const TensorHeader& a, const TensorHeader& b) {
      return (a.dtype == DType::kU8) > (b.dtype == DType::kU8);
    });
    change(headers);
    write_safetensors(temp_ / "bad/model.safetensors", headers, [&](const TensorHeader& header, auto bytes) {
      const TensorView* tensor = good.find(header.name);
      if (tensor != nullptr) std::memcpy(bytes.data(), tensor->data, std::min(bytes.size(), tensor->num_bytes()));
    });
    return error_of(code, [&] { Checkpoint(temp_ / "bad").check(config_); });
  }
  static TensorHeader& find(std::vector<TensorHeader>& headers, const std::string& name) {
    for (TensorHeader& header : headers)
      if (header.name == name) return header;
    throw std::runtime_error("no tensor " + name);
  }

  TempFolder temp_;
  ModelConfig config_;
};

TEST_F(QuantizedFolder, AnythingButTheLayoutIsRefused) {
  fs::create_directories(temp_ / "bad");
  const std::string head = "language.lm_head.weight", kv = "language.model.layers.1.self_attn.kv_b_proj.weight";
  using Headers = std::vector<TensorHeader>;
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, head + ".q4").shape[0] += 1; }), "lm_head.weight.q4 is U8");
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, head + ".q4").shape = {448}; }), "lm_head.weight.q4 is U8 [448]");
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, head + ".q4").name = head + ".q8"; }), "lm_head.weight.q8 is U8");
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, head + ".q4").name = head + ".q5"; }),
               "lm_head.weight is missing");
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, head + ".q4").dtype = DType::kI8; }), "is I8");
  EXPECT_ERROR(error_after([&](Headers& h) { h.push_back({head + ".q8", DType::kU8, {1, 64}}); }), "both");
  EXPECT_ERROR(error_after([&](Headers& h) { h.push_back({head, DType::kF32, {320, 48}}); }), "plainly");
  EXPECT_ERROR(error_after([&](Headers& h) { find(h, kv + ".uv.q8").name = "elsewhere"; }), "three parts");
  EXPECT_ERROR(error_after([&](Headers& h) { h.push_back({kv, DType::kF32, {104, 24}}); }), "plainly");
  EXPECT_ERROR(error_after([&](Headers& h) {
                 h.insert(h.begin(), {"note", DType::kU8, {4}});
               }),
               "quantise the model again");
}

TEST_F(QuantizedFolder, PanelsWithoutAConfigThatSaysSoAreRefused) {
  config_.quantization.reset();
  const std::string error = error_of(ErrorCode::kCorrupt, [&] { Checkpoint(temp_ / "good").check(config_); });
  EXPECT_ERROR(error, "no quantization_config");
}

TEST_F(QuantizedFolder, AFileCutShortIsRefused) {
  fs::path shard;
  for (const auto& entry : fs::directory_iterator(temp_ / "good"))
    if (entry.path().extension() == ".safetensors") shard = entry.path();
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_ERROR(error_of(ErrorCode::kCorrupt, [&] { Checkpoint{temp_ / "good"}; }), "cut short");
}

TEST_F(QuantizedFolder, ViewsOutliveTheCheckpoint) {
  std::shared_ptr<const void> owner, latent;
  std::optional<PanelMatrix> panels;
  {
    const Checkpoint checkpoint(temp_ / "good");
    panels = checkpoint.panels("language.lm_head.weight", 320, 48);
    owner = checkpoint.owner("language.lm_head.weight");
    latent = checkpoint.owner("language.model.layers.0.self_attn.kv_b_proj.weight");
    EXPECT_EQ(checkpoint.owner("image_newline") == nullptr, false);
    EXPECT_THROW(checkpoint.owner("nothing"), Error);
  }
  ASSERT_TRUE(panels.has_value());
  std::vector<float> row(48);
  decode_row(*panels, 319, row.data());
  EXPECT_TRUE(std::any_of(row.begin(), row.end(), [](float x) { return x != 0; }));
}

}  // namespace
}  // namespace vl2
