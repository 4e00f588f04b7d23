// Markup of located things, as a model may have written it: core/text/grounding.
//
// Input: the answer.
#include "core/text/grounding.h"
#include "core/text/utf8.h"
#include "fuzz/fuzz.h"

namespace vl2 {
namespace {

constexpr int kLast = 999;

bool is_box(const Box& b) {
  return b.x1 >= 0 && b.x1 <= b.x2 && b.x2 <= kLast && b.y1 >= 0 && b.y1 <= b.y2 && b.y2 <= kLast;
}

void check_object(const GroundedObject& object, std::string_view answer, std::string_view text) {
  VL2_HOLDS(!object.boxes.empty(), "\"{}\"", object.label);
  VL2_HOLDS(object.begin <= object.end && object.end <= text.size(), "{} {}", object.begin, object.end);
  VL2_HOLDS(text.substr(object.begin, object.end - object.begin) == object.label, "\"{}\"", object.label);
  VL2_HOLDS(object.boxes.size() == object.box_places.size(), "{} boxes", object.boxes.size());
  size_t last = 0;
  for (size_t i = 0; i < object.boxes.size(); ++i) {
    const auto& place = object.box_places[i];
    VL2_HOLDS(is_box(object.boxes[i]), "box {}", i);
    VL2_HOLDS(last <= place.begin && place.begin < place.end && place.end <= answer.size(), "place {}", i);
    VL2_HOLDS(answer[place.begin] == '[' && answer[place.end - 1] == ']', "place {}", i);
    last = place.end;
  }
}

// What is written for a label and boxes is read as these.
void check_round_trip(const GroundedObject& object) {
  const std::string markup = format_grounding(object.label, object.boxes);
  const GroundedAnswer again = parse_grounding(markup);
  VL2_HOLDS(again.objects.size() == 1, "{}", markup);
  VL2_HOLDS(again.objects[0].boxes == object.boxes, "{}", markup);
  VL2_HOLDS(again.text == again.objects[0].label, "{}", markup);
  VL2_HOLDS(format_grounding(again.objects[0].label, again.objects[0].boxes) == markup, "{}", markup);
}

void check_pixels(const Box& box) {
  for (const int64_t size : {1, 37, 999, 1000, 100'000}) {
    const PixelBox pixels = decode_box(box, size, size);
    VL2_HOLDS(pixels.x1 >= 0 && pixels.x2 <= static_cast<double>(size), "{}", size);
    VL2_HOLDS(encode_box(pixels, size, size) == box, "{}", size);
  }
}

}  // namespace
}  // namespace vl2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vl2;
  const std::string_view answer(reinterpret_cast<const char*>(data), size);
  const GroundedAnswer parsed = parse_grounding(answer);
  VL2_HOLDS(parsed.text.size() <= answer.size(), "{} bytes of {}", parsed.text.size(), answer.size());
  if (is_valid_utf8(answer)) VL2_HOLDS(is_valid_utf8(parsed.text), "{}", answer);
  for (const GroundedObject& object : parsed.objects) {
    check_object(object, answer, parsed.text);
    check_round_trip(object);
    check_pixels(object.boxes.front());
  }
  if (answer.find("<|") == answer.npos) VL2_HOLDS(parsed.text == answer && parsed.objects.empty(), "{}", answer);
  const auto drawn = parse_boxes_as_demo(answer, 640, 480);
  if (drawn) VL2_HOLDS(answer.find("<|det|>") != answer.npos, "{}", answer);
  return 0;
}
