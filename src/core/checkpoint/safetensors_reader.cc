#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/checkpoint/safetensors.h"

namespace vl2 {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and read in place");

constexpr uint64_t kMaxHeaderBytes = uint64_t{64} << 20;  // the largest release needs one
constexpr size_t kMaxRank = 16;
constexpr size_t kMaxNameBytes = 4096;

// A name from the file, fit for an error message.
std::string shown(std::string_view name) {
  std::string text;
  for (const char c : name.substr(0, 120)) text += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return name.size() > 120 ? text + "..." : text;
}

struct Placed {
  uint64_t begin;
  uint64_t end;
  std::string_view name;
};

class HeaderParser {
 public:
  HeaderParser(const std::filesystem::path& path, std::span<const std::byte> data)
      : where_(path.string()), data_(data) {}

  void parse(std::span<const std::byte> header, std::map<std::string, TensorView>& tensors,
             std::map<std::string, std::string>& metadata) {
    simdjson::dom::parser parser;
    simdjson::dom::element root;
    simdjson::dom::object entries;
    const auto error = parser.parse(reinterpret_cast<const char*>(header.data()), header.size()).get(root);
    if (error == simdjson::MEMALLOC)
      fail(ErrorCode::kOutOfMemory, "{}: no memory for a header of {} bytes", where_, header.size());
    if (error != simdjson::SUCCESS || root.get_object().get(entries) != simdjson::SUCCESS)
      fail(ErrorCode::kCorrupt, "{}: the header is no JSON object ({}), expected a safetensors file; get it again",
           where_, error == simdjson::SUCCESS ? "another JSON value" : simdjson::error_message(error));
    bool has_metadata = false;
    for (const auto& [key, value] : entries) {
      if (key == "__metadata__") {
        if (std::exchange(has_metadata, true)) bad("__metadata__", "appears twice", "once");
        parse_metadata(value, metadata);
        continue;
      }
      if (key.size() > kMaxNameBytes) bad(key, fmt::format("has a name of {} bytes", key.size()), "at most 4096");
      const auto [it, inserted] = tensors.emplace(std::string(key), TensorView{});
      if (!inserted) bad(key, "appears twice", "once");
      parse_tensor(it->first, value, it->second);
    }
    check_layout();
  }

 private:
  [[noreturn]] void bad(std::string_view name, const std::string& what, const std::string& expected,
                        ErrorCode code = ErrorCode::kCorrupt) const {
    fail(code, "{}: tensor \"{}\" {}, expected {}", where_, shown(name), what, expected);
  }

  void parse_metadata(simdjson::dom::element value, std::map<std::string, std::string>& metadata) const {
    simdjson::dom::object entries;
    if (value.get_object().get(entries) != simdjson::SUCCESS)
      fail(ErrorCode::kCorrupt, "{}: __metadata__ is no object, expected strings by name", where_);
    for (const auto& [key, item] : entries) {
      std::string_view text;
      if (item.get_string().get(text) != simdjson::SUCCESS)
        fail(ErrorCode::kCorrupt, "{}: __metadata__ \"{}\" is no string, expected one", where_, shown(key));
      if (!metadata.emplace(key, text).second)
        fail(ErrorCode::kCorrupt, "{}: __metadata__ \"{}\" appears twice, expected once", where_, shown(key));
    }
  }

  void parse_tensor(const std::string& name, simdjson::dom::element value, TensorView& tensor) {
    simdjson::dom::object fields;
    if (value.get_object().get(fields) != simdjson::SUCCESS) bad(name, "is no object", "dtype, shape and data_offsets");
    bool has_dtype = false;
    bool has_shape = false;
    bool has_offsets = false;
    Placed placed{0, 0, name};
    for (const auto& [key, field] : fields) {
      bool& seen = key == "dtype" ? has_dtype : key == "shape" ? has_shape : has_offsets;
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        bad(name, fmt::format("has a field \"{}\"", shown(key)), "dtype, shape and data_offsets");
      if (std::exchange(seen, true)) bad(name, fmt::format("has the field {} twice", key), "it once");
      if (key == "dtype") parse_type(name, field, tensor);
      if (key == "shape") parse_shape(name, field, tensor);
      if (key == "data_offsets") parse_offsets(name, field, placed);
    }
    if (!has_dtype || !has_shape || !has_offsets) bad(name, "is incomplete", "dtype, shape and data_offsets");
    check_size(name, tensor, placed);
    tensor.data = data_.data() + placed.begin;
    placed_.push_back(placed);
  }

  void parse_type(const std::string& name, simdjson::dom::element field, TensorView& tensor) const {
    std::string_view text;
    if (field.get_string().get(text) != simdjson::SUCCESS)
      bad(name, "has a dtype that is no string", "one like \"BF16\"");
    const std::optional<DType> dtype = parse_dtype(text);
    if (!dtype)
      bad(name, fmt::format("has dtype \"{}\"", shown(text)), "BF16, F16, F32, F64, an integer type or BOOL",
          ErrorCode::kUnsupported);
    tensor.dtype = *dtype;
  }

  void parse_shape(const std::string& name, simdjson::dom::element field, TensorView& tensor) const {
    simdjson::dom::array sizes;
    if (field.get_array().get(sizes) != simdjson::SUCCESS) bad(name, "has a shape that is no list", "a list of sizes");
    for (const simdjson::dom::element item : sizes) {
      int64_t size = 0;
      if (item.get_int64().get(size) != simdjson::SUCCESS || size < 0)
        bad(name, "has a size in its shape that is no natural number", "0 or more");
      if (tensor.shape.size() == kMaxRank) bad(name, "has too many dimensions", fmt::format("at most {}", kMaxRank));
      tensor.shape.push_back(size);
    }
  }

  void parse_offsets(const std::string& name, simdjson::dom::element field, Placed& placed) const {
    simdjson::dom::array offsets;
    const bool two = field.get_array().get(offsets) == simdjson::SUCCESS && offsets.size() == 2;
    if (!two || offsets.at(0).get_uint64().get(placed.begin) != simdjson::SUCCESS ||
        offsets.at(1).get_uint64().get(placed.end) != simdjson::SUCCESS)
      bad(name, "has data_offsets that are no pair of numbers", "[begin, end]");
    if (placed.begin > placed.end || placed.end > data_.size())
      bad(name, fmt::format("has data_offsets [{}, {}]", placed.begin, placed.end),
          fmt::format("an interval within the file's {} bytes of data; it may be cut short: get it again",
                      data_.size()));
  }

  void check_size(const std::string& name, const TensorView& tensor, const Placed& placed) const {
    uint64_t bytes = dtype_size(tensor.dtype);
    bool overflows = false;
    // A zero makes the product 0 however large the others are; the others must still not overflow in num_elements().
    for (const int64_t size : tensor.shape)
      if (size != 0) overflows |= __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes);
    if (overflows || bytes > uint64_t{1} << 62)
      bad(name, fmt::format("has shape {}", shape_string(tensor.shape)), "a size that fits into 64 bits");
    if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end()) bytes = 0;
    if (bytes != placed.end - placed.begin)
      bad(name, fmt::format("has {} bytes of data", placed.end - placed.begin),
          fmt::format("{} for {} {}", bytes, dtype_name(tensor.dtype), shape_string(tensor.shape)));
  }

  // The format wants the data covered exactly: no overlap, no hole, nothing behind the last tensor.
  void check_layout() {
    std::sort(placed_.begin(), placed_.end(),
              [](const Placed& a, const Placed& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    uint64_t end = 0;
    for (const Placed& placed : placed_) {
      if (placed.begin != end)
        bad(placed.name,
            fmt::format("begins at byte {}, which {}", placed.begin,
                        placed.begin < end ? "overlaps another tensor" : "leaves a hole"),
            fmt::format("byte {}", end));
      end = placed.end;
    }
    if (end != data_.size())
      fail(ErrorCode::kCorrupt,
           "{}: the tensors end at byte {} of the data, expected its end at {}; get the file again", where_, end,
           data_.size());
  }

  std::string where_;
  std::span<const std::byte> data_;
  std::vector<Placed> placed_;  // names live in the map's keys
};

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size)
    fail(ErrorCode::kCorrupt, "{}: {} bytes, expected a safetensors file; get it again", path.string(), bytes.size());
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  const uint64_t limit = std::min<uint64_t>(kMaxHeaderBytes, bytes.size() - sizeof header_size);
  if (header_size > limit)
    fail(ErrorCode::kCorrupt, "{}: a header of {} bytes, expected at most {}: no safetensors file, or cut short",
         path.string(), header_size, limit);
  const size_t data_begin = sizeof header_size + static_cast<size_t>(header_size);
  HeaderParser(path, bytes.subspan(data_begin))
      .parse(bytes.subspan(sizeof header_size, header_size), tensors_, metadata_);
  for (auto& [name, tensor] : tensors_) align(tensor);
}

void SafetensorsFile::align(TensorView& tensor) {
  const size_t size = tensor.num_bytes();
  if (reinterpret_cast<uintptr_t>(tensor.data) % dtype_size(tensor.dtype) == 0) return;
  copies_.push_back(std::make_unique<std::byte[]>(std::max<size_t>(size, 1)));
  if (size > 0) std::memcpy(copies_.back().get(), tensor.data, size);
  tensor.data = copies_.back().get();
}

const TensorView* SafetensorsFile::find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const TensorView& SafetensorsFile::at(const std::string& name) const {
  const TensorView* tensor = find(name);
  if (tensor == nullptr)
    fail(ErrorCode::kNotFound, "{}: no tensor \"{}\" among its {}", path().string(), name, tensors_.size());
  return *tensor;
}

void SafetensorsFile::release(const TensorView& tensor) const {
  const std::span<const std::byte> whole = file_.bytes();
  const std::span<const std::byte> part(tensor.data, tensor.num_bytes());
  const auto begin = reinterpret_cast<uintptr_t>(whole.data());
  const auto at = reinterpret_cast<uintptr_t>(part.data());
  if (at >= begin && at + part.size() <= begin + whole.size()) file_.release(part);
}

}  // namespace vl2
