#include "engine/constrain/grounding_machine.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>

namespace vl2 {
namespace {

constexpr std::array<std::string_view, 5> kTagTexts = {"<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>"};
constexpr std::string_view kListBytes = "[], 0123456789\n";

// Whether a number that begins so can still reach `least` without passing 999.
bool can_reach(int value, int digits, int least) {
  if (value >= least) return true;
  if (value == 0) return false;
  for (; digits < 3; ++digits) value = value * 10 + 9;
  return value >= least;
}

bool ends_with_tag(std::string_view text) {
  return std::any_of(kTagTexts.begin(), kTagTexts.end(), [&](std::string_view tag) { return text.ends_with(tag); });
}

}  // namespace

GroundingMachine::GroundingMachine(const Tags& tags) : tags_(tags) {
  symbols_.specials = {tags.ref, tags.ref_end, tags.det, tags.det_end};
  // Class 0: all bytes that mean nothing here.
  std::set<char> own(kListBytes.begin(), kListBytes.end());
  std::set<std::string> begun = {""};
  for (const std::string_view tag : kTagTexts) {
    own.insert(tag.begin(), tag.end());
    for (size_t n = 1; n < tag.size(); ++n) begun.emplace(tag.substr(0, n));
  }
  symbols_.bytes = {0};
  for (const char c : own) {
    symbols_.class_of[static_cast<uint8_t>(c)] = static_cast<uint8_t>(symbols_.bytes.size());
    symbols_.bytes.push_back(static_cast<uint8_t>(c));
  }
  begun_.assign(begun.begin(), begun.end());  // "" is the first
  for (const std::string& before : begun_) {
    std::vector<int>& next = now_begun_.emplace_back();
    for (const uint8_t byte : symbols_.bytes) {
      const std::string text = before + static_cast<char>(byte);
      int longest = 0;
      for (size_t i = 0; i < begun_.size(); ++i)
        if (text.ends_with(begun_[i]) && begun_[i].size() > begun_[static_cast<size_t>(longest)].size())
          longest = static_cast<int>(i);
      next.push_back(ends_with_tag(text) ? -1 : longest);
    }
  }
}

Machine::Config GroundingMachine::pack(const Where& w) {
  return Config{static_cast<uint8_t>(w.place)} | Config{w.begun} << 8 | Config{w.coordinate} << 16 |
         Config{w.digits} << 20 | Config{w.x1} << 24 | Config{w.y1} << 36 | Config{w.value} << 48;
}

GroundingMachine::Where GroundingMachine::unpack(Config c) {
  Where w;
  w.place = static_cast<Place>(c & 0xff);
  w.begun = static_cast<uint8_t>(c >> 8);
  w.coordinate = static_cast<uint8_t>(c >> 16 & 0xf);
  w.digits = static_cast<uint8_t>(c >> 20 & 0xf);
  w.x1 = static_cast<uint16_t>(c >> 24 & 0xfff);
  w.y1 = static_cast<uint16_t>(c >> 36 & 0xfff);
  w.value = static_cast<uint16_t>(c >> 48 & 0xfff);
  return w;
}

void GroundingMachine::start(std::vector<Config>& out) { out.push_back(pack({})); }

bool GroundingMachine::accepts(Config config) const {
  const Place place = unpack(config).place;
  return place == Place::kText || place == Place::kLabelled;
}

void GroundingMachine::step(std::span<const Config> from, int symbol, std::vector<Config>& out) {
  for (const Config config : from) {
    ++work_;
    Where where = unpack(config);
    const bool goes_on = symbol >= symbols_.num_classes()
                             ? tag(where, symbol - symbols_.num_classes())
                             : byte(where, static_cast<char>(symbols_.bytes[static_cast<size_t>(symbol)]), symbol);
    if (goes_on) out.push_back(pack(where));
  }
}

bool GroundingMachine::tag(Where& where, int tag) const {
  const Place place = where.place;
  where = {};
  switch (tag) {
    case kRef:
      where.place = Place::kLabelBegin;
      return place == Place::kText || place == Place::kLabelled;
    case kRefEnd:
      where.place = Place::kLabelled;
      return place == Place::kLabel;
    case kDet:
      where.place = Place::kOpenList;
      return place == Place::kLabelled;
    default:
      return place == Place::kListEnd;
  }
}

bool GroundingMachine::byte(Where& where, char c, int symbol) const {
  switch (where.place) {
    case Place::kLabelled:
      where.place = Place::kText;
      break;
    case Place::kLabelBegin:
    case Place::kLabel:
      where.place = Place::kLabel;
      if (c == '\n') return false;
      break;
    case Place::kText:
      break;
    default:
      return list_byte(where, c);
  }
  const int next = now_begun_[where.begun][static_cast<size_t>(symbol)];
  where.begun = static_cast<uint8_t>(std::max(next, 0));
  return next >= 0;
}

bool GroundingMachine::list_byte(Where& w, char c) const {
  const auto go = [&](char expected, Place next) {
    w.place = next;
    return c == expected;
  };
  switch (w.place) {
    case Place::kOpenList:
      return go('[', Place::kOpenBox);
    case Place::kOpenBox:
      w = {};
      return go('[', Place::kNumber);
    case Place::kSpace:
      return go(' ', Place::kNumber);
    case Place::kSpaceBetween:
      return go(' ', Place::kOpenBox);
    case Place::kBoxEnd:
      return c == ',' ? go(',', Place::kSpaceBetween) : go(']', Place::kListEnd);
    case Place::kNumber:
    case Place::kDigits:
      break;
    default:
      return false;
  }
  const int least = w.coordinate == 2 ? w.x1 : w.coordinate == 3 ? w.y1 : 0;
  if (c >= '0' && c <= '9') {
    if (w.place == Place::kDigits && (w.value == 0 || w.digits == 3)) return false;
    w.place = Place::kDigits;
    w.value = static_cast<uint16_t>(w.value * 10 + (c - '0'));
    ++w.digits;
    return can_reach(w.value, w.digits, least);
  }
  if (w.place == Place::kNumber || w.value < least) return false;
  if (w.coordinate == 0) w.x1 = w.value;
  if (w.coordinate == 1) w.y1 = w.value;
  const bool last = w.coordinate == 3;
  ++w.coordinate;
  w.value = w.digits = 0;
  if (!last) return go(',', Place::kSpace);
  w = {};
  return go(']', Place::kBoxEnd);
}

}  // namespace vl2
