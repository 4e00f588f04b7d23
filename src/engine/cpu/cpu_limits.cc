#include "engine/cpu/cpu_limits.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <vector>

#include "core/base/random.h"
#include "engine/cpu/cpu_context.h"
#include "engine/cpu/kernels/select_kernels.h"

namespace vl2 {
namespace {

constexpr int64_t kReadBytes = int64_t{1} << 30;
// Which pattern reads fastest depends on the processor and on who else is reading: all are tried, the best counts.
constexpr std::array kStreams = {1, 2, 4};
constexpr std::array<int64_t, 3> kBytesAhead = {1024, 2048, 4096};
constexpr double kPeakSeconds = 0.03;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class CpuLimitMeter : public LimitMeter {
 public:
  explicit CpuLimitMeter(const CpuOptions& options)
      : isa_(options.isa ? require_isa(*options.isa) : choose_isa()),
        kernels_(cpu::select_kernels(isa_)),
        bf16_(options.compute == Compute::kBF16 || (options.compute == Compute::kAuto && isa_ == Isa::kAmx)),
        bf16_attention_(options.bf16_attention),
        pool_(options.threads > 0 ? options.threads : ThreadPool::default_num_threads()),
        memory_(cpu::map_lazily(kReadBytes)) {
    Random random(1);
    for (size_t i = 0; i < floats_.size(); ++i) floats_[i] = random.symmetric();
    for (size_t i = 0; i < narrow_.size(); ++i) narrow_[i] = to_bf16(random.symmetric());
    for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(random.below(256));
    // Pages are backed when they are first written; each thread writes what it will read.
    each_share([](std::byte* share, int64_t bytes, int) { std::fill_n(share, bytes, std::byte{1}); });
  }

  MachineLimits measure() override {
    MachineLimits limits;
    for (const int streams : kStreams)
      for (const int64_t ahead : kBytesAhead) limits.read_gbps = std::max(limits.read_gbps, read_speed(streams, ahead));
    limits.tflops[f32_unit()] = peak(kernels_.peak_f32, floats_.data());
    if (kernels_.peak_bf16 != nullptr) limits.tflops[bf16_unit()] = peak(kernels_.peak_bf16, narrow_.data());
    limits.tflops[int8_unit()] = peak(kernels_.peak_int8, bytes_.data());
    return limits;
  }

  std::string unit(PanelFormat format) const override {
    if (format != PanelFormat::kBf16) return int8_unit();
    return bf16_ && kernels_.peak_bf16 != nullptr ? bf16_unit() : f32_unit();
  }
  std::string attention_unit() const override {
    return bf16_attention_ && kernels_.attend_scores_bf16 != nullptr ? bf16_unit() : unit(PanelFormat::kBf16);
  }

 private:
  // float32 runs on the vector unit, also where narrower types have one of their own.
  std::string f32_unit() const {
    if (isa_ >= Isa::kAvx512) return "avx512_f32";
    return fmt::format("{}_f32", isa_name(isa_ == Isa::kAvxVnni ? Isa::kAvx2 : isa_));
  }
  std::string bf16_unit() const { return isa_ == Isa::kAmx ? "amx_bf16" : "avx512_bf16"; }
  // Tables inherit from weaker ones: what counts is whose loop it is.
  std::string int8_unit() const {
    if (isa_ < Isa::kAvx512Vnni) return fmt::format("{}_int8", isa_name(isa_));
    return kernels_.peak_int8 == cpu::avx512vnni_kernels().peak_int8 ? "vnni_int8" : "amx_int8";
  }

  double read_speed(int streams, int64_t ahead) {
    const auto start = std::chrono::steady_clock::now();
    each_share([&](std::byte* share, int64_t bytes, int thread) {
      sinks_[static_cast<size_t>(thread) * 16] = kernels_.read_memory(share, bytes, streams, ahead);
    });
    return static_cast<double>(kReadBytes) / seconds_since(start) / 1e9;
  }

  template <typename Fn>
  void each_share(const Fn& fn) {
    const int64_t threads = pool_.num_threads(), share = kReadBytes / threads / 4096 * 4096;
    pool_.parallel_for(threads, [&](int64_t t, int thread) { fn(memory_.get() + t * share, share, thread); });
  }

  template <typename Loop>
  double peak(Loop loop, const void* data) {
    std::vector<double> rates(static_cast<size_t>(pool_.num_threads()));
    pool_.parallel_for(pool_.num_threads(), [&](int64_t t, int thread) {
      float* sink = &sinks_[static_cast<size_t>(thread) * 16];
      int64_t operations = loop(data, 100, sink);  // warm
      const auto start = std::chrono::steady_clock::now();
      operations = 0;
      while (seconds_since(start) < kPeakSeconds) operations += loop(data, 200, sink);
      rates[static_cast<size_t>(t)] = static_cast<double>(operations) / seconds_since(start);
    });
    double sum = 0;
    for (double rate : rates) sum += rate;
    return sum / 1e12;
  }

  const Isa isa_;
  const cpu::KernelTable& kernels_;
  const bool bf16_, bf16_attention_;
  ThreadPool pool_;
  std::shared_ptr<std::byte> memory_;
  alignas(64) std::array<float, cpu::kPeakBytes / sizeof(float)> floats_;
  alignas(64) std::array<BF16, cpu::kPeakBytes / sizeof(BF16)> narrow_;
  alignas(64) std::array<uint8_t, cpu::kPeakBytes> bytes_;
  std::array<float, 1024 * 16> sinks_{};  // one cache line a thread
};

}  // namespace

std::unique_ptr<LimitMeter> make_cpu_limit_meter(const CpuOptions& options) {
  return std::make_unique<CpuLimitMeter>(options);
}

}  // namespace vl2
