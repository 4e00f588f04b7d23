#include "core/text/grounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/text/utf8.h"

namespace vl2 {
namespace {

enum Tag { kRef, kRefEnd, kDet, kDetEnd, kGrounding, kNoTag };
constexpr std::array<std::string_view, 5> kTags = {"<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"};
constexpr double kScale = 999;

std::string_view skip_space(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == text.npos ? std::string_view() : text.substr(at);
}

// A number at the front of text, which moves behind it. JSON's numbers, and Python's "+1", "1." and ".5".
std::optional<double> take_number(std::string_view& text) {
  std::string_view rest = text;
  const bool plus = rest.starts_with('+');
  if (plus) rest.remove_prefix(1);
  const size_t digits = rest.starts_with('-') ? 1 : 0;
  if (plus && digits == 1) return std::nullopt;
  // from_chars knows "inf" and "nan", which are no coordinates; "012" is no number in Python.
  if (rest.size() == digits || rest.find_first_of("0123456789.", digits) != digits) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  const std::string_view number = rest.substr(digits, static_cast<size_t>(end - rest.data()) - digits);
  const bool integer = number.find_first_not_of("0123456789") == number.npos;
  if (integer && number.size() > 1 && number.front() == '0' && number.find_first_not_of('0') != number.npos)
    return std::nullopt;
  text = std::string_view(end, static_cast<size_t>(rest.data() + rest.size() - end));
  return value;
}

// "[1, 2, 3]", all of text; a comma may trail.
std::optional<std::vector<double>> parse_list(std::string_view text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
  text = text.substr(1, text.size() - 2);
  std::vector<double> numbers;
  for (text = skip_space(text); !text.empty(); text = skip_space(text)) {
    const std::optional<double> number = take_number(text);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
    text = skip_space(text);
    if (text.empty()) break;
    if (text.front() != ',') return std::nullopt;
    text.remove_prefix(1);
  }
  return numbers;
}

// Every "[...]" of the text, shortest first, as a regular expression would find them.
std::vector<std::string_view> bracketed(std::string_view text) {
  std::vector<std::string_view> found;
  for (size_t at = text.find('['); at != text.npos;) {
    const size_t end = text.find_first_of("]\n", at);
    if (end == text.npos) break;
    if (text[end] == ']') found.push_back(text.substr(at, end + 1 - at));
    at = text.find('[', end + 1);
  }
  return found;
}

int to_grid(double value) { return static_cast<int>(std::lround(std::clamp(value, 0.0, kScale))); }

// Adds every innermost "[...]" that holds four numbers; how the lists are nested does not matter. `answer`: what the
// body is a part of.
void add_usable_boxes(std::string_view body, const char* answer, GroundedObject& object) {
  for (size_t end = body.find(']'); end != body.npos; end = body.find(']')) {
    const size_t begin = body.substr(0, end).rfind('[');
    if (begin != body.npos) {
      const auto numbers = parse_list(body.substr(begin, end + 1 - begin));
      if (numbers && numbers->size() == 4) {
        const std::vector<double>& n = *numbers;
        object.boxes.push_back({to_grid(std::min(n[0], n[2])), to_grid(std::min(n[1], n[3])),
                                to_grid(std::max(n[0], n[2])), to_grid(std::max(n[1], n[3]))});
        const auto place = static_cast<size_t>(body.data() - answer);
        object.box_places.push_back({place + begin, place + end + 1});
      }
    }
    body.remove_prefix(end + 1);
  }
}

// The first tag of the text; the text in front of it, or all, is cut off and returned.
std::string_view take_until_tag(std::string_view& text, Tag& tag) {
  for (size_t at = text.find("<|"); at != text.npos; at = text.find("<|", at + 1))
    for (size_t i = 0; i < kTags.size(); ++i)
      if (text.substr(at).starts_with(kTags[i])) {
        const std::string_view front = text.substr(0, at);
        text.remove_prefix(at + kTags[i].size());
        tag = static_cast<Tag>(i);
        return front;
      }
  tag = kNoTag;
  return std::exchange(text, {});
}

// The front of the text that can be a list of boxes, for one that was never closed.
size_t list_length(std::string_view text) {
  if (!skip_space(text).starts_with('[')) return 0;
  const size_t length = text.find_first_not_of("[]0123456789+-.eE, \t\r\n");
  if (length == text.npos) return text.size();
  return text.substr(0, length).rfind(']') + 1;  // 0 without one
}

// The bodies of all "open ... close" on one line, shortest first.
std::vector<std::string_view> tagged(std::string_view text, std::string_view open, std::string_view close) {
  std::vector<std::string_view> found;
  size_t end = 0,
         line = 0;  // the first `close` and the first line break behind the body's beginning; only ever further
  for (size_t at = text.find(open); at != text.npos;) {
    const size_t body = at + open.size();
    if (end < body) end = text.find(close, body);
    if (line < body) line = text.find('\n', body);
    if (end == text.npos) break;
    if (end < line) found.push_back(text.substr(body, end - body));
    // One that crosses a line is none; a later one may be.
    at = text.find(open, end < line ? end + close.size() : at + 1);
  }
  return found;
}

// The demo strips the tags by replacing them wherever they stand.
std::string without(std::string_view text, std::string_view tag) {
  std::string result;
  for (size_t at = text.find(tag); at != text.npos; at = text.find(tag)) {
    result += text.substr(0, at);
    text.remove_prefix(at + tag.size());
  }
  return result += text;
}

std::string without_tags(std::string_view text) {
  std::string result(text);
  for (bool changed = true; changed;) {  // what stood around a tag may join to another one
    const std::string before = std::exchange(result, {});
    std::string_view rest = before;
    Tag tag = kNoTag;
    do {
      result += take_until_tag(rest, tag);
    } while (tag != kNoTag);
    changed = result.size() < before.size();
  }
  return result;
}

bool to_pixel(double value, int64_t size, int64_t& pixel) {
  const double scaled = std::trunc(value / kScale * static_cast<double>(size));
  if (std::abs(scaled) > 9e15) return false;
  pixel = static_cast<int64_t>(scaled);
  return true;
}

}  // namespace

GroundedAnswer parse_grounding(std::string_view answer) {
  GroundedAnswer result;
  const char* const begin = answer.data();
  std::vector<GroundedObject>& objects = result.objects;  // labels without boxes too, until the end
  const auto add_object = [&](std::string_view label) {
    GroundedObject& object = objects.emplace_back();
    object.label = std::string(label);
    object.begin = result.text.size();
    object.end = object.begin + label.size();
    result.text += label;
  };
  const auto add_boxes = [&](std::string_view body) {
    if (objects.empty()) add_object("");
    add_usable_boxes(body, begin, objects.back());
  };
  Tag before = kNoTag, tag = kNoTag;  // around a piece of text
  do {
    const std::string_view piece = take_until_tag(answer, tag);
    if (before == kRef && (tag == kRefEnd || tag == kDet)) {
      add_object(piece);
    } else if (before == kDet && tag == kDetEnd) {
      add_boxes(piece);
    } else if (before == kDet) {  // never closed: the answer was cut off here, or it is nonsense
      const size_t list = list_length(piece);
      add_boxes(piece.substr(0, list));
      result.text += piece.substr(list);
    } else if (before != kRefEnd || tag != kDet || !skip_space(piece).empty()) {  // not the space from label to boxes
      result.text += piece;
    }
    before = tag;
  } while (tag != kNoTag);
  std::erase_if(objects, [](const GroundedObject& object) { return object.boxes.empty(); });
  return result;
}

std::string format_grounding(std::string_view label, std::span<const Box> boxes) {
  const std::string name = without_tags(label);
  std::string list;
  for (const Box& b : boxes)
    list += fmt::format("{}[{}, {}, {}, {}]", list.empty() ? "" : ", ", b.x1, b.y1, b.x2, b.y2);
  return fmt::format("{}{}{}{}[{}]{}", kTags[kRef], name, kTags[kRefEnd], kTags[kDet], list, kTags[kDetEnd]);
}

Box encode_box(const PixelBox& p, int64_t width, int64_t height) {
  const auto encode = [](double x, int64_t size) {
    return std::isnan(x) || size < 1 ? 0 : to_grid(std::round(x / static_cast<double>(size) * kScale));
  };
  return {encode(p.x1, width), encode(p.y1, height), encode(p.x2, width), encode(p.y2, height)};
}

PixelBox decode_box(const Box& b, int64_t width, int64_t height) {
  const auto decode = [](int n, int64_t size) { return static_cast<double>(n) / kScale * static_cast<double>(size); };
  return {decode(b.x1, width), decode(b.y1, height), decode(b.x2, width), decode(b.y2, height)};
}

std::optional<std::vector<DemoBox>> parse_boxes_as_demo(std::string_view answer, int64_t width, int64_t height) {
  const std::vector<std::string_view> refs = tagged(answer, kTags[kRef], kTags[kRefEnd]),
                                      dets = tagged(answer, kTags[kDet], kTags[kDetEnd]);
  if (refs.empty() || refs.size() != dets.size()) return std::nullopt;
  std::vector<DemoBox> boxes;
  for (size_t i = 0; i < refs.size(); ++i) {
    const std::string label = without(refs[i], kTags[kRef]), body = without(dets[i], kTags[kDet]);
    // The demo cuts off the first and the last character, whatever they are.
    std::string_view inner = body;
    if (inner.empty()) continue;
    inner.remove_prefix(std::min(utf8_length(inner, 0), inner.size()));
    while (!inner.empty() && (static_cast<unsigned char>(inner.back()) & 0xc0) == 0x80) inner.remove_suffix(1);
    if (!inner.empty()) inner.remove_suffix(1);
    for (std::string_view one : bracketed(inner)) {
      const auto numbers = parse_list(one);
      if (!numbers || numbers->size() < 4) return std::nullopt;
      DemoBox box{label};
      const std::vector<double>& n = *numbers;
      if (!to_pixel(n[0], width, box.x1) || !to_pixel(n[1], height, box.y1) || !to_pixel(n[2], width, box.x2) ||
          !to_pixel(n[3], height, box.y2))
        return std::nullopt;
      boxes.push_back(box);
    }
  }
  return boxes;
}

}  // namespace vl2
