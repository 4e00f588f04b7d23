#include "core/checkpoint/quantized_layout.h"

#include <algorithm>

#include "core/checkpoint/checkpoint.h"

namespace vl2 {
namespace {

void add_panels(std::vector<StoredTensor>& tensors, const WeightSpec& spec, PanelFormat format) {
  StoredTensor tensor = {.original = spec, .format = format, .part = "", .rows = spec.shape[0]};
  tensor.cols = num_elements(spec.shape) / tensor.rows;
  tensor.header = {fmt::format("{}.{}", spec.name, panel_format_name(format)),
                   DType::kU8,
                   {(tensor.rows + kPanelRows - 1) / kPanelRows, panel_bytes(format, tensor.cols)}};
  tensors.push_back(std::move(tensor));
}

// kv_b is [heads][qk_nope + v, rank]: the rows of W_UK and W_UV take turns.
void add_latent(std::vector<StoredTensor>& tensors, const WeightSpec& spec, PanelFormat format,
                const LanguageConfig& c) {
  const int64_t nope = c.qk_nope_head_dim, rank = c.kv_lora_rank;
  const auto add = [&](const char* part, int64_t rows, int64_t cols, int64_t first, bool transposed, bool last) {
    StoredTensor tensor = {.original = spec,
                           .format = format,
                           .part = part,
                           .last = last,
                           .count = c.num_attention_heads,
                           .rows = rows,
                           .cols = cols,
                           .first = first,
                           .step = (nope + c.v_head_dim) * rank,
                           .transposed = transposed};
    tensor.header = {fmt::format("{}.{}.{}", spec.name, part, panel_format_name(format)),
                     DType::kU8,
                     {tensor.count, matrix_bytes(format, rows, cols)}};
    tensors.push_back(std::move(tensor));
  };
  add("uk", nope, rank, 0, false, false);
  add("uv", c.v_head_dim, rank, nope * rank, false, false);
  add("uk_t", rank, nope, 0, true, true);
}

// Panels first, so that each begins at a multiple of 64 bytes; then the embedding table, which profits from the same,
// if that does not misplace what follows; then the rest, widest type first.
int order_of(const StoredTensor& tensor) {
  if (tensor.format) return 0;
  const size_t bytes = checked_num_bytes(tensor.header);
  if (tensor.original.role == WeightRole::kEmbedding && bytes % sizeof(double) == 0) return 1;
  return 10 - static_cast<int>(dtype_size(tensor.header.dtype));
}

}  // namespace

StoredShards quantized_layout(const ModelConfig& config, ModelFormat format,
                              const std::function<DType(const std::string& name)>& type_of, uint64_t max_shard_bytes) {
  std::vector<StoredTensor> tensors;
  for (const WeightSpec& spec : weight_schema(config)) {
    if (spec.role == WeightRole::kUnused) continue;
    const auto panels = panel_format_of(format, spec, config);
    if (!panels) {
      tensors.push_back(
          {.original = spec, .format = {}, .part = "", .header = {spec.name, type_of(spec.name), spec.shape}});
    } else if (is_latent_kv_b(spec, config)) {
      add_latent(tensors, spec, *panels, config.language);
    } else {
      add_panels(tensors, spec, *panels);
    }
  }
  std::vector<TensorHeader> headers;
  for (const StoredTensor& tensor : tensors) headers.push_back(tensor.header);
  StoredShards shards;
  auto next = tensors.begin();
  for (const auto& shard : split_into_shards(headers, max_shard_bytes)) {
    const auto end = next + static_cast<std::ptrdiff_t>(shard.size());
    shards.emplace_back(std::make_move_iterator(next), std::make_move_iterator(end));
    std::stable_sort(shards.back().begin(), shards.back().end(),
                     [](const StoredTensor& a, const StoredTensor& b) { return order_of(a) < order_of(b); });
    next = end;
  }
  return shards;
}

std::vector<std::vector<TensorHeader>> headers_of(const StoredShards& shards) {
  std::vector<std::vector<TensorHeader>> headers;
  for (const auto& shard : shards) {
    headers.emplace_back();
    for (const StoredTensor& tensor : shard) headers.back().push_back(tensor.header);
  }
  return headers;
}

}  // namespace vl2
