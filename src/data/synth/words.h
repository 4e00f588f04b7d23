// What the synthetic sets write into pictures: common English words of up to eight letters, strings of letters that are
// no words (so that reading cannot be remembering), numbers, a little Chinese.
//
// One word in eight is kept from training: only tests draw it. Immutable once made: any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/synth/draws.h"
#include "data/synth/type_faces.h"

namespace vl2::data::synth {

class Lexicon {
 public:
  explicit Lexicon(Split split);

  std::span<const std::string_view> words() const { return words_; }  // lower case, those of the split

  // A word or a string of 2 to 8 letters, as it is to be written: lower case, capitalised or upper case.
  std::string written_word(Draws& draws) const;
  // 1 to 4 digits, sometimes with one decimal place.
  std::string number(Draws& draws) const;
  std::string_view chinese_word(Draws& draws) const;
  // Different short words for the labels of charts and tables, the goods of receipts, the names of people.
  std::vector<std::string_view> goods(size_t n, Draws& draws) const;
  std::vector<std::string_view> names(size_t n, Draws& draws) const;

 private:
  std::vector<std::string_view> words_;
};

// Nobody trains on these words; every one is among Lexicon(Split::kTest).words().
bool is_held_out(std::string_view word);

}  // namespace vl2::data::synth
