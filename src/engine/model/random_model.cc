#include "engine/model/random_model.h"

#include <cstring>
#include <map>
#include <vector>

#include "core/base/file.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/quantized_layout.h"
#include "engine/model/weight_source.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

class RandomWriter {
 public:
  RandomWriter(const ModelConfig& config, const RandomModelOptions& options)
      : config_(config), options_(options), source_(1, config, options.format) {}

  void write(const fs::path& folder) {
    if (options_.format == ModelFormat::kBf16) {
      const auto headers = tensor_headers(weight_schema(config_), DType::kBF16);
      write(folder, split_into_shards(headers, options_.max_shard_bytes),
            [this](const TensorHeader& header, std::span<std::byte> bytes) { plain(header, bytes); });
      return;
    }
    const StoredShards shards = quantized_layout(
        config_, options_.format, [](const std::string&) { return DType::kBF16; }, options_.max_shard_bytes);
    std::map<std::string, const StoredTensor*> by_name;
    for (const auto& shard : shards)
      for (const StoredTensor& tensor : shard) by_name[tensor.header.name] = &tensor;
    write(folder, headers_of(shards), [&](const TensorHeader& header, std::span<std::byte> bytes) {
      const StoredTensor& tensor = *by_name.at(header.name);
      tensor.format ? panels(tensor, bytes) : plain(header, bytes);
    });
  }

 private:
  void write(const fs::path& folder, const std::vector<std::vector<TensorHeader>>& shards, const FillTensor& fill) {
    int64_t done = 0, total = 0;
    for (const auto& shard : shards)
      for (const TensorHeader& header : shard) total += static_cast<int64_t>(checked_num_bytes(header));
    write_shards(folder, shards, [&](const TensorHeader& header, std::span<std::byte> bytes) {
      fill(header, bytes);
      done += static_cast<int64_t>(bytes.size());
      if (options_.progress) options_.progress(done, total);
    });
  }

  void plain(const TensorHeader& header, std::span<std::byte> bytes) {
    std::memcpy(bytes.data(), source_.get(header.name, header.shape).data, bytes.size());
  }

  void panels(const StoredTensor& tensor, std::span<std::byte> bytes) {
    const LanguageConfig& c = config_.language;
    const std::string& name = tensor.original.name;
    if (!tensor.part.empty()) {
      const auto all =
          source_.latent_panels(name, {c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim, c.kv_lora_rank});
      const LatentPanels& parts = all.value().parts;
      const PanelMatrix& part = tensor.part == "uk" ? parts.uk : tensor.part == "uv" ? parts.uv : parts.uk_transposed;
      std::memcpy(bytes.data(), part.data, bytes.size());
    } else if (const auto matrix = source_.panels(name, tensor.rows, tensor.cols)) {
      std::memcpy(bytes.data(), matrix->matrix.data, bytes.size());
    } else {
      encode(tensor, to_floats(source_.get(name, {tensor.rows, tensor.cols})), bytes);
    }
  }

  // What a source gives plainly: bf16 panels.
  static void encode(const StoredTensor& tensor, const std::vector<float>& values, std::span<std::byte> bytes) {
    const int64_t stride = panel_bytes(*tensor.format, tensor.cols);
    for (int64_t row = 0; row < tensor.rows; row += kPanelRows)
      encode_panel(*tensor.format, values.data() + row * tensor.cols, tensor.cols,
                   std::min(kPanelRows, tensor.rows - row), tensor.cols, nullptr,
                   bytes.data() + row / kPanelRows * stride);
  }

  const ModelConfig& config_;
  const RandomModelOptions& options_;
  RandomSource source_;
};

}  // namespace

void write_random_model(const fs::path& folder, const ModelConfig& config, const RandomModelOptions& options) {
  RandomWriter(config, options).write(folder);
  std::string text = model_config_json(config);
  if (options.format != ModelFormat::kBf16) text = with_quantization_config(text, options.format, "config.json");
  write_file_atomic(folder / "config.json", text);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "processor_config.json"}) {
    std::error_code error;
    fs::copy_file(options.files_from / name, folder / name, fs::copy_options::overwrite_existing, error);
    if (error)
      fail(ErrorCode::kIo, "{}: cannot copy it: {}; name a folder with a model's tokenizer",
           (options.files_from / name).string(), error.message());
  }
}

}  // namespace vl2
