#include "core/checkpoint/checkpoint.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/base/file.h"
#include "core/base/json.h"

namespace vl2 {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr size_t kMaxShards = 99999;
constexpr JsonLimits kIndexLimits = {.max_bytes = size_t{64} << 20, .max_depth = 4};

// Shards lie beside the index: a name with a folder in it could reach any file of the machine.
void check_shard_name(const fs::path& index, const std::string& name) {
  const bool plain = name.ends_with(".safetensors") && name.size() <= 255 &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain)
    fail(ErrorCode::kCorrupt,
         "{}: weight_map names the file {}, expected the plain name of a .safetensors file beside it", index.string(),
         describe_json(name));
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& folder) : folder_(folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    fail(ErrorCode::kNotFound, "{}: no such folder, expected one with {} or {}", folder.string(), kSingleName,
         kIndexName);
  if (fs::exists(folder / kSingleName, ignored)) {
    files_.push_back(std::make_shared<SafetensorsFile>(folder / kSingleName));
    for (const auto& [name, tensor] : files_.back()->tensors()) owner_[name] = files_.back();
  } else if (fs::exists(folder / kIndexName, ignored)) {
    open_shards(folder / kIndexName);
  } else {
    fail(ErrorCode::kNotFound, "{}: neither {} nor {} is there; the model may not be downloaded whole", folder.string(),
         kSingleName, kIndexName);
  }
}

void Checkpoint::open_shards(const fs::path& index) {
  const json root = parse_json(read_file(index, kIndexLimits.max_bytes), index.string(), kIndexLimits);
  const JsonObject top(root, index.string());
  const json* weight_map = top.find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty())
    top.reject("weight_map", "an object of file names by tensor");
  std::map<std::string, std::shared_ptr<const SafetensorsFile>> shards;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string()) JsonObject(*weight_map, index.string(), "weight_map").reject(tensor, "a file name");
    const std::string name = file.get<std::string>();
    auto it = shards.find(name);
    if (it == shards.end()) {
      check_shard_name(index, name);
      std::error_code ignored;
      if (!fs::exists(folder_ / name, ignored))
        fail(ErrorCode::kNotFound, "{}: the shard {} is missing, which {} lists; get the model again", folder_.string(),
             name, kIndexName);
      files_.push_back(std::make_shared<SafetensorsFile>(folder_ / name));
      it = shards.emplace(name, files_.back()).first;
    }
    if (it->second->find(tensor) == nullptr)
      fail(ErrorCode::kCorrupt, "{}: no tensor \"{}\", expected there by {}; index and shards are of different models",
           (folder_ / name).string(), tensor, kIndexName);
    owner_[tensor] = it->second;
  }
}

const TensorView* Checkpoint::find(const std::string& name) const {
  const auto it = owner_.find(name);
  return it == owner_.end() ? nullptr : it->second->find(name);
}

const TensorView& Checkpoint::at(const std::string& name) const {
  const TensorView* tensor = find(name);
  if (tensor == nullptr)
    fail(ErrorCode::kNotFound, "{}: no tensor \"{}\" in this checkpoint of {}", folder_.string(), name, owner_.size());
  return *tensor;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : owner_) names.push_back(name);
  return names;
}

int64_t Checkpoint::num_bytes() const {
  size_t bytes = 0;
  for (const auto& [name, file] : owner_) bytes += file->at(name).num_bytes();
  return static_cast<int64_t>(bytes);
}

void Checkpoint::release(const TensorView& tensor) const {
  for (const auto& file : files_) file->release(tensor);
}

std::vector<TensorHeader> tensor_headers(std::span<const WeightSpec> schema, DType dtype) {
  std::vector<TensorHeader> headers;
  for (const WeightSpec& spec : schema) headers.push_back({spec.name, dtype, spec.shape});
  return headers;
}

std::vector<std::vector<TensorHeader>> split_into_shards(std::span<const TensorHeader> headers,
                                                         uint64_t max_shard_bytes) {
  std::vector<std::vector<TensorHeader>> shards(1);
  uint64_t shard_bytes = 0;
  for (const TensorHeader& header : headers) {
    const uint64_t bytes = checked_num_bytes(header);
    if (!shards.back().empty() && (bytes > max_shard_bytes || shard_bytes > max_shard_bytes - bytes)) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(header);
    shard_bytes += bytes;
  }
  if (shards.size() > kMaxShards)
    fail(ErrorCode::kInvalidArgument, "{} shards of at most {} bytes, expected at most {} shards: make them larger",
         shards.size(), max_shard_bytes, kMaxShards);
  return shards;
}

void write_shards(const fs::path& folder, std::span<const std::vector<TensorHeader>> shards, const FillTensor& fill,
                  const std::map<std::string, std::string>& metadata) {
  VL2_CHECK(shards.size() <= kMaxShards);
  std::set<std::string> names;
  uint64_t total = 0;
  for (const auto& shard : shards)
    for (const TensorHeader& header : shard) {
      if (!names.insert(header.name).second)
        fail(ErrorCode::kInvalidArgument, "{}: cannot write two tensors named \"{}\"", folder.string(), header.name);
      total += checked_num_bytes(header);
    }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorCode::kIo, "{}: cannot create the folder: {}", folder.string(), error.message());
  json weight_map = json::object();
  for (size_t s = 0; s < shards.size(); ++s) {
    const std::string name = fmt::format("model-{:05}-of-{:06}.safetensors", s + 1, shards.size());
    write_safetensors(folder / name, shards[s], fill, metadata);
    for (const TensorHeader& header : shards[s]) weight_map[header.name] = name;
  }
  const json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
  write_file_atomic(folder / kIndexName, index.dump(2) + "\n");
}

void write_sharded(const fs::path& folder, std::span<const TensorHeader> headers, const FillTensor& fill,
                   uint64_t max_shard_bytes) {
  write_shards(folder, split_into_shards(headers, max_shard_bytes), fill);
}

}  // namespace vl2
