// Where a model runs: on which backend, and, where a card is too small for all of it, whose experts stay on the host.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/backends.h"
#include "engine/runtime/memory_plan.h"

namespace vl2 {

struct Placement {
  std::string backend;     // of make_ops; never "auto"
  BackendOptions compute;  // with the gpu_layers there is room for
  MemoryPlanInput input;   // with what that backend keeps of each value
  MemoryReport memory;     // with what is available; INT64_MAX: nobody can tell
  std::string place;       // of that memory
};

// What a backend keeps of each value, and where the experts lie.
void describe_backend(MemoryPlanInput& input, std::string_view backend, const BackendOptions& options);

// The most decoder layers whose routed experts a card has room for, when those of the others take `host_available` at
// most; empty: not even without any. `input` says what a card keeps.
std::optional<int64_t> most_gpu_layers(const ModelConfig& config, const MemoryPlanInput& input, int64_t available,
                                       int64_t host_available);

// "auto" is the first that has room of a GPU, a GPU with the experts of as many layers as possible, and the CPU;
// without room anywhere it is the CPU. Options that say how many layers are kept. `limit`: bytes available; 0: what is
// free. The backend's fields of `input` are filled here. Nothing is refused: check_placement does that.
Placement place_model(const ModelConfig& config, const MemoryPlanInput& input, std::string_view backend,
                      const BackendOptions& options, int64_t limit = 0);

// kOutOfMemory, with the numbers and what would help: the model does not fit where it is placed.
void check_placement(const Placement& placement, const ModelConfig& config, const std::string& model);

}  // namespace vl2
