// The one place that names backends. Everything above speaks to Ops.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/ops/compute.h"
#include "engine/ops/limits.h"
#include "engine/ops/ops.h"

namespace vl2 {

struct BackendOptions {
  Compute compute = Compute::kAuto;
  CacheType cache = CacheType::kAuto;
  int threads = 0;               // 0: every core this process may use
  int device = 0;                // of "cuda": the GPU's number
  int64_t gpu_layers = -1;       // of "cuda": layers whose routed experts are on the GPU, the rest on the CPU; -1: all
  DType weights = DType::kBF16;  // stored type of the matrices; decides what kAuto means and what they take in memory
  bool quantized = false;        // matrices are stored as codes; decides what kAuto means for the cache
};

// Bytes a backend keeps per stored value, for planning memory before anything is allocated.
struct BackendFootprint {
  double matrix = 4;  // multiplied weights
  double lookup = 4;  // embedding tables
  double vector = 4;  // norms, biases, routers
  double cache = 4;   // keys, values, latents
  bool on_host = true;
};

// Where a backend's memory comes from, and how much of it is free now.
struct BackendMemory {
  std::string place = "memory";                     // "memory", "memory of GPU 0"
  std::optional<int64_t> available = std::nullopt;  // bytes; empty: nobody can tell
};

// Names that make_ops accepts, best first. "auto" stands for the first, but for a GPU that is too old. "cuda" is among
// them where there is a GPU and this was built for one; elsewhere it is accepted too, and refused with what is missing
// (kUnsupported).
std::vector<std::string_view> backend_names();
// kInvalidArgument for an unknown name, listing the known ones.
std::unique_ptr<Ops> make_ops(std::string_view name, const BackendOptions& options);
// The name that "auto" stands for; any other as it is.
std::string_view resolve_backend(std::string_view name);
BackendFootprint backend_footprint(std::string_view name, const BackendOptions& options);
BackendMemory backend_memory(std::string_view name, const BackendOptions& options);
// kUnsupported for a backend whose speed nobody should measure (reference).
std::unique_ptr<LimitMeter> make_limit_meter(std::string_view name, const BackendOptions& options);

// What this machine has and what the CPU backend would run on it, VL2_CPU_ISA considered (kInvalidArgument,
// kUnsupported: it names something else).
struct ProcessorReport {
  std::string processor;
  int threads = 0;                    // of this process, when none are asked for
  std::vector<std::string> detected;  // instruction sets there are kernels for, weakest first
  std::string kernels;                // the one whose kernels run
  std::string text;                   // all of it for people, a line each
};
ProcessorReport processor_report();

}  // namespace vl2
