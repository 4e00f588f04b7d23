#include "core/text/grounding.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/text/utf8.h"

namespace vl2 {
namespace {

constexpr std::string_view kRef = "<|ref|>", kRefEnd = "<|/ref|>", kDet = "<|det|>", kDetEnd = "<|/det|>",
                           kGrounding = "<|grounding|>";
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

std::vector<Box> usable_boxes(std::string_view body) {
  std::vector<Box> boxes;
  body = skip_space(body);
  if (!body.starts_with('[')) return boxes;
  body.remove_prefix(1);  // the outer bracket
  for (std::string_view one : bracketed(body)) {
    const auto numbers = parse_list(one);
    if (!numbers || numbers->size() != 4) continue;
    const std::vector<double>& n = *numbers;
    boxes.push_back({to_grid(std::min(n[0], n[2])), to_grid(std::min(n[1], n[3])), to_grid(std::max(n[0], n[2])),
                     to_grid(std::max(n[1], n[3]))});
  }
  return boxes;
}

// The bodies of all "open ... close" on one line, shortest first.
std::vector<std::string_view> tagged(std::string_view text, std::string_view open, std::string_view close) {
  std::vector<std::string_view> found;
  size_t at = text.find(open);
  while (at != text.npos) {
    const size_t body = at + open.size(), end = text.find(close, body);
    if (end == text.npos) break;
    if (text.substr(body, end - body).find('\n') == std::string_view::npos) {
      found.push_back(text.substr(body, end - body));
      at = text.find(open, end + close.size());
    } else {
      at = text.find(open, at + 1);  // this one crosses a line; a later one may not
    }
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

bool to_pixel(double value, int64_t size, int64_t& pixel) {
  const double scaled = std::trunc(value / kScale * static_cast<double>(size));
  if (std::abs(scaled) > 9e15) return false;
  pixel = static_cast<int64_t>(scaled);
  return true;
}

}  // namespace

GroundedAnswer parse_grounding(std::string_view answer) {
  GroundedAnswer result;
  while (!answer.empty()) {
    const size_t tag = answer.find("<|");
    result.text += answer.substr(0, tag);
    if (tag == answer.npos) break;
    answer.remove_prefix(tag);
    if (answer.starts_with(kRef)) {
      answer.remove_prefix(kRef.size());
      // A label ends at its own tag; if another tag comes first, this one was never closed and is dropped.
      const size_t end = answer.find("<|");
      if (end == answer.npos || !answer.substr(end).starts_with(kRefEnd)) continue;
      GroundedObject object;
      object.label = std::string(answer.substr(0, end));
      object.begin = result.text.size();
      result.text += object.label;
      object.end = result.text.size();
      answer.remove_prefix(end + kRefEnd.size());
      const std::string_view behind = skip_space(answer);
      if (!behind.starts_with(kDet)) continue;
      const size_t close = behind.find(kDetEnd);
      if (close == behind.npos) continue;
      object.boxes = usable_boxes(behind.substr(kDet.size(), close - kDet.size()));
      answer = behind.substr(close + kDetEnd.size());
      if (!object.boxes.empty()) result.objects.push_back(std::move(object));
    } else if (answer.starts_with(kDet)) {
      const size_t close = answer.find(kDetEnd);  // boxes of nothing
      answer.remove_prefix(close == answer.npos ? answer.size() : close + kDetEnd.size());
    } else {
      size_t length = 0;
      for (std::string_view known : {kRefEnd, kDetEnd, kGrounding})
        if (answer.starts_with(known)) length = known.size();
      if (length == 0) result.text += answer.substr(0, length = 2);  // somebody else's tag is text
      answer.remove_prefix(length);
    }
  }
  return result;
}

std::string format_grounding(std::string_view label, std::span<const Box> boxes) {
  std::string list;
  for (const Box& b : boxes)
    list += fmt::format("{}[{}, {}, {}, {}]", list.empty() ? "" : ", ", b.x1, b.y1, b.x2, b.y2);
  return fmt::format("{}{}{}{}[{}]{}", kRef, label, kRefEnd, kDet, list, kDetEnd);
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
  const std::vector<std::string_view> refs = tagged(answer, kRef, kRefEnd), dets = tagged(answer, kDet, kDetEnd);
  if (refs.empty() || refs.size() != dets.size()) return std::nullopt;
  std::vector<DemoBox> boxes;
  for (size_t i = 0; i < refs.size(); ++i) {
    const std::string label = without(refs[i], kRef), body = without(dets[i], kDet);
    // Its outer characters are cut blindly, bytes of a character included in ours as a character in its.
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
