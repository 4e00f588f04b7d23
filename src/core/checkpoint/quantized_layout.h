// The tensors of a quantised model folder and where they stand (docs/quantized_format.md): the one list that
// `vl2 quantize` fills from a model, and benchmarks from random numbers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/model_spec/format_plan.h"
#include "core/model_spec/weight_schema.h"

namespace vl2 {

// Panels of `count` matrices [rows, cols] that begin at `first` in the original tensor, `step` values apart; a
// transposed one stands there as [cols, rows]. Without a format: the original tensor.
struct StoredTensor {
  WeightSpec original;
  std::optional<PanelFormat> format;
  std::string part;  // of latent attention's kv_b: "uk", "uv" or "uk_t"
  bool last = true;  // of those that are made of this original
  int64_t count = 1, rows = 0, cols = 0, first = 0, step = 0;
  bool transposed = false;
  TensorHeader header = {};
};

using StoredShards = std::vector<std::vector<StoredTensor>>;

// `type_of`: element type of an original that is not stored as panels.
StoredShards quantized_layout(const ModelConfig& config, ModelFormat format,
                              const std::function<DType(const std::string& name)>& type_of, uint64_t max_shard_bytes);

// Each shard's headers, as write_shards takes them.
std::vector<std::vector<TensorHeader>> headers_of(const StoredShards& shards);

}  // namespace vl2
