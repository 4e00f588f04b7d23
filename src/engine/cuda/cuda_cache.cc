#include "engine/cuda/cuda_cache.h"

#include <vector>

#include "core/base/dtype.h"

namespace vl2::cuda {

CudaCache::CudaCache(std::shared_ptr<Device> device, bool bf16, int64_t layers, int64_t blocks, int64_t block_tokens,
                     int64_t width)
    : KvCache(layers, blocks, block_tokens, width), device_(std::move(device)), bf16_(bf16) {
  data_ = DeviceBuffer(*device_, static_cast<size_t>(num_bytes()));
  // Blocks are read to their end: what nobody wrote must be finite.
  device_->clear(data_.data(), data_.bytes());
}

int64_t CudaCache::num_bytes() const { return num_layers() * num_blocks() * block_tokens() * width() * value_bytes(); }

CacheView CudaCache::view(int64_t layer) const {
  return {data_.data() + layer * num_blocks() * block_tokens() * width() * value_bytes(), bf16_,
          static_cast<int32_t>(block_tokens()), static_cast<int32_t>(width())};
}

void CudaCache::read(int64_t layer, std::span<const int32_t> blocks, int64_t token, float* out) const {
  const int64_t row =
      int64_t{blocks[static_cast<size_t>(token / block_tokens())]} * block_tokens() + token % block_tokens();
  const auto bytes = static_cast<size_t>(width() * value_bytes());
  std::vector<std::byte> stored(bytes);
  device_->download(stored.data(), static_cast<const std::byte*>(view(layer).data) + row * width() * value_bytes(),
                    bytes);
  for (int64_t i = 0; i < width(); ++i)
    out[i] = bf16_ ? to_float(reinterpret_cast<const BF16*>(stored.data())[i])
                   : reinterpret_cast<const float*>(stored.data())[i];
}

}  // namespace vl2::cuda
