#include "core/checkpoint/lora_merge.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/file.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/folder_files.h"
#include "core/checkpoint/lora.h"
#include "core/checkpoint/output_folder.h"

namespace vl2 {

namespace fs = std::filesystem;

void check_lora_can_merge(const fs::path& folder, bool quantised) {
  if (quantised)
    fail(ErrorCode::kUnsupported,
         "{}: is quantised, and an adapter cannot be merged into codes; merge it into the original model "
         "(vl2 lora merge) and quantise the result",
         folder.string());
}

LoraMergeReport merge_lora_model(const fs::path& model, const fs::path& adapter_folder, const fs::path& out,
                                 const LoraMergeOptions& options) {
  constexpr size_t kMaxConfigBytes = size_t{1} << 20;
  const fs::path config_file = model / "config.json";
  const std::string config_text = read_file(config_file, kMaxConfigBytes);
  const ModelConfig config = parse_model_config(config_text, config_file.string());
  check_lora_can_merge(model, config.quantization.has_value());
  check_apart(model, out);
  const Checkpoint checkpoint(model);
  checkpoint.check(config);
  const LoraAdapter adapter(adapter_folder);
  adapter.check(config);
  std::vector<TensorHeader> headers;
  for (const std::string& name : checkpoint.names()) {
    const TensorView& tensor = checkpoint.at(name);
    headers.push_back({name, tensor.dtype, tensor.shape});
  }
  // Wide types first, so that every tensor of a shard is aligned.
  std::stable_sort(headers.begin(), headers.end(), [](const TensorHeader& a, const TensorHeader& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });
  const int64_t total = checkpoint.num_bytes();

  OutputFolder folder(out, options.replace);
  check_room(folder.path(), total);
  copy_other_files(model, folder.path());
  write_file_atomic(folder.path() / "config.json", config_text);
  ThreadPool pool(options.num_threads > 0 ? options.num_threads : ThreadPool::default_num_threads());
  LoraMergeReport report;
  report.rank = adapter.config().rank;
  report.scale = adapter.config().scale();
  const auto fill = [&](const TensorHeader& header, std::span<std::byte> bytes) {
    if (options.cancelled && options.cancelled()) fail(ErrorCode::kCancelled, "stopped; nothing was written");
    const TensorView& tensor = checkpoint.at(header.name);
    if (const LoraPair* pair = adapter.find(header.name)) {
      merge_lora(tensor, *pair, report.scale, bytes, &pool);
      ++report.merged;
    } else {
      std::memcpy(bytes.data(), tensor.data, bytes.size());
    }
    checkpoint.release(tensor);
    ++report.tensors;
    report.bytes += static_cast<int64_t>(bytes.size());
    if (options.progress) options.progress(report.bytes, total);
  };
  write_shards(folder.path(), split_into_shards(headers, options.max_shard_bytes), fill);
  folder.keep();
  return report;
}

}  // namespace vl2
