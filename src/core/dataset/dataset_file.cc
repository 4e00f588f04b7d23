#include "core/dataset/dataset_file.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr uint64_t kLongest = std::numeric_limits<uint32_t>::max();
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

DatasetFile::DatasetFile(const std::filesystem::path& path, const DatasetOptions& options)
    : file_(path), options_(options) {
  if (options_.image_root.empty()) options_.image_root = path.parent_path();
  const std::string_view text = text_of(file_);
  size_t begin = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  size_t line = 1;
  size_t first = begin;
  while (first < text.size() && is_space(text[first])) line += text[first++] == '\n';
  if (first < text.size() && text[first] == '[')
    index_array(first + 1, line);
  else
    index_lines(begin);
  entries_.shrink_to_fit();
  file_.release(file_.bytes());
}

void DatasetFile::add(size_t begin, size_t end, size_t line) {
  entries_.push_back({begin, static_cast<uint32_t>(std::min<uint64_t>(end - begin, kLongest)),
                      static_cast<uint32_t>(std::min<uint64_t>(line, kLongest))});
}

void DatasetFile::index_lines(size_t begin) {
  const std::string_view text = text_of(file_);
  for (size_t line = 1; begin < text.size(); ++line) {
    const void* newline = std::memchr(text.data() + begin, '\n', text.size() - begin);
    const size_t end =
        newline == nullptr ? text.size() : static_cast<size_t>(static_cast<const char*>(newline) - text.data());
    size_t first = begin;
    while (first < end && is_space(text[first])) ++first;
    if (first < end) add(first, end, line);
    begin = end + 1;
  }
}

// Where the elements of the array lie. Brackets are only counted: what does not pair is found when its record is read.
void DatasetFile::index_array(size_t at, size_t line) {
  const std::string_view text = text_of(file_);
  constexpr size_t kNone = std::string_view::npos;
  size_t begin = kNone, begin_line = 0, depth = 0;
  bool separated = false;  // by a comma that an element must follow
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (is_space(c)) {
      line += c == '\n';
      continue;
    }
    if (depth == 0 && (c == ',' || c == ']')) {
      if (begin != kNone || separated || c == ',') {
        const bool missing = begin == kNone;
        add(missing ? at : begin, missing ? at + 1 : at, missing ? line : begin_line);
      }
      begin = kNone;
      separated = c == ',';
      if (c == ',') continue;
      const size_t rest =
          std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(at) + 1, text.end(), is_space) - text.begin();
      if (rest < text.size()) add(rest, text.size(), line);
      return;
    }
    if (begin == kNone) begin = at, begin_line = line;
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') depth -= depth > 0;
    if (c == '"')
      for (++at; at < text.size() && text[at] != '"'; ++at) {
        line += text[at] == '\n';
        if (text[at] == '\\') ++at;
      }
  }
  if (begin != kNone) return add(begin, text.size(), begin_line);
  add(text.size(), text.size(), line);
}

std::string DatasetFile::where(int64_t index) const {
  return fmt::format("{}:{}", path().string(), entries_.at(static_cast<size_t>(index)).line);
}

std::variant<TrainingRecord, BadRecord> DatasetFile::read(int64_t index) const {
  const Entry& entry = entries_.at(static_cast<size_t>(index));
  if (entry.length == 0) return BadRecord{where(index), "the file ends before its array does; get it again"};
  if (entry.length > options_.max_record_bytes)
    return BadRecord{where(index), fmt::format("a record of {} bytes or more, expected at most {}", entry.length,
                                               options_.max_record_bytes)};
  return parse_record(text_of(file_).substr(entry.begin, entry.length), where(index), options_.image_root,
                      options_.format);
}

}  // namespace vl2
