// What came of the requests of a crowd of clients; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace vl2::load_test {

class Tally {
 public:
  void count(const std::string& what);
  // Something that must not happen; the first ones are kept.
  void violation(const std::string& what);
  // The reply to this request came whole.
  void whole(const std::string& id);
  // The client went away by itself.
  void left(const std::string& id);

  int64_t of(const std::string& what) const;
  std::vector<std::string> violations() const;
  bool is_whole(const std::string& id) const;
  bool is_left(const std::string& id) const;
  std::string text() const;  // a line for each thing that was counted

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> counts_;
  std::vector<std::string> violations_;
  std::set<std::string> whole_, left_;
};

}  // namespace vl2::load_test
