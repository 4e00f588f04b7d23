// Which stored form each tensor of a model gets in a weight format: the one rule that `vl2 quantize` writes by, the
// engine packs random weights by, and benchmarks and memory plans count by.
//
//            routed experts   attention, dense, shared experts, lm_head   vision, projector   MLA's kv_b
//   bf16     bf16             bf16                                        bf16                bf16
//   q8       q8               q8                                          q8                  q8
//   q4       q4               q4                                          q8                  q8
//   mixed    q4               q8                                          bf16                q8
//
// Everything else stays as it is: embedding table (also where it is lm_head too), router, norms, biases, positions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/model_spec/model_config.h"
#include "core/model_spec/weight_schema.h"
#include "core/quant/panel_format.h"

namespace vl2 {

enum class ModelFormat : uint8_t { kBf16, kQ8, kQ4, kMixed };

std::string_view model_format_name(ModelFormat format);  // "bf16", "q8", "q4", "mixed"
std::optional<ModelFormat> parse_model_format(std::string_view name);

// kv_b_proj of latent attention, which is stored per head as W_UK [qk_nope, rank], W_UV [v, rank] and W_UK^T
// [rank, qk_nope]: each of the three is a matrix of its own.
bool is_latent_kv_b(const WeightSpec& weight, const ModelConfig& config);

// nullopt: the tensor stays as it is.
std::optional<PanelFormat> panel_format_of(ModelFormat format, const WeightSpec& weight, const ModelConfig& config);

// Bytes of a tensor's panels in memory, scales and padding included; of kv_b all three parts of every head.
int64_t panel_tensor_bytes(PanelFormat format, const WeightSpec& weight, const ModelConfig& config);

}  // namespace vl2
