#include "core/processor/record_markup.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/base/error.h"
#include "core/text/grounding.h"

namespace vl2 {
namespace {

constexpr std::string_view kLabel = "<ref-object>", kBox = "<bbox>";
constexpr std::string_view kDet = "<|det|>", kDetEnd = "<|/det|>";
constexpr std::string_view kBlank = " \t\r\n";
constexpr int kMaxCoordinate = 999;

size_t count(std::string_view text, std::string_view what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

Box native_box(const RecordObjects& objects, size_t index, std::span<const ImageSize> sizes) {
  constexpr double kSlack = 1;  // pixels: rounded corners of boxes at the edge
  const RecordObjects::Box& box = objects.boxes[index];
  if (box.image >= static_cast<int64_t>(sizes.size()))
    fail(ErrorCode::kInvalidArgument, "objects.bbox[{}] lies in picture {}, but there are {}", index, box.image + 1,
         sizes.size());
  const ImageSize size = sizes[static_cast<size_t>(box.image)];
  const auto width = static_cast<double>(size.width), height = static_cast<double>(size.height);
  const bool fraction = objects.unit == RecordObjects::Unit::kFraction;
  const double across = fraction ? width : 1, down = fraction ? height : 1;
  PixelBox pixels{box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down};
  if (pixels.x1 > pixels.x2) std::swap(pixels.x1, pixels.x2);
  if (pixels.y1 > pixels.y2) std::swap(pixels.y1, pixels.y2);
  if (pixels.x1 < -kSlack || pixels.y1 < -kSlack || pixels.x2 > width + kSlack || pixels.y2 > height + kSlack)
    fail(ErrorCode::kInvalidArgument, "objects.bbox[{}] is [{}, {}, {}, {}], outside of picture {} of {} x {} pixels",
         index, box.x1, box.y1, box.x2, box.y2, box.image + 1, size.width, size.height);
  return encode_box(pixels, size.width, size.height);
}

// Replaces the placeholders turn by turn.
class Markup {
 public:
  Markup(const RecordObjects& objects, std::span<const ImageSize> sizes) : objects_(objects) {
    for (size_t i = 0; i < objects.boxes.size(); ++i) boxes_.push_back(native_box(objects, i, sizes));
  }

  std::string render(std::string_view text) {
    std::string out;
    while (true) {
      const size_t label = text.find(kLabel), box = text.find(kBox), at = std::min(label, box);
      out += text.substr(0, at);
      if (at == text.npos) return out;
      text.remove_prefix(at);
      if (at == label) {
        text.remove_prefix(kLabel.size());
        out += label_markup(objects_.labels.at(next_label_++));
        continue;
      }
      size_t run = 0;
      do {
        text.remove_prefix(text.find(kBox) + kBox.size());
        ++run;
      } while (text.substr(std::min(text.find_first_not_of(" \t\r\n,"), text.size())).starts_with(kBox));
      out += boxes_markup(std::span(boxes_).subspan(next_box_, run));
      next_box_ += run;
    }
  }

 private:
  static std::string label_markup(std::string_view label) {
    const std::string markup = format_grounding(label, {});
    return markup.substr(0, markup.rfind(kDet));
  }
  static std::string boxes_markup(std::span<const Box> boxes) {
    const std::string markup = format_grounding("", boxes);
    return markup.substr(markup.find(kDet));
  }

  const RecordObjects& objects_;
  std::vector<Box> boxes_;
  size_t next_label_ = 0, next_box_ = 0;
};

// Reads "[[1, 2, 3, 4], ...]".
class BoxListCheck {
 public:
  explicit BoxListCheck(std::string_view body) : rest_(body) {}

  std::optional<std::string> problem() {
    if (!take('[')) return "no list of boxes";
    do {
      std::array<int, 4> n{};
      if (!take('[')) return "no list of boxes";
      for (size_t i = 0; i < n.size(); ++i) {
        if (i > 0 && !take(',')) return "a box of other than four numbers";
        if (!take_number(n[i])) return "a coordinate that is no integer from 0 to 999";
      }
      if (!take(']')) return "a box of other than four numbers";
      if (n[0] > n[2] || n[1] > n[3]) return "a box whose second corner is not the lower right one";
    } while (take(','));
    if (!take(']')) return "a list of boxes without an end";
    return at_end() ? std::nullopt : std::optional<std::string>("text behind the list of boxes");
  }

 private:
  bool at_end() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(kBlank), rest_.size()));
    return rest_.empty();
  }
  bool take(char c) {
    if (at_end() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_number(int& number) {
    if (at_end()) return false;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
    if (error != std::errc() || number < 0 || number > kMaxCoordinate) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return rest_.empty() || (rest_.front() != '.' && rest_.front() != 'e' && rest_.front() != 'E');
  }

  std::string_view rest_;
};

}  // namespace

std::vector<TrainingTurn> turns_with_markup(const TrainingRecord& record, std::span<const ImageSize> sizes) {
  std::vector<TrainingTurn> turns = record.turns;
  if (!record.objects) return turns;
  const RecordObjects& objects = *record.objects;
  size_t labels = 0, boxes = 0;
  for (const TrainingTurn& turn : turns) {
    labels += count(turn.content, kLabel);
    boxes += count(turn.content, kBox);
  }
  if (labels != objects.labels.size() || boxes != objects.boxes.size())
    fail(ErrorCode::kInvalidArgument, "the text has {} {} and {} {}, but objects has {} ref and {} bbox", labels,
         kLabel, boxes, kBox, objects.labels.size(), objects.boxes.size());
  Markup markup(objects, sizes);
  for (TrainingTurn& turn : turns) turn.content = markup.render(turn.content);
  return turns;
}

std::optional<std::string> markup_problem(std::string_view text) {
  for (size_t at = text.find(kDet); at != text.npos; at = text.find(kDet)) {
    text.remove_prefix(at + kDet.size());
    const size_t end = text.find(kDetEnd);
    if (end == text.npos) return "<|det|> without <|/det|>";
    const std::string_view body = text.substr(0, end);
    if (const auto problem = BoxListCheck(body).problem())
      return fmt::format("{} between <|det|> and <|/det|>: {}", *problem, body.substr(0, 60));
    text.remove_prefix(end + kDetEnd.size());
  }
  return std::nullopt;
}

}  // namespace vl2
