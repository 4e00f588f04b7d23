#include "core/checkpoint/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>

#include "core/base/file.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folder_files.h"
#include "core/checkpoint/output_folder.h"
#include "core/checkpoint/quantized_layout.h"

namespace vl2 {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = size_t{1} << 20;

std::string part_of(const WeightSpec& spec, const ModelConfig& config) {
  if (spec.role == WeightRole::kEmbedding) return "embedding table";
  if (spec.role == WeightRole::kRouter) return "routers";
  if (spec.role == WeightRole::kVector) return "norms, biases, positions";
  if (spec.role == WeightRole::kExpert) return "routed experts";
  if (is_latent_kv_b(spec, config)) return "latent kv_b";
  if (spec.name.starts_with("vision.")) return "vision encoder";
  if (spec.name.starts_with("projector.")) return "projector";
  if (spec.name.find(".self_attn.") != std::string::npos) return "attention";
  if (spec.name.find(".mlp.") != std::string::npos) return "dense and shared experts";
  return "lm_head";
}

class Quantizer {
 public:
  Quantizer(const Checkpoint& checkpoint, const ModelConfig& config, const QuantizeOptions& options)
      : checkpoint_(checkpoint),
        config_(config),
        options_(options),
        shards_(quantized_layout(
            config, options.format, [&](const std::string& name) { return checkpoint.at(name).dtype; },
            options.max_shard_bytes)),
        pool_(options.num_threads > 0 ? options.num_threads : ThreadPool::default_num_threads()),
        rows_(static_cast<size_t>(pool_.num_threads())),
        decoded_(static_cast<size_t>(pool_.num_threads())) {
    for (const auto& shard : shards_)
      for (const StoredTensor& item : shard) plan(item);
  }

  int64_t bytes_after() const { return report_.bytes_after; }

  QuantizeReport write(const fs::path& folder) {
    if (options_.importance) importance_ = options_.importance();
    write_shards(
        folder, headers_of(shards_),
        [this](const TensorHeader& header, std::span<std::byte> bytes) { fill(*by_name_.at(header.name), bytes); },
        {{"format", "pt"}, {"quantized", std::string(model_format_name(options_.format))}});
    return std::move(report_);
  }

 private:
  void plan(const StoredTensor& item) {
    by_name_[item.header.name] = &item;
    report_.bytes_after += static_cast<int64_t>(checked_num_bytes(item.header));
    if (!item.last) return;
    const TensorView& tensor = checkpoint_.at(item.original.name);
    report_.bytes_before += static_cast<int64_t>(tensor.num_bytes());
    report_.weights += tensor.size();
  }

  QuantizedPart& part(const StoredTensor& item) {
    const std::string name = part_of(item.original, config_);
    const std::string format = item.format ? std::string(panel_format_name(*item.format)) : "as stored";
    for (QuantizedPart& part : report_.parts)
      if (part.name == name) return part;
    report_.parts.push_back({.name = name, .format = format});
    return report_.parts.back();
  }

  void fill(const StoredTensor& item, std::span<std::byte> bytes) {
    if (options_.cancelled && options_.cancelled()) fail(ErrorCode::kCancelled, "stopped; nothing was written");
    const TensorView& tensor = checkpoint_.at(item.original.name);
    QuantizedPart& part = this->part(item);
    part.bytes += static_cast<int64_t>(bytes.size());
    if (item.format) {
      fill_panels(item, tensor, bytes.data(), part);
    } else {
      std::memcpy(bytes.data(), tensor.data, bytes.size());
    }
    if (!item.last) return;
    part.weights += tensor.size();
    checkpoint_.release(tensor);
    done_ += static_cast<int64_t>(tensor.num_bytes());
    if (options_.progress) options_.progress(done_, report_.bytes_before);
  }

  // nullptr: every column weighs the same.
  const float* importance_of(const StoredTensor& item) const {
    const auto found = importance_.find(item.original.name);
    if (found == importance_.end() || item.format != PanelFormat::kQ4 || !item.part.empty()) return nullptr;
    const std::vector<float>& values = found->second;
    const bool usable = std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x) && x >= 0; });
    if (static_cast<int64_t>(values.size()) != item.cols || !usable)
      fail(ErrorCode::kInvalidArgument, "the importance of {} has {} values, expected {} finite ones, none negative",
           item.original.name, values.size(), item.cols);
    return values.data();
  }

  void fill_panels(const StoredTensor& item, const TensorView& tensor, std::byte* out, QuantizedPart& part) {
    const float* importance = importance_of(item);
    const int64_t panels = (item.rows + kPanelRows - 1) / kPanelRows;
    struct Squares {
      double error = 0, value = 0;
    };
    std::vector<Squares> squares(static_cast<size_t>(item.count * panels));
    pool_.parallel_for(item.count * panels, [&](int64_t task, int thread) {
      const int64_t matrix = task / panels, row = task % panels * kPanelRows;
      const int64_t rows = std::min(kPanelRows, item.rows - row);
      std::vector<float>& values = rows_[static_cast<size_t>(thread)];
      std::vector<float>& decoded = decoded_[static_cast<size_t>(thread)];
      values.resize(static_cast<size_t>(kPanelRows * item.cols));
      decoded.resize(static_cast<size_t>(item.cols));
      read_rows(item, tensor, item.first + matrix * item.step, row, rows, values.data());
      std::byte* panel = out + task * panel_bytes(*item.format, item.cols);
      encode_panel(*item.format, values.data(), item.cols, rows, item.cols, importance, panel);
      Squares& sum = squares[static_cast<size_t>(task)];
      for (int64_t r = 0; r < rows; ++r) {
        decode_row({*item.format, kPanelRows, item.cols, panel}, r, decoded.data());
        const float* w = values.data() + r * item.cols;
        for (int64_t k = 0; k < item.cols; ++k) {
          const double d = double{decoded[static_cast<size_t>(k)]} - double{w[k]};
          sum.error += d * d;
          sum.value += double{w[k]} * double{w[k]};
        }
      }
      if (!std::isfinite(sum.error) || !std::isfinite(sum.value))
        fail(ErrorCode::kCorrupt,
             "{}: {} has a value that is no finite number, expected none; the model is damaged: get it again",
             checkpoint_.folder().string(), item.original.name);
    });
    for (const Squares& sum : squares) {
      part.error_square += sum.error;
      part.square += sum.value;
    }
  }

  static void read_rows(const StoredTensor& item, const TensorView& tensor, int64_t first, int64_t row, int64_t rows,
                        float* out) {
    if (!item.transposed) return to_floats(tensor, first + row * item.cols, rows * item.cols, out);
    std::array<float, kPanelRows> part;
    for (int64_t k = 0; k < item.cols; ++k) {
      to_floats(tensor, first + k * item.rows + row, rows, part.data());
      for (int64_t r = 0; r < rows; ++r) out[r * item.cols + k] = part[static_cast<size_t>(r)];
    }
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const QuantizeOptions& options_;
  const StoredShards shards_;
  ThreadPool pool_;
  std::vector<std::vector<float>> rows_, decoded_;  // of each thread
  std::map<std::string, const StoredTensor*> by_name_;
  Importance importance_;
  QuantizeReport report_;
  int64_t done_ = 0;
};

}  // namespace

double QuantizedPart::relative_error() const { return square > 0 ? std::sqrt(error_square / square) : 0.0; }

double QuantizeReport::bits_per_weight() const {
  return weights > 0 ? 8.0 * static_cast<double>(bytes_after) / static_cast<double>(weights) : 0.0;
}

QuantizeReport quantize_model(const fs::path& in, const fs::path& out, const QuantizeOptions& options) {
  const fs::path config_file = in / "config.json";
  const std::string config_text = read_file(config_file, kMaxConfigBytes);
  const ModelConfig config = parse_model_config(config_text, config_file.string());
  if (config.quantization)
    fail(ErrorCode::kInvalidArgument, "{}: is quantised already ({}); quantise the original model", in.string(),
         model_format_name(*config.quantization));
  check_apart(in, out);
  const Checkpoint checkpoint(in);
  checkpoint.check(config);
  Quantizer quantizer(checkpoint, config, options);
  OutputFolder folder(out, options.replace);
  check_room(folder.path(), quantizer.bytes_after());
  copy_other_files(in, folder.path());
  write_file_atomic(folder.path() / "config.json",
                    with_quantization_config(config_text, options.format, config_file.string()));
  QuantizeReport report = quantizer.write(folder.path());
  folder.keep();
  return report;
}

}  // namespace vl2
