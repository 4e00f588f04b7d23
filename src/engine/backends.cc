#include "engine/backends.h"

#include <algorithm>
#include <array>

#include "core/base/available_memory.h"
#include "core/base/thread_pool.h"
#include "engine/cpu/cpu_isa.h"
#include "engine/cpu/cpu_limits.h"
#include "engine/cpu/cpu_ops.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/reference/reference_ops.h"

namespace vl2 {
namespace {

struct Backend {
  std::string_view name;
  std::unique_ptr<Ops> (*make)(const BackendOptions&);
  BackendFootprint (*footprint)(const BackendOptions&);
  std::unique_ptr<LimitMeter> (*limits)(const BackendOptions&);
  BackendMemory (*memory)(const BackendOptions&);
};

BackendMemory memory_of_host(const BackendOptions&) { return {"memory", available_memory()}; }

std::unique_ptr<Ops> make_reference(const BackendOptions& options) {
  if (options.compute == Compute::kBF16)
    fail(ErrorCode::kUnsupported, "the reference backend computes in float64 only; leave the compute type on auto");
  if (options.cache == CacheType::kBF16 || options.cache == CacheType::kInt8)
    fail(ErrorCode::kUnsupported, "the reference backend caches float32 only; leave the type of the cache on auto");
  return make_reference_ops();
}

BackendFootprint reference_footprint(const BackendOptions&) { return {4, 4, 4, 4, true}; }

std::unique_ptr<LimitMeter> reference_limits(const BackendOptions&) {
  fail(ErrorCode::kUnsupported, "the reference backend is slow on purpose and has no limit to be compared with");
}

bool bf16_compute(const BackendOptions& options) {
  if (options.compute != Compute::kAuto) return options.compute == Compute::kBF16;
  return options.weights == DType::kBF16 && choose_isa() == Isa::kAmx;
}

CacheType cpu_cache(const BackendOptions& options) {
  if (options.cache != CacheType::kAuto) return options.cache;
  return options.quantized || bf16_compute(options) ? CacheType::kBF16 : CacheType::kF32;
}

CpuOptions cpu_options(const BackendOptions& options) {
  return {.threads = options.threads,
          .compute = options.compute,
          .cache = cpu_cache(options),
          .bf16_attention = options.quantized && options.compute == Compute::kAuto,
          .isa = std::nullopt};
}

std::unique_ptr<Ops> make_cpu(const BackendOptions& options) { return make_cpu_ops(cpu_options(options)); }

std::unique_ptr<LimitMeter> cpu_limits(const BackendOptions& options) {
  return make_cpu_limit_meter(cpu_options(options));
}

BackendFootprint cpu_footprint(const BackendOptions& options) {
  const double stored = options.weights == DType::kBF16 ? 2 : 4;
  const CacheType cache = cpu_cache(options);
  // Codes have a scale of two bytes for each 128, and end where a line does.
  const double value = cache == CacheType::kInt8 ? 1 + 1.0 / 32 : cache == CacheType::kBF16 ? 2 : 4;
  return {bf16_compute(options) ? 2 : stored, stored, 4, value};
}

// bfloat16 is native on every GPU the kernels run on: what is not stored in float32 is multiplied in it.
bool narrow_cuda(const BackendOptions& options) {
  if (options.compute != Compute::kAuto) return options.compute == Compute::kBF16;
  return options.weights == DType::kBF16 || options.quantized;
}

bool narrow_cuda_cache(const BackendOptions& options) {
  return options.cache == CacheType::kAuto ? narrow_cuda(options) : options.cache == CacheType::kBF16;
}

CudaOptions cuda_options(const BackendOptions& options) {
  if (options.cache == CacheType::kInt8)
    fail(
        ErrorCode::kUnsupported,
        "on a GPU keys and values are cached in f32 or bf16, not int8: leave the type of the cache on auto, or compute "
        "on the CPU");
  return {.device = options.device, .compute = options.compute, .bf16_cache = narrow_cuda_cache(options)};
}

std::unique_ptr<Ops> make_cuda(const BackendOptions& options) {
  CudaOptions result = cuda_options(options);
  if (options.gpu_layers >= 0) {
    result.expert_host = make_cpu(options);
    result.expert_layers = options.gpu_layers;
  }
  return make_cuda_ops(result);
}

std::unique_ptr<LimitMeter> cuda_limits(const BackendOptions& options) {
  return make_cuda_limit_meter(cuda_options(options));
}

BackendFootprint cuda_footprint(const BackendOptions& options) {
  const double stored = options.weights == DType::kBF16 ? 2 : 4;
  return {narrow_cuda(options) ? 2 : stored, stored, 4, narrow_cuda_cache(options) ? 2.0 : 4.0, false};
}

BackendMemory memory_of_gpu(const BackendOptions& options) {
  return {fmt::format("memory of GPU {}", options.device), cuda_free_memory(options.device)};
}

// Best first.
constexpr std::array kBackends = {
    Backend{"cuda", make_cuda, cuda_footprint, cuda_limits, memory_of_gpu},
    Backend{"cpu", make_cpu, cpu_footprint, cpu_limits, memory_of_host},
    Backend{"reference", make_reference, reference_footprint, reference_limits, memory_of_host},
};

bool is_here(const Backend& backend) { return backend.name != "cuda" || cuda_devices() > 0; }

const Backend& find(std::string_view name) {
  if (name == "auto") return find(cuda_is_usable(0) ? "cuda" : "cpu");  // a card that is too old is none
  for (const Backend& backend : kBackends)
    if (backend.name == name) return backend;
  fail(ErrorCode::kInvalidArgument, "there is no backend \"{}\"; known are auto, {}", name,
       fmt::join(backend_names(), ", "));
}

}  // namespace

std::vector<std::string_view> backend_names() {
  std::vector<std::string_view> names;
  for (const Backend& backend : kBackends)
    if (is_here(backend)) names.push_back(backend.name);
  return names;
}

std::unique_ptr<Ops> make_ops(std::string_view name, const BackendOptions& options) {
  if (options.threads < 0)
    fail(ErrorCode::kInvalidArgument, "{} threads; 0 (all cores) or more are possible", options.threads);
  const Backend& backend = find(name);
  if (options.gpu_layers >= 0 && backend.name != "cuda")
    fail(ErrorCode::kInvalidArgument, "{} layers on the GPU, but backend \"{}\" uses none", options.gpu_layers,
         backend.name);
  return backend.make(options);
}

std::string_view resolve_backend(std::string_view name) { return find(name).name; }

BackendFootprint backend_footprint(std::string_view name, const BackendOptions& options) {
  return find(name).footprint(options);
}

BackendMemory backend_memory(std::string_view name, const BackendOptions& options) {
  return find(name).memory(options);
}

std::unique_ptr<LimitMeter> make_limit_meter(std::string_view name, const BackendOptions& options) {
  return find(name).limits(options);
}

ProcessorReport processor_report() {
  ProcessorReport report;
  report.processor = processor_name();
  report.threads = ThreadPool::default_num_threads();
  for (const Isa isa : available_isas()) report.detected.emplace_back(isa_name(isa));
  report.kernels = isa_name(choose_isa());
  report.text = cpu_description();
  return report;
}

}  // namespace vl2
