// Guesses how a text goes on: looks up where its last tokens stood before, and takes what followed them there. What
// reads a document or lists things of a kind repeats itself a lot.
//
// Of vision tokens only the places are kept: no match reaches into a picture, and none of them is ever proposed. A
// token costs a bounded number of comparisons, however long the text has become. One thread.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace vl2 {

class PromptLookup {
 public:
  static constexpr int64_t kLongestMatch = 16;  // tokens compared at most
  static constexpr int64_t kPlaces = 64;        // places of the last token that are looked at, the latest first

  // The last `length` tokens of the text stand before position `next` as well. 0: nowhere.
  struct Match {
    int64_t length = 0;
    int64_t next = 0;
  };

  void push(int32_t id);  // 0 or more
  void push_vision();
  int64_t size() const { return static_cast<int64_t>(ids_.size()); }

  // The longest match, the latest of equally long ones. The text has gone on from there: with an id, not a picture.
  Match match() const;
  // What followed the match, at most `most` ids, up to a picture. A match near the end repeats what lies between: a
  // text in a loop stays in it.
  std::vector<int32_t> continuation(const Match& match, int64_t most) const;

 private:
  int64_t match_length(int64_t end) const;

  std::vector<int32_t> ids_;
  std::vector<int64_t> previous_;              // where the same id stood last; -1: nowhere
  std::unordered_map<int32_t, int64_t> last_;  // place of each id
};

}  // namespace vl2
