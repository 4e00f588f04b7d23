#include "engine/model/weight_source.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/base/random.h"

namespace vl2 {

namespace {

// Memory in huge pages where the system has them, as a copy of a checkpoint would lie.
std::shared_ptr<std::byte> map_memory(int64_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  const size_t size = (static_cast<size_t>(bytes) + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::kOutOfMemory, "no address space for {} MiB of random weights", size >> 20);
  ::madvise(memory, size, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(memory), [size](std::byte* p) { ::munmap(p, size); }};
}

}  // namespace

std::shared_ptr<std::byte> RandomSource::Slabs::take(int64_t bytes) {
  constexpr int64_t kSlab = int64_t{256} << 20;
  if (bytes > kSlab / 4) return map_memory(bytes);
  if (slab == nullptr || used + bytes > kSlab) {
    slab = map_memory(kSlab);
    used = 0;
  }
  std::shared_ptr<std::byte> piece(slab, slab.get() + used);
  used += bytes;  // panels are multiples of 64 bytes
  return piece;
}

std::optional<StoredMatrix> WeightSource::panels(const std::string&, int64_t, int64_t) { return std::nullopt; }
std::optional<StoredLatent> WeightSource::latent_panels(const std::string&, const LatentShape&) { return std::nullopt; }

TensorView CheckpointSource::get(const std::string& name, const Shape& shape) {
  const TensorView& tensor = checkpoint_.at(name);
  if (tensor.shape != shape)
    fail(ErrorCode::kCorrupt, "{}: tensor {} has shape {}, but config.json asks for {}", checkpoint_.folder().string(),
         name, shape_string(tensor.shape), shape_string(shape));
  if (!is_float(tensor.dtype))
    fail(ErrorCode::kCorrupt, "{}: tensor {} is {}, expected BF16, F16, F32 or F64", checkpoint_.folder().string(),
         name, dtype_name(tensor.dtype));
  owner_ = checkpoint_.owner(name);
  return tensor;
}

std::optional<StoredMatrix> CheckpointSource::panels(const std::string& name, int64_t rows, int64_t cols) {
  const auto matrix = checkpoint_.panels(name, rows, cols);
  if (!matrix) return std::nullopt;
  return StoredMatrix{*matrix, checkpoint_.owner(name)};
}

std::optional<StoredLatent> CheckpointSource::latent_panels(const std::string& name, const LatentShape& s) {
  const auto parts = checkpoint_.latent_panels(name, s.heads, s.qk_nope, s.v, s.rank);
  if (!parts) return std::nullopt;
  return StoredLatent{*parts, checkpoint_.owner(name)};
}

LoraSource::LoraSource(const Checkpoint& checkpoint, const LoraAdapter& adapter, int num_threads)
    : stored_(checkpoint),
      adapter_(adapter),
      scale_(adapter.config().scale()),
      pool_(num_threads > 0 ? num_threads : ThreadPool::default_num_threads()) {}

TensorView LoraSource::get(const std::string& name, const Shape& shape) {
  TensorView tensor = stored_.get(name, shape);
  const LoraPair* pair = adapter_.find(name);
  merged_ = pair != nullptr;
  if (!merged_) return tensor;
  original_ = tensor;
  buffer_.resize(tensor.num_bytes());
  merge_lora(tensor, *pair, scale_, buffer_, &pool_);
  tensor.data = buffer_.data();
  return tensor;
}

void LoraSource::done(const TensorView& tensor) { stored_.done(merged_ ? original_ : tensor); }

RandomSource::RandomSource(uint64_t seed, const ModelConfig& config, ModelFormat format) : seed_(seed) {
  for (const WeightSpec& spec : weight_schema(config)) {
    const std::optional<PanelFormat> panels = panel_format_of(format, spec, config);
    if (panels && *panels != PanelFormat::kBf16) formats_[spec.name] = *panels;  // bf16: packed like any other
  }
}

void RandomSource::fill_pool() {
  constexpr size_t kPool = size_t{1} << 20;
  if (!pool_.empty()) return;
  Random random(seed_);
  pool_.resize(kPool);
  for (BF16& value : pool_) value = to_bf16(random.symmetric(std::sqrt(3.0f)));  // variance 1
  codes_.resize(kPool);
  for (uint8_t& code : codes_) code = static_cast<uint8_t>(1 + random.below(255));  // 0 is no code of q8
}

StoredMatrix RandomSource::random_panels(const std::string& name, PanelFormat format, int64_t count, int64_t rows,
                                         int64_t cols) {
  fill_pool();
  const int64_t bytes = panel_bytes(format, cols), scale_bytes = quant_scale_bytes(cols);
  const int64_t panels = count * matrix_bytes(format, rows, cols) / bytes;
  const std::shared_ptr<std::byte> memory = slabs_.take(panels * bytes);
  // The root mean square of codes that are all equally likely.
  const double spread = format == PanelFormat::kQ8 ? 73.6 : 4.64;
  const BF16 scale = to_bf16(static_cast<float>(1.0 / (spread * std::sqrt(static_cast<double>(cols)))));
  auto at = static_cast<int64_t>(splitmix64(seed_ ^ fnv1a64(name)) % codes_.size());
  for (int64_t p = 0; p < panels; ++p) {
    std::byte* panel = memory.get() + p * bytes;
    std::fill_n(reinterpret_cast<BF16*>(panel), scale_bytes / 2, scale);
    for (int64_t done = scale_bytes; done < bytes;) {
      const int64_t n = std::min(bytes - done, static_cast<int64_t>(codes_.size()) - at);
      std::memcpy(panel + done, codes_.data() + at, static_cast<size_t>(n));
      done += n;
      at = (at + n) % static_cast<int64_t>(codes_.size());
    }
  }
  return {{format, rows, cols, memory.get()}, memory};
}

std::optional<StoredMatrix> RandomSource::panels(const std::string& name, int64_t rows, int64_t cols) {
  const auto format = formats_.find(name);
  if (format == formats_.end()) return std::nullopt;
  return random_panels(name, format->second, 1, rows, cols);
}

// The two forms of W_UK are no transposes of each other here, which changes values and no time.
std::optional<StoredLatent> RandomSource::latent_panels(const std::string& name, const LatentShape& s) {
  const auto format = formats_.find(name);
  if (format == formats_.end()) return std::nullopt;
  const StoredMatrix uk = random_panels(name + ".uk", format->second, s.heads, s.qk_nope, s.rank);
  const StoredMatrix uv = random_panels(name + ".uv", format->second, s.heads, s.v, s.rank);
  const StoredMatrix uk_t = random_panels(name + ".uk_t", format->second, s.heads, s.rank, s.qk_nope);
  const auto owners = std::make_shared<std::array<std::shared_ptr<const void>, 3>>();
  *owners = {uk.owner, uv.owner, uk_t.owner};
  return StoredLatent{{uk.matrix, uv.matrix, uk_t.matrix, s.heads}, owners};
}

TensorView RandomSource::get(const std::string& name, const Shape& shape) {
  fill_pool();
  // Matrices keep the size of what they multiply; vectors stand near 1 (norms) or near 0 (biases).
  const bool norm = name.find("norm") != name.npos && name.ends_with("weight");
  const int64_t fan_in = shape.size() < 2 ? 1 : num_elements(shape) / shape[0];
  const float scale = shape.size() < 2 ? 0.1f : 1.0f / std::sqrt(static_cast<float>(fan_in));
  buffer_.resize(static_cast<size_t>(num_elements(shape)));
  size_t at = splitmix64(seed_ ^ fnv1a64(name)) % pool_.size();
  for (BF16& value : buffer_) {
    value = to_bf16((norm ? 1.0f : 0.0f) + scale * to_float(pool_[at]));
    at = (at + 1) % pool_.size();
  }
  return {reinterpret_cast<const std::byte*>(buffer_.data()), DType::kBF16, shape};
}

}  // namespace vl2
