// One message at a time from a person or a pipe.
//
// On a terminal: libedit's editing, earlier messages with the arrow keys, pasted text of several lines as one message,
// and Ctrl-C throws away what is typed. A line that ends in a backslash goes on in the next. One thread; one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace vl2::cli {

class LineEditor {
 public:
  // `history`: oldest first.
  explicit LineEditor(const std::vector<std::string>& history);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  bool interactive() const;
  // The next message; empty at the end of the input.
  std::optional<std::string> read(const std::string& prompt);
  void remember(const std::string& message);  // for the arrow keys

 private:
  class Terminal;
  std::unique_ptr<Terminal> terminal_;  // null: stdin is no terminal

  std::optional<std::string> read_line(const std::string& prompt);
};

}  // namespace vl2::cli
