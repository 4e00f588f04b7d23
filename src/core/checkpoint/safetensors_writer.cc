#include <nlohmann/json.hpp>
#include <set>

#include "core/base/file.h"
#include "core/checkpoint/safetensors.h"

namespace vl2 {
namespace {

using nlohmann::ordered_json;

// What stands before the data: the length and the JSON, padded with spaces so that the data starts at a multiple of 64.
std::string header_text(const std::filesystem::path& path, std::span<const TensorHeader> headers,
                        const std::map<std::string, std::string>& metadata) {
  ordered_json root = ordered_json::object();
  if (!metadata.empty()) root["__metadata__"] = metadata;
  std::set<std::string> names;
  size_t offset = 0;
  for (const TensorHeader& header : headers) {
    if (header.name == "__metadata__" || !names.insert(header.name).second)
      fail(ErrorCode::kInvalidArgument, "{}: cannot write a tensor \"{}\": the name is {}", path.string(), header.name,
           header.name == "__metadata__" ? "reserved" : "used twice");
    const size_t begin = offset;
    if (__builtin_add_overflow(offset, checked_num_bytes(header), &offset))
      fail(ErrorCode::kInvalidArgument, "{}: more than 2^64 bytes of tensors", path.string());
    // Not through operator[]: a search per name would be quadratic, and the names are distinct already.
    root.get_ref<ordered_json::object_t&>().emplace_back(
        header.name,
        ordered_json{{"dtype", dtype_name(header.dtype)}, {"shape", header.shape}, {"data_offsets", {begin, offset}}});
  }
  std::string json;
  try {
    json = root.dump();
  } catch (const ordered_json::exception& error) {
    fail(ErrorCode::kInvalidArgument, "{}: cannot write its header: {}; expected UTF-8 names", path.string(),
         error.what());
  }
  constexpr size_t kAlignment = 64;
  uint64_t size = 0;
  json.append((kAlignment - (sizeof size + json.size()) % kAlignment) % kAlignment, ' ');
  size = json.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + json;
}

}  // namespace

size_t checked_num_bytes(const TensorHeader& header) {
  uint64_t bytes = dtype_size(header.dtype);
  bool bad = false;
  for (const int64_t size : header.shape)
    bad |= size < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes);
  if (bad || bytes > uint64_t{1} << 62)
    fail(ErrorCode::kInvalidArgument, "tensor \"{}\" has the impossible shape {}", header.name,
         shape_string(header.shape));
  return static_cast<size_t>(bytes);
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorHeader> headers;
  for (const NamedTensor& t : tensors) headers.push_back({t.name, t.tensor.dtype, t.tensor.shape});
  const std::string header = header_text(path, headers, metadata);
  write_file_atomic(path, [&](const ByteSink& sink) {
    sink(std::as_bytes(std::span(header)));
    for (const NamedTensor& t : tensors) sink({t.tensor.data, t.tensor.num_bytes()});
  });
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorHeader> headers, const FillTensor& fill,
                       const std::map<std::string, std::string>& metadata) {
  const std::string header = header_text(path, headers, metadata);
  write_file_atomic(path, [&](const ByteSink& sink) {
    sink(std::as_bytes(std::span(header)));
    std::vector<std::byte> values;
    for (const TensorHeader& h : headers) {
      values.assign(checked_num_bytes(h), std::byte{0});
      fill(h, values);
      sink(values);
    }
  });
}

}  // namespace vl2
