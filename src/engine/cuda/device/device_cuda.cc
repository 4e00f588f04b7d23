// Device on the CUDA runtime and cuBLASLt.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <thread>
#include <tuple>
#include <vector>

#include "core/base/error.h"
#include "core/base/format_bytes.h"
#include "engine/cuda/device/device.h"

namespace vl2::cuda {
namespace {

#define VL2_TEXT_OF(x) #x
#define VL2_TEXT(x) VL2_TEXT_OF(x)

constexpr size_t kStagingBytes = size_t{8} << 20;  // of one pinned buffer; two take turns
constexpr size_t kGemmScratch = size_t{32} << 20;  // what cuBLASLt recommends for this generation

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that is reported is done with
  fail(error == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal, "[cuda] {}: {}", what,
       cudaGetErrorString(error));
}

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorCode::kInternal, "[cuda] {}: cuBLASLt says {}", what, static_cast<int>(status));
}

// cuBLASLt, loaded when a device is opened: hundreds of megabytes that a program without a GPU neither needs nor waits
// for. Every function under its own name.
struct BlasLt {
  BlasLt() : library(::dlopen("libcublasLt.so." VL2_TEXT(CUBLAS_VER_MAJOR), RTLD_NOW | RTLD_LOCAL)) {
    if (library == nullptr)
      fail(ErrorCode::kUnsupported,
           "cuBLASLt of CUDA {} is needed and cannot be loaded: {}. It is part of the CUDA "
           "toolkit; LD_LIBRARY_PATH may name its folder.",
           CUBLAS_VER_MAJOR, ::dlerror());
#define VL2_LOAD(function) function = reinterpret_cast<decltype(function)>(load(#function))
    VL2_LOAD(cublasLtCreate);
    VL2_LOAD(cublasLtDestroy);
    VL2_LOAD(cublasLtMatmul);
    VL2_LOAD(cublasLtMatmulDescCreate);
    VL2_LOAD(cublasLtMatmulDescDestroy);
    VL2_LOAD(cublasLtMatmulDescSetAttribute);
    VL2_LOAD(cublasLtMatrixLayoutCreate);
    VL2_LOAD(cublasLtMatrixLayoutDestroy);
    VL2_LOAD(cublasLtMatrixLayoutSetAttribute);
    VL2_LOAD(cublasLtMatmulPreferenceCreate);
    VL2_LOAD(cublasLtMatmulPreferenceDestroy);
    VL2_LOAD(cublasLtMatmulPreferenceSetAttribute);
    VL2_LOAD(cublasLtMatmulAlgoGetHeuristic);
#undef VL2_LOAD
  }
  BlasLt(const BlasLt&) = delete;
  BlasLt& operator=(const BlasLt&) = delete;
  // Never closed: the library keeps threads and memory of its own.

  void* library;
  decltype(&::cublasLtCreate) cublasLtCreate;
  decltype(&::cublasLtDestroy) cublasLtDestroy;
  decltype(&::cublasLtMatmul) cublasLtMatmul;
  decltype(&::cublasLtMatmulDescCreate) cublasLtMatmulDescCreate;
  decltype(&::cublasLtMatmulDescDestroy) cublasLtMatmulDescDestroy;
  decltype(&::cublasLtMatmulDescSetAttribute) cublasLtMatmulDescSetAttribute;
  decltype(&::cublasLtMatrixLayoutCreate) cublasLtMatrixLayoutCreate;
  decltype(&::cublasLtMatrixLayoutDestroy) cublasLtMatrixLayoutDestroy;
  decltype(&::cublasLtMatrixLayoutSetAttribute) cublasLtMatrixLayoutSetAttribute;
  decltype(&::cublasLtMatmulPreferenceCreate) cublasLtMatmulPreferenceCreate;
  decltype(&::cublasLtMatmulPreferenceDestroy) cublasLtMatmulPreferenceDestroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) cublasLtMatmulPreferenceSetAttribute;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) cublasLtMatmulAlgoGetHeuristic;

 private:
  void* load(const char* name) const {
    void* function = ::dlsym(library, name);
    if (function == nullptr) fail(ErrorCode::kUnsupported, "this cuBLASLt has no {}", name);
    return function;
  }
};

// A pinned buffer that copies go through, and what tells when the last one is done.
struct Staging {
  std::byte* memory = nullptr;
  cudaEvent_t done = nullptr;
  size_t used = 0;
};

// Descriptors of a product and the algorithm cuBLASLt chose for it.
struct Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t w = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool bias = false;

  explicit Plan(const BlasLt& library) : lt(library) {}
  Plan(const Plan&) = delete;
  ~Plan() {
    for (auto layout : {w, x, out})
      if (layout != nullptr) lt.cublasLtMatrixLayoutDestroy(layout);
    if (operation != nullptr) lt.cublasLtMatmulDescDestroy(operation);
  }
  const BlasLt& lt;
};

using PlanKey = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                           int, int, int, int, int, unsigned>;

struct GraphRecording : Recording {
  GraphRecording() = default;
  GraphRecording(const GraphRecording&) = delete;
  ~GraphRecording() override {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  cudaGraphExec_t graph = nullptr;
};

const void* bias_of(const Gemm& g) {
  return g.out_type == ElementType::kBf16 ? static_cast<const void*>(g.bias_bf16) : g.bias;
}

// memcpy, by several threads where one would keep the card waiting: each passes a few GB/s to or from pinned memory.
void copy_on_host(std::byte* to, const std::byte* from, size_t bytes) {
  constexpr size_t kShare = size_t{1} << 20, kMostThreads = 8;
  const size_t parts = std::min({bytes / kShare, kMostThreads, size_t{std::thread::hardware_concurrency()}});
  if (parts < 2) {
    std::memcpy(to, from, bytes);
    return;
  }
  const size_t share = (bytes + parts - 1) / parts;
  std::vector<std::jthread> threads;
  for (size_t begin = share; begin < bytes; begin += share)
    threads.emplace_back([=] { std::memcpy(to + begin, from + begin, std::min(share, bytes - begin)); });
  std::memcpy(to, from, share);
}

unsigned alignment_of(const void* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  unsigned alignment = 256;
  while (address % alignment != 0) alignment /= 2;
  return alignment;
}

constexpr int kOldestMajor = 8;  // compute capability: bfloat16, asynchronous copies

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int number) {
    check(cudaSetDevice(number), "cudaSetDevice");
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, number), "cudaGetDeviceProperties");
    properties_ = {.name = p.name,
                   .number = number,
                   .major = p.major,
                   .minor = p.minor,
                   .multiprocessors = p.multiProcessorCount,
                   .shared_bytes = static_cast<int64_t>(p.sharedMemPerBlockOptin),
                   .total_memory = static_cast<int64_t>(p.totalGlobalMem)};
    if (p.major < kOldestMajor)
      fail(ErrorCode::kUnsupported, "{} has compute capability {}.{}; the kernels need {}.0 or more", p.name, p.major,
           p.minor, kOldestMajor);
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    // Memory that is given back stays with the process: taking it again costs nothing.
    cudaMemPool_t pool{};
    check(cudaDeviceGetDefaultMemPool(&pool, number), "cudaDeviceGetDefaultMemPool");
    uint64_t keep = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
    check(lt_.cublasLtCreate(&blas_), "cublasLtCreate");
    for (Staging& s : staging_) {
      check(cudaHostAlloc(reinterpret_cast<void**>(&s.memory), kStagingBytes, cudaHostAllocDefault), "cudaHostAlloc");
      check(cudaEventCreateWithFlags(&s.done, cudaEventDisableTiming), "cudaEventCreate");
    }
    gemm_scratch_ = allocate(kGemmScratch);
  }

  ~CudaDevice() override {
    cudaSetDevice(properties_.number);
    cudaStreamSynchronize(stream_);
    plans_.clear();
    if (gemm_scratch_ != nullptr) cudaFree(gemm_scratch_);
    for (Staging& s : staging_) {
      if (s.memory != nullptr) cudaFreeHost(s.memory);
      if (s.done != nullptr) cudaEventDestroy(s.done);
    }
    if (blas_ != nullptr) lt_.cublasLtDestroy(blas_);
    cudaStreamDestroy(stream_);
  }

  const DeviceProperties& properties() const override { return properties_; }
  Stream stream() const override { return stream_; }

  int64_t free_memory() const override {
    size_t free = 0, total = 0;
    select();
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return static_cast<int64_t>(free);
  }

  void* allocate(size_t bytes) override {
    not_while_recording();
    select();
    void* memory = nullptr;
    const cudaError_t error = cudaMallocAsync(&memory, std::max<size_t>(bytes, 1), stream_);
    if (error != cudaSuccess) {
      cudaGetLastError();
      const int64_t free = free_memory();
      fail(error == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kInternal,
           "{} has no {} of memory left ({} free): {}", properties_.name, format_bytes(static_cast<int64_t>(bytes)),
           format_bytes(free), cudaGetErrorString(error));
    }
    return memory;
  }
  // Errors have been reported, or will be, where the work is waited for.
  void release(void* memory) noexcept override {
    if (recording_) return released_.push_back(memory);
    cudaSetDevice(properties_.number);
    cudaFreeAsync(memory, stream_);
  }

  void upload(void* to, const void* from, size_t bytes) override {
    const auto* source = static_cast<const std::byte*>(from);
    auto* target = static_cast<std::byte*>(to);
    while (bytes > 0) {
      const size_t count = std::min(bytes, kStagingBytes);
      std::byte* staged = stage(count);
      copy_on_host(staged, source, count);
      check(cudaMemcpyAsync(target, staged, count, cudaMemcpyHostToDevice, stream_), "upload");
      source += count, target += count, bytes -= count;
    }
  }

  void upload_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t rows) override {
    if (width == 0 || rows == 0) return;
    if (rows == 1 || (to_pitch == width && from_pitch == width)) return upload(to, from, width * rows);
    const auto* source = static_cast<const std::byte*>(from);
    auto* target = static_cast<std::byte*>(to);
    const size_t at_once = kStagingBytes / width;
    if (at_once == 0) {
      for (size_t r = 0; r < rows; ++r) upload(target + r * to_pitch, source + r * from_pitch, width);
      return;
    }
    for (size_t begin = 0; begin < rows; begin += at_once) {
      const size_t count = std::min(at_once, rows - begin);
      std::byte* staged = stage(count * width);
      for (size_t r = 0; r < count; ++r) std::memcpy(staged + r * width, source + (begin + r) * from_pitch, width);
      check(cudaMemcpy2DAsync(target + begin * to_pitch, to_pitch, staged, width, width, count, cudaMemcpyHostToDevice,
                              stream_),
            "upload of rows");
    }
  }

  void download(void* to, const void* from, size_t bytes) override { download_rows(to, bytes, from, bytes, bytes, 1); }

  void download_rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                     size_t rows) override {
    if (width == 0 || rows == 0) return;
    select();
    not_while_recording();
    if (width * rows <= kStagingBytes) {
      std::byte* staged = stage(width * rows);
      check(cudaMemcpy2DAsync(staged, width, from, rows == 1 ? width : from_pitch, width, rows, cudaMemcpyDeviceToHost,
                              stream_),
            "download");
      synchronize();
      auto* target = static_cast<std::byte*>(to);
      if (to_pitch == width || rows == 1) {
        copy_on_host(target, staged, width * rows);
        return;
      }
      for (size_t r = 0; r < rows; ++r) std::memcpy(target + r * to_pitch, staged + r * width, width);
      return;
    }
    check(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, cudaMemcpyDeviceToHost, stream_), "download");
    synchronize();
  }

  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes == 0) return;
    select();
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
  }
  void clear(void* memory, size_t bytes) override {
    if (bytes == 0) return;
    select();
    check(cudaMemsetAsync(memory, 0, bytes, stream_), "clear");
  }

  void synchronize() override {
    not_while_recording();
    select();
    check(cudaStreamSynchronize(stream_), "a kernel or copy failed");
  }

  void begin_recording() override {
    select();
    released_.reserve(64);
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "begin of a recording");
    recording_ = true;
  }
  std::unique_ptr<Recording> end_recording() override {
    recording_ = false;
    cudaGraph_t graph = nullptr;
    auto result = std::make_unique<GraphRecording>();
    cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    if (error == cudaSuccess) error = cudaGraphInstantiate(&result->graph, graph, 0);
    if (graph != nullptr) cudaGraphDestroy(graph);
    for (void* memory : released_) release(memory);
    released_.clear();
    if (error == cudaSuccess) return result;
    cudaGetLastError();
    return nullptr;
  }
  void replay(Recording& recording) override {
    select();
    check(cudaGraphLaunch(static_cast<GraphRecording&>(recording).graph, stream_), "cudaGraphLaunch");
  }

  bool gemm(const Gemm& g) override {
    if (g.rows == 0 || g.cols == 0 || g.batch == 0) return true;
    select();
    const Plan& plan = plan_of(g);
    const float alpha = 1.0f, beta = g.add ? 1.0f : 0.0f;
    if (plan.operation == nullptr) return false;
    if (plan.bias) {
      const void* bias = bias_of(g);
      check(lt_.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
            "bias");
    }
    check(lt_.cublasLtMatmul(blas_, plan.operation, &alpha, g.w, plan.w, g.x, plan.x, &beta, g.out, plan.out, g.out,
                             plan.out, &plan.algorithm, gemm_scratch_, kGemmScratch, stream_),
          "product");
    return plan.bias == (bias_of(g) != nullptr);
  }

 private:
  void not_while_recording() const {
    if (recording_) throw CannotRecord();
  }

  // Each thread has a current device of its own: the engine's is not the one that opened this.
  void select() const {
    thread_local int current = -1;
    if (current == properties_.number) return;
    check(cudaSetDevice(properties_.number), "cudaSetDevice");
    current = properties_.number;
  }

  // Pinned memory that no copy uses any more, after those that were staged before. Full buffers take turns.
  std::byte* stage(size_t bytes) {
    not_while_recording();
    select();
    bytes = (bytes + 255) / 256 * 256;
    Staging* s = &staging_[turn_];
    if (s->used + bytes > kStagingBytes) {
      check(cudaEventRecord(s->done, stream_), "cudaEventRecord");
      turn_ = (turn_ + 1) % staging_.size();
      s = &staging_[turn_];
      check(cudaEventSynchronize(s->done), "a kernel or copy failed");
      s->used = 0;
    }
    std::byte* staged = s->memory + s->used;
    s->used += bytes;
    return staged;
  }

  // cuBLASLt speaks column-major: our out [rows, cols] is its matrix of cols x rows, W^T comes first.
  const Plan& plan_of(const Gemm& g) {
    const unsigned alignment = std::min({alignment_of(g.out), alignment_of(g.x), alignment_of(g.w), 16u});
    const PlanKey key{g.rows,
                      g.cols,
                      g.depth,
                      g.out_stride,
                      g.x_stride,
                      g.w_stride,
                      g.batch,
                      g.out_batch,
                      g.x_batch,
                      g.w_batch,
                      int(g.type),
                      g.add,
                      bias_of(g) != nullptr,
                      int(g.out_type),
                      g.gelu,
                      alignment};
    if (plans_.size() > 4096) plans_.clear();  // prompts of ever new lengths
    const auto [found, is_new] = plans_.try_emplace(key, lt_);
    Plan& plan = found->second;
    if (!is_new) return plan;
    try {
      plan.bias = bias_of(g) != nullptr;
      if (!make_plan(plan, g, alignment)) {
        plans_.erase(found);
        Plan& plain = plans_.try_emplace(key, lt_).first->second;
        if (g.out_type == ElementType::kBf16) return plain;  // without an operation: there is none
        if (!make_plan(plain, g, alignment))
          fail(ErrorCode::kInternal, "[cuda] cuBLASLt has no product of [{}, {}] and [{}, {}], strides {}, {}, {}",
               g.rows, g.depth, g.cols, g.depth, g.x_stride, g.w_stride, g.out_stride);
        return plain;
      }
    } catch (...) {
      plans_.erase(key);
      throw;
    }
    return plan;
  }

  bool make_plan(Plan& plan, const Gemm& g, unsigned alignment) {
    const cudaDataType_t type = g.type == ElementType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
    check(lt_.cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(
        lt_.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
        "transpose");
    const cudaDataType_t out_type = g.out_type == ElementType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
    if (plan.bias || g.gelu) {
      const cublasLtEpilogue_t epilogue = !g.gelu     ? CUBLASLT_EPILOGUE_BIAS
                                          : plan.bias ? CUBLASLT_EPILOGUE_GELU_BIAS
                                                      : CUBLASLT_EPILOGUE_GELU;
      check(
          lt_.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue),
          "epilogue");
    }
    if (plan.bias) {
      const cudaDataType_t bias_type = out_type;
      const void* bias = bias_of(g);
      check(lt_.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type,
                                               sizeof bias_type),
            "type of the bias");
      check(lt_.cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
            "bias");
    }
    const auto layout = [&](cublasLtMatrixLayout_t& made, cudaDataType_t of, int64_t rows, int64_t cols, int64_t stride,
                            int64_t batch_stride) {
      check(lt_.cublasLtMatrixLayoutCreate(&made, of, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride),
            "cublasLtMatrixLayoutCreate");
      if (g.batch == 1) return;
      const auto count = static_cast<int32_t>(g.batch);
      check(lt_.cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
            "batch");
      check(lt_.cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                                 sizeof batch_stride),
            "batch");
    };
    layout(plan.w, type, g.depth, g.cols, g.w_stride, g.w_batch);
    layout(plan.x, type, g.depth, g.rows, g.x_stride, g.x_batch);
    layout(plan.out, out_type, g.cols, g.rows, g.out_stride, g.out_batch);

    cublasLtMatmulPreference_t preference = nullptr;
    check(lt_.cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    const size_t scratch = kGemmScratch;
    const uint32_t bytes = alignment;
    lt_.cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &scratch,
                                             sizeof scratch);
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      lt_.cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof bytes);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = lt_.cublasLtMatmulAlgoGetHeuristic(blas_, plan.operation, plan.w, plan.x, plan.out,
                                                                     plan.out, preference, 1, &result, &found);
    lt_.cublasLtMatmulPreferenceDestroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) return false;
    plan.algorithm = result.algo;
    return true;
  }

  const BlasLt lt_;
  DeviceProperties properties_;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  void* gemm_scratch_ = nullptr;
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;
  std::map<PlanKey, Plan> plans_;
  bool recording_ = false;
  std::vector<void*> released_;  // while recording
};

}  // namespace

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return count;
}

namespace {

void check_number(int number) {
  const int count = device_count();
  if (count == 0)
    fail(ErrorCode::kUnsupported, "this machine has no CUDA device, or no driver for it; nvidia-smi says more");
  if (number < 0 || number >= count)
    fail(ErrorCode::kUnsupported, "there is no CUDA device {}; this machine has {}, from 0 on", number, count);
}

}  // namespace

bool device_is_usable(int number) {
  int major = 0;
  if (number < 0 || number >= device_count()) return false;
  const bool told = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number) == cudaSuccess;
  cudaGetLastError();
  return told && major >= kOldestMajor;
}

std::unique_ptr<Device> open_device(int number) {
  check_number(number);
  return std::make_unique<CudaDevice>(number);
}

int64_t free_memory_of(int number) {
  check_number(number);
  size_t free = 0, total = 0;
  check(cudaSetDevice(number), "cudaSetDevice");
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return static_cast<int64_t>(free);
}

}  // namespace vl2::cuda
