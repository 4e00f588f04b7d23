// Writes a model folder anew with its matrices as panels (docs/quantized_format.md).
//
// Tensor by tensor: one output tensor and one panel of floats a thread are in memory. The folder is made under another
// name beside its place and renamed once it is whole, so that a stop at any moment leaves no half model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/model_spec/format_plan.h"

namespace vl2 {

// By name of an original tensor: how much a squared error of each of its columns weighs, after what the matrix is
// multiplied with. What is not named weighs the same everywhere.
using Importance = std::map<std::string, std::vector<float>>;

struct QuantizeOptions {
  ModelFormat format = ModelFormat::kQ4;
  uint64_t max_shard_bytes = uint64_t{4} << 30;
  int num_threads = 0;                                        // 0: all cores
  bool replace = false;                                       // a model that is in the output folder
  std::function<void(int64_t done, int64_t total)> progress;  // bytes of input
  std::function<bool()> cancelled;                            // asked between tensors
  // Called once, when nothing else can be refused any more: gathering it may take long. Used where a scale is searched,
  // which is in 4 bits.
  std::function<Importance()> importance;
};

// What one part of the model became.
struct QuantizedPart {
  std::string name;         // "routed experts"
  std::string format;       // "q4", or "as stored"
  int64_t weights = 0;      // values of the original model
  int64_t bytes = 0;        // as written
  double error_square = 0;  // sums over all values, errors in units of the weights
  double square = 0;

  double relative_error() const;  // root mean square, of the values' root mean square
};

struct QuantizeReport {
  int64_t bytes_before = 0;  // of tensor data that is read
  int64_t bytes_after = 0;
  int64_t weights = 0;
  std::vector<QuantizedPart> parts;

  double bits_per_weight() const;
};

// kInvalidArgument: folders that overlap, an output that is in the way, an input that is quantised already. kCorrupt: a
// weight that is no finite number, or what opening the model says. kIo: no room. kCancelled. And what `importance`
// throws; kInvalidArgument where it does not fit a tensor.
QuantizeReport quantize_model(const std::filesystem::path& in, const std::filesystem::path& out,
                              const QuantizeOptions& options);

}  // namespace vl2
