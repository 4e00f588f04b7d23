// The lines a user typed into `vl2 chat`, kept between runs in $XDG_STATE_HOME/vl2/chat_history.
//
// A JSON string a line, the newest last, at most kMostEntries of them; written whole, so that a crash loses nothing.
// One thread.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace vl2::cli {

class ChatHistory {
 public:
  static constexpr size_t kMostEntries = 1000;

  // Where the user's state belongs; empty where there is no home.
  static std::filesystem::path default_file();

  // Reads what is there; a damaged line is skipped. An empty path keeps nothing.
  explicit ChatHistory(std::filesystem::path file);

  const std::vector<std::string>& entries() const { return entries_; }
  // Takes a line in, unless it repeats the last one, and writes the file together with what other chats added
  // meanwhile. false: it could not be written.
  bool add(const std::string& line);

 private:
  std::filesystem::path file_;
  std::vector<std::string> entries_;
};

}  // namespace vl2::cli
