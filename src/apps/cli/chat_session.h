// `vl2 chat` after the model is loaded: messages and /commands in, answers out.
//
// Borrows the engine, and a progress line that outlives it. One thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "apps/cli/answering.h"
#include "apps/cli/chat_history.h"
#include "apps/cli/conversation.h"
#include "apps/cli/line_editor.h"
#include "apps/cli/options.h"

namespace vl2::cli {

struct ChatSettings {
  AnswerOptions answer;
  PictureOptions pictures;
};

class ChatSession {
 public:
  ChatSession(Engine& engine, ProgressLine& progress, ChatSettings settings, Conversation conversation);

  // Until /quit or the end of the input. false: nobody typed this, and something of it failed. StdoutClosed.
  bool run();

 private:
  // false: the chat is over.
  bool handle(const std::string& line);
  bool run_command(std::string_view name, std::string_view argument);
  void show_help() const;
  void attach(std::string path);
  void set_system(std::string_view text);
  void retry();
  void send(const std::string& text, uint64_t seed);
  // Drops the oldest turns when the prompt would leave no room for an answer.
  void fit_context();
  std::string prompt() const;
  // To whoever types; silent where nobody does. Problems are always said.
  void note(const std::string& text) const;
  void warn(const std::string& text) const;
  void complain(const std::string& text);

  Engine& engine_;
  ProgressLine& progress_;
  const ChatSettings settings_;
  Conversation conversation_;
  ChatHistory history_;
  LineEditor editor_;
  std::optional<InterruptWatch> watch_;  // while somebody types: a late Ctrl-C must not end the chat
  bool failed_ = false;
  uint64_t retries_ = 0;  // of the last question: each draws anew
};

}  // namespace vl2::cli
