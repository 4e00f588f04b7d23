// Text with located things, in the markup's exact form: <|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], ...]<|/det|>.
//
// Text and labels are free, but spell none of the markup's tags. A label is one line and not empty; boxes stand
// directly behind a label, or not at all; of each x1 <= x2 and y1 <= y2, all 0..999 without leading zeros. Remembers
// the corner of the box it stands in, which no grammar could. One thread at a time.
#pragma once

#include <memory>
#include <vector>

#include "core/text/tokenizer.h"
#include "engine/constrain/machine.h"

namespace vl2 {

class GroundingMachine : public Machine {
 public:
  struct Tags {
    int32_t ref, ref_end, det, det_end;  // ids
  };

  explicit GroundingMachine(const Tags& tags);

  const Symbols& symbols() const override { return symbols_; }
  void start(std::vector<Config>& out) override;
  void step(std::span<const Config> from, int symbol, std::vector<Config>& out) override;
  bool accepts(Config config) const override;
  std::unique_ptr<Machine> fresh() const override { return std::make_unique<GroundingMachine>(tags_); }
  Config import(const Machine& /*from*/, Config config) override { return config; }
  size_t memory() const override { return 0; }

 private:
  enum Tag { kRef, kRefEnd, kDet, kDetEnd };  // the order of the special symbols
  enum class Place : uint8_t {
    kText,
    kLabelBegin,
    kLabel,
    kLabelled,  // directly behind a label
    kOpenList,
    kOpenBox,
    kNumber,  // its first digit comes
    kDigits,
    kSpace,  // between numbers
    kBoxEnd,
    kSpaceBetween,  // of boxes
    kListEnd,
  };
  struct Where {
    Place place = Place::kText;
    uint8_t begun = 0;  // text and labels: the part of a tag that they end with, as an index into begun_
    uint8_t coordinate = 0, digits = 0;
    uint16_t x1 = 0, y1 = 0, value = 0;
  };
  static Config pack(const Where& where);
  static Where unpack(Config config);
  bool tag(Where& where, int tag) const;
  bool byte(Where& where, char c, int symbol) const;
  bool list_byte(Where& where, char c) const;

  Tags tags_;
  Symbols symbols_;
  std::vector<std::string> begun_;           // beginnings of tags
  std::vector<std::vector<int>> now_begun_;  // [begun_, symbol]: the next one; -1: a whole tag
};

}  // namespace vl2
