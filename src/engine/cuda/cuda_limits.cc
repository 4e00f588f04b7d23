// What a GPU can do at most: its memory copied, and large products by the library.
#include <algorithm>
#include <chrono>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/random.h"
#include "engine/cuda/cuda_ops.h"
#include "engine/cuda/device/device.h"

namespace vl2 {
namespace {

using cuda::Device;
using cuda::DeviceBuffer;

constexpr size_t kCopied = size_t{512} << 20;  // bytes: far more than any cache
constexpr int64_t kSide = 8192;                // of the matrices
constexpr int kCopies = 20, kProducts = 8;

class CudaLimitMeter : public LimitMeter {
 public:
  explicit CudaLimitMeter(const CudaOptions& options)
      : device_(cuda::open_device(options.device)),
        bf16_(options.compute != Compute::kF32),
        memory_(*device_, 2 * kCopied),
        product_(*device_, static_cast<size_t>(kSide * kSide) * sizeof(float)) {
    // Random values: with zeros a GPU draws less power and runs faster than it ever will.
    Random random(1);
    std::vector<BF16> values(size_t{4} << 20);
    for (BF16& v : values) v = to_bf16(random.symmetric());
    const size_t bytes = values.size() * sizeof(BF16);
    for (size_t at = 0; at + bytes <= memory_.bytes(); at += bytes)
      device_->upload(memory_.data() + at, values.data(), bytes);
  }

  MachineLimits measure() override {
    MachineLimits limits;
    const double copy = seconds(kCopies, [&] { device_->copy(memory_.data(), memory_.data() + kCopied, kCopied); });
    limits.read_gbps = 2 * static_cast<double>(kCopied) / copy / 1e9;  // read and written
    cuda::Gemm g;
    g.type = bf16_ ? cuda::ElementType::kBf16 : cuda::ElementType::kF32;
    g.x = memory_.data();
    g.w = memory_.data() + kCopied;
    g.out = product_.as<float>();
    g.rows = g.cols = g.depth = g.out_stride = g.x_stride = g.w_stride = kSide;
    const double product = seconds(kProducts, [&] { (void)device_->gemm(g); });
    limits.tflops[unit(PanelFormat::kBf16)] = 2 * static_cast<double>(kSide * kSide * kSide) / product / 1e12;
    return limits;
  }

  std::string unit(PanelFormat) const override { return bf16_ ? "cuda_bf16" : "cuda_f32"; }

 private:
  // Of one run, after one that is not counted.
  template <typename Run>
  double seconds(int runs, const Run& run) {
    run();
    device_->synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < runs; ++i) run();
    device_->synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / runs;
  }

  std::unique_ptr<Device> device_;
  const bool bf16_;
  DeviceBuffer memory_, product_;
};

}  // namespace

std::unique_ptr<LimitMeter> make_cuda_limit_meter(const CudaOptions& options) {
  return std::make_unique<CudaLimitMeter>(options);
}

}  // namespace vl2
