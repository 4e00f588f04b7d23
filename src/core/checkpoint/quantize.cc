#include "core/checkpoint/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>

#include "core/base/file.h"
#include "core/base/thread_pool.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/output_folder.h"

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

// One output tensor: `count` matrices [rows, cols] that begin at `first` in the stored tensor, `step` values apart. A
// transposed one is stored as [cols, rows].
struct Item {
  const WeightSpec* spec = nullptr;
  std::optional<PanelFormat> format;  // nullopt: copied
  bool last = true;                   // of the items of this tensor
  int64_t count = 1, rows = 0, cols = 0, first = 0, step = 0;
  bool transposed = false;
  TensorHeader header = {};
};

void add_panels(std::vector<Item>& items, const WeightSpec& spec, PanelFormat format) {
  Item item = {.spec = &spec, .format = format, .rows = spec.shape[0]};
  item.cols = num_elements(spec.shape) / item.rows;
  item.header = {fmt::format("{}.{}", spec.name, panel_format_name(format)),
                 DType::kU8,
                 {(item.rows + kPanelRows - 1) / kPanelRows, panel_bytes(format, item.cols)}};
  items.push_back(std::move(item));
}

// kv_b is [heads][qk_nope + v, rank]: the rows of W_UK and W_UV take turns.
void add_latent(std::vector<Item>& items, const WeightSpec& spec, PanelFormat format, const LanguageConfig& c) {
  const int64_t nope = c.qk_nope_head_dim, rank = c.kv_lora_rank;
  const auto add = [&](const char* part, int64_t rows, int64_t cols, int64_t first, bool transposed, bool last) {
    Item item = {.spec = &spec,
                 .format = format,
                 .last = last,
                 .count = c.num_attention_heads,
                 .rows = rows,
                 .cols = cols,
                 .first = first,
                 .step = (nope + c.v_head_dim) * rank,
                 .transposed = transposed};
    item.header = {fmt::format("{}.{}.{}", spec.name, part, panel_format_name(format)),
                   DType::kU8,
                   {item.count, matrix_bytes(format, rows, cols)}};
    items.push_back(std::move(item));
  };
  add("uk", nope, rank, 0, false, false);
  add("uv", c.v_head_dim, rank, nope * rank, false, false);
  add("uk_t", rank, nope, 0, true, true);
}

// Panels first, so that each begins at a multiple of 64 bytes; then the embedding table, which profits from the same,
// if that does not misplace what follows; then the rest, widest type first.
int order_of(const Item& item) {
  if (item.format) return 0;
  const size_t bytes = checked_num_bytes(item.header);
  if (item.spec->role == WeightRole::kEmbedding && bytes % sizeof(double) == 0) return 1;
  return 10 - static_cast<int>(dtype_size(item.header.dtype));
}

class Quantizer {
 public:
  Quantizer(const Checkpoint& checkpoint, const ModelConfig& config, const QuantizeOptions& options)
      : checkpoint_(checkpoint),
        config_(config),
        options_(options),
        schema_(weight_schema(config)),
        pool_(options.num_threads > 0 ? options.num_threads : ThreadPool::default_num_threads()),
        rows_(static_cast<size_t>(pool_.num_threads())),
        decoded_(static_cast<size_t>(pool_.num_threads())) {
    plan();
  }

  int64_t bytes_after() const { return report_.bytes_after; }

  QuantizeReport write(const fs::path& folder) {
    std::vector<std::vector<TensorHeader>> shards;
    for (const auto& shard : shards_) {
      shards.emplace_back();
      for (const Item* item : shard) shards.back().push_back(item->header);
    }
    write_shards(
        folder, shards,
        [this](const TensorHeader& header, std::span<std::byte> bytes) { fill(*by_name_.at(header.name), bytes); },
        {{"format", "pt"}, {"quantized", std::string(model_format_name(options_.format))}});
    return std::move(report_);
  }

 private:
  void plan() {
    for (const WeightSpec& spec : schema_) {
      if (spec.role == WeightRole::kUnused) continue;
      const TensorView& tensor = checkpoint_.at(spec.name);
      report_.bytes_before += static_cast<int64_t>(tensor.num_bytes());
      report_.weights += tensor.size();
      const auto format = panel_format_of(options_.format, spec, config_);
      if (!format) {
        items_.push_back({.spec = &spec, .format = {}, .header = {spec.name, tensor.dtype, tensor.shape}});
      } else if (is_latent_kv_b(spec, config_)) {
        add_latent(items_, spec, *format, config_.language);
      } else {
        add_panels(items_, spec, *format);
      }
    }
    std::vector<TensorHeader> headers;
    for (const Item& item : items_) {
      by_name_[item.header.name] = &item;
      headers.push_back(item.header);
      report_.bytes_after += static_cast<int64_t>(checked_num_bytes(item.header));
    }
    for (const auto& shard : split_into_shards(headers, options_.max_shard_bytes)) {
      shards_.emplace_back();
      for (const TensorHeader& header : shard) shards_.back().push_back(by_name_.at(header.name));
      std::stable_sort(shards_.back().begin(), shards_.back().end(),
                       [](const Item* a, const Item* b) { return order_of(*a) < order_of(*b); });
    }
  }

  QuantizedPart& part(const Item& item) {
    const std::string name = part_of(*item.spec, config_);
    const std::string format = item.format ? std::string(panel_format_name(*item.format)) : "as stored";
    for (QuantizedPart& part : report_.parts)
      if (part.name == name) return part;
    report_.parts.push_back({.name = name, .format = format});
    return report_.parts.back();
  }

  void fill(const Item& item, std::span<std::byte> bytes) {
    if (options_.cancelled && options_.cancelled()) fail(ErrorCode::kCancelled, "stopped; nothing was written");
    const TensorView& tensor = checkpoint_.at(item.spec->name);
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

  void fill_panels(const Item& item, const TensorView& tensor, std::byte* out, QuantizedPart& part) {
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
      encode_panel(*item.format, values.data(), item.cols, rows, item.cols, nullptr, panel);
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
             checkpoint_.folder().string(), item.spec->name);
    });
    for (const Squares& sum : squares) {
      part.error_square += sum.error;
      part.square += sum.value;
    }
  }

  static void read_rows(const Item& item, const TensorView& tensor, int64_t first, int64_t row, int64_t rows,
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
  const std::vector<WeightSpec> schema_;
  ThreadPool pool_;
  std::vector<std::vector<float>> rows_, decoded_;  // of each thread
  std::vector<Item> items_;
  std::map<std::string, const Item*> by_name_;
  std::vector<std::vector<const Item*>> shards_;
  QuantizeReport report_;
  int64_t done_ = 0;
};

bool is_inside(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

void check_apart(const fs::path& in, const fs::path& out) {
  std::error_code ignored;
  fs::path a = fs::weakly_canonical(fs::absolute(in), ignored), b = fs::weakly_canonical(fs::absolute(out), ignored);
  if (!a.has_filename()) a = a.parent_path();
  if (!b.has_filename()) b = b.parent_path();
  if (is_inside(a, b) || is_inside(b, a))
    fail(ErrorCode::kInvalidArgument, "{}: is {}, expected a folder apart from it", out.string(),
         a == b ? "the model itself" : "inside the model's folder or around it");
}

void check_room(const fs::path& folder, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<uintmax_t>(bytes))
    fail(ErrorCode::kIo, "{}: {} bytes are free there, expected {} for the weights; choose a place with more room",
         folder.parent_path().string(), space.available, bytes);
}

bool is_weight_file(const std::string& name) {
  for (const char* suffix : {".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth"})
    if (name.ends_with(suffix)) return true;
  return false;
}

// Tokenizer, processor config, model card. Hugging Face's cache has links in place of files.
void copy_other_files(const fs::path& in, const fs::path& out) {
  for (const auto& entry : fs::directory_iterator(in)) {
    const std::string name = entry.path().filename().string();
    std::error_code error;
    if (name == "config.json" || is_weight_file(name) || !fs::is_regular_file(entry.path(), error)) continue;
    fs::copy_file(entry.path(), out / name, error);
    if (error) fail(ErrorCode::kIo, "{}: cannot copy it: {}", entry.path().string(), error.message());
  }
}

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
