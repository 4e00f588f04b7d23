// Ends a text before the first of some strings, holding back what could still become one of them.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vl2 {

// The string that is complete first wins, whatever pieces the text comes in; of two that end together, the longer one.
// One thread.
class StopStrings {
 public:
  // kInvalidArgument: an empty string, more than 64 of them, one over 1024 bytes or not UTF-8.
  explicit StopStrings(std::vector<std::string> strings);
  static void check(const std::vector<std::string>& strings);

  // The text that can no longer belong to a stop string. After a match: the text before it, and nothing ever after.
  std::string push(const std::string& text);
  std::string finish();  // what was held back
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> strings_;
  std::string pending_;
  std::optional<std::string> matched_;
};

}  // namespace vl2
