// One run of the model with every stage written down, under the names of the golden files (golden/README.md, "Case
// tensors"): what `vl2 trace` prints and what the parity tests compare.
//
// A left-padded batch runs as separate sequences without their padding; results are put back at the unmasked rows,
// zeros elsewhere. Plain data; the run itself uses the model's thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "engine/model/deepseek_vl2.h"

namespace vl2 {

struct TraceCase {
  int64_t batch = 1;
  int64_t length = 0;
  std::vector<int32_t> input_ids;              // [B, T]
  std::vector<uint8_t> image_mask;             // [B, T]: 1 where a picture's row stands
  std::vector<uint8_t> attention_mask;         // [B, T]: 0 on padding
  std::vector<std::vector<ImageGrid>> images;  // of each sample
  std::vector<std::vector<float>> pixels;      // of each sample: [tiles][3][size][size], normalised
};

// Reads input_ids, images_seq_mask, attention_mask, images_spatial_crop and tile_ids; the latter number tiles of
// `tiles_u8` in `tiles` (nullptr: a case without pictures). kNotFound, kCorrupt.
TraceCase read_trace_case(const SafetensorsFile& file, const SafetensorsFile* tiles, const ModelConfig& config);

// Greedy generation by repeated forward steps, not stopped at the end token.
struct TraceGeneration {
  std::string prefix;               // tensors are named <prefix>.tokens, .margin, .logits
  int64_t steps = 0;                // N
  float repetition_penalty = 1.0f;  // over all ids of the prompt, padding and pictures included, and the new ones
  std::vector<int64_t> teacher;     // [B, N]: ids to continue with instead of the chosen ones; empty: none
};

struct TraceOptions {
  bool layer_details = true;                 // layer.*: parts of each decoder layer, caches, attention weights
  std::vector<TraceGeneration> generations;  // each starts again from the prompt
  int64_t incremental_chunk = 0;             // > 0: incremental.*, the prompt but its last token run in chunks
  int64_t incremental_steps = 24;
};

struct TraceTensor {
  std::string name;
  DType dtype;
  Shape shape;
  std::vector<std::byte> bytes;

  TensorView view() const { return {bytes.data(), dtype, shape}; }
};

// How far a token's choice is from falling differently: the smallest distance between a chosen and a rejected expert,
// or a kept and a rejected group.
float selection_gap(const Routing& routing, int64_t token, const RouterParams& params);

// In the order they were computed.
std::vector<TraceTensor> run_trace_case(const DeepseekVl2& model, const TraceCase& trace_case,
                                        const TraceOptions& options);

}  // namespace vl2
