#include "engine/runtime/placement.h"

#include <algorithm>

#include "core/base/format_bytes.h"

namespace vl2 {
namespace {

int64_t host_memory_available() { return backend_memory("cpu", {}).available.value_or(INT64_MAX); }

bool fits(const MemoryReport& plan, int64_t host_available) {
  return plan.total() <= plan.available && plan.host_experts <= host_available;
}

Placement planned(const ModelConfig& config, const MemoryPlanInput& input, std::string_view backend,
                  const BackendOptions& options, int64_t limit) {
  Placement p{std::string(backend), options, input, {}, {}};
  describe_backend(p.input, backend, options);
  const BackendMemory memory = backend_memory(backend, options);
  p.place = memory.place;
  p.memory = plan_memory(config, p.input);
  p.memory.available = limit > 0 ? limit : memory.available.value_or(INT64_MAX);
  return p;
}

}  // namespace

void describe_backend(MemoryPlanInput& input, std::string_view backend, const BackendOptions& options) {
  input.footprint = backend_footprint(backend, options);
  input.host = backend_footprint("cpu", options);
  input.gpu_layers = input.footprint.on_host ? -1 : options.gpu_layers;
}

std::optional<int64_t> most_gpu_layers(const ModelConfig& config, const MemoryPlanInput& input, int64_t available,
                                       int64_t host_available) {
  MemoryPlanInput tried = input;
  for (int64_t layers = config.language.num_hidden_layers; layers >= 0; --layers) {
    tried.gpu_layers = layers;
    MemoryReport plan = plan_memory(config, tried);
    plan.available = available;
    if (fits(plan, host_available)) return layers;
  }
  return std::nullopt;
}

Placement place_model(const ModelConfig& config, const MemoryPlanInput& input, std::string_view backend,
                      const BackendOptions& options, int64_t limit) {
  const std::string_view best = resolve_backend(backend);
  Placement first = planned(config, input, best, options, limit);
  if (backend != "auto" || options.gpu_layers >= 0 || first.input.footprint.on_host) return first;
  const int64_t host_available = host_memory_available();
  if (fits(first.memory, host_available)) return first;
  BackendOptions split = options;
  if (const auto layers = most_gpu_layers(config, first.input, first.memory.available, host_available)) {
    split.gpu_layers = *layers;
    return planned(config, input, best, split, limit);
  }
  return planned(config, input, "cpu", options, limit);
}

void check_placement(const Placement& p, const ModelConfig& config, const std::string& model) {
  const int64_t host_available = p.memory.host_experts > 0 ? host_memory_available() : INT64_MAX;
  if (p.memory.host_experts > host_available)
    fail(ErrorCode::kOutOfMemory,
         "{} needs {} of memory for the experts of layers {} and later, but only {} are available. Close other "
         "programs, or leave more of them to the GPU.",
         model, format_bytes(p.memory.host_experts), p.compute.gpu_layers, format_bytes(host_available));
  try {
    check_memory(p.memory, p.memory.available, model, p.place);
  } catch (const Error& error) {
    if (p.input.footprint.on_host) throw;
    const auto layers = most_gpu_layers(config, p.input, p.memory.available, host_memory_available());
    if (!layers) throw;
    fail(error.code(), "{} Or leave experts to the CPU: --gpu-layers {} has room here.", error.what(), *layers);
  }
}

}  // namespace vl2
