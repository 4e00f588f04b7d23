#include "apps/cli/chat_session.h"

#include <algorithm>
#include <utility>

#include "apps/cli/terminal.h"
#include "core/base/error.h"
#include "core/processor/history.h"
#include "core/processor/processor.h"
#include "core/text/utf8.h"

namespace vl2::cli {
namespace {

constexpr std::string_view kHelp =
    "/image PATH    attach a picture to the next message; several are possible\n"
    "/system TEXT   put TEXT in front of the conversation; without TEXT: nothing\n"
    "/retry         answer the last question again, differently with --temperature\n"
    "/clear         forget the conversation and its pictures\n"
    "/help          these lines\n"
    "/quit          leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer. A line that ends in \\ goes on in the next; pasted lines stay one message.\n"
    "A message that begins with / needs a space in front.\n";

// As terminals paste dropped files: quoted, or with blanks escaped.
std::string unquote(std::string path) {
  if (path.size() >= 2 && (path.front() == '\'' || path.front() == '"') && path.back() == path.front())
    return path.substr(1, path.size() - 2);
  std::string result;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '\\' && i + 1 < path.size()) ++i;
    result += path[i];
  }
  const char* home = std::getenv("HOME");
  if (result.starts_with("~/") && home != nullptr) result.replace(0, 1, home);
  return result;
}

std::vector<ImageSize> sizes_of(const std::vector<Image>& pictures) {
  std::vector<ImageSize> sizes;
  for (const Image& picture : pictures) sizes.push_back({picture.width, picture.height});
  return sizes;
}

}  // namespace

ChatSession::ChatSession(Engine& engine, ProgressLine& progress, ChatSettings settings, Conversation conversation)
    : engine_(engine),
      progress_(progress),
      settings_(std::move(settings)),
      conversation_(std::move(conversation)),
      history_(stdin_is_terminal() ? ChatHistory::default_file() : std::filesystem::path()),
      editor_(history_.entries()) {}

void ChatSession::note(const std::string& text) const {
  if (editor_.interactive()) write_stderr(printable(text + "\n"));
}

void ChatSession::warn(const std::string& text) const { write_stderr(printable("vl2 chat: " + text + "\n")); }

void ChatSession::complain(const std::string& text) {
  warn(text);
  failed_ = true;
}

std::string ChatSession::prompt() const {
  const size_t attached = conversation_.num_attached();
  if (attached == 0) return "> ";
  return fmt::format("[{} picture{}] > ", attached, attached == 1 ? "" : "s");
}

bool ChatSession::run() {
  if (editor_.interactive()) watch_.emplace();
  note("Ask away. /image PATH attaches a picture, /help lists more, Ctrl-D leaves.");
  while (const std::optional<std::string> line = editor_.read(prompt())) {
    if (python_strip(*line).empty()) continue;
    if (editor_.interactive()) {
      editor_.remember(*line);
      if (!history_.add(*line)) warn("note: the history of messages cannot be written; this chat goes on without");
    }
    if (!handle(*line)) break;
  }
  return editor_.interactive() || !failed_;
}

bool ChatSession::handle(const std::string& line) {
  try {
    if (line.starts_with('/')) {
      const std::string_view text = python_strip(line);
      const size_t end = std::min(text.find(' '), text.size());
      return run_command(text.substr(0, end), python_strip(text.substr(end)));
    }
    retries_ = 0;
    send(line, settings_.answer.sampling.seed);
  } catch (const Error& error) {
    complain(error.what());
  }
  return true;
}

bool ChatSession::run_command(std::string_view name, std::string_view argument) {
  if (name == "/quit" || name == "/exit") return false;
  if (name == "/help") {
    write_stdout(kHelp);
  } else if (name == "/image") {
    attach(std::string(argument));
  } else if (name == "/system") {
    set_system(argument);
  } else if (name == "/retry") {
    retry();
  } else if (name == "/clear") {
    conversation_.clear();
    note("The conversation is forgotten.");
  } else {
    complain(
        fmt::format("{} is no command; /help lists them (a message that begins with / needs a space in front)", name));
  }
  return true;
}

void ChatSession::attach(std::string path) {
  path = unquote(std::move(path));
  if (path.empty()) return complain("/image needs a path: /image photo.jpg");
  if (path == "-") return complain("/image - is not possible, because stdin is the conversation; give a path");
  Image picture = read_picture(path, settings_.pictures);
  note(fmt::format("{}: {} x {} pixels, goes with the next message", path, picture.width, picture.height));
  conversation_.attach(std::move(picture));
}

void ChatSession::set_system(std::string_view text) {
  conversation_.set_system(std::string(text));
  note(text.empty() ? "No text in front of the conversation." : "Stands in front of the conversation from now on.");
}

void ChatSession::retry() {
  const std::string question = conversation_.take_back();
  if (question.empty()) return complain("there is no question yet");
  send(question, settings_.answer.sampling.seed + ++retries_);
}

void ChatSession::fit_context() {
  const int64_t context = engine_.max_context();
  const int64_t room = std::min(settings_.answer.max_new_tokens, context / 2);
  const HistoryCut cut =
      fit_history(engine_.processor(), conversation_.messages(), sizes_of(conversation_.pictures()), context - room);
  if (cut.messages == 0) return;
  conversation_.forget(cut.messages / 2, cut.images);
  warn(fmt::format("note: the conversation outgrows the context of {} tokens; its first {} message{} forgotten",
                   context, cut.messages, cut.messages == 1 ? " is" : "s are"));
}

void ChatSession::send(const std::string& text, uint64_t seed) {
  conversation_.ask(text);
  bool answered = false;
  std::string said;
  AnswerWriter writer;
  try {
    fit_context();
    Request request =
        make_request(engine_.processor().build(conversation_.messages(), conversation_.pictures()), settings_.answer);
    request.sampling.seed = seed;
    std::optional<InterruptWatch> own;
    InterruptWatch& interrupt = watch_ ? *watch_ : own.emplace();
    interrupt.forget();
    const Answer answer = stream_answer(engine_, std::move(request), progress_, interrupt, [&](std::string_view piece) {
      said += piece;
      writer.write(piece);
    });
    answered = answer.finish != FinishReason::kCancelled || !said.empty();
    if (answered) writer.finish();
    if (answer.finish == FinishReason::kCancelled)
      note(said.empty() ? "Stopped; the message is taken back." : "Stopped.");
    if (answer.finish == FinishReason::kLength)
      note(fmt::format("Stopped after {} tokens; --max-new-tokens or --max-context allow more.",
                       answer.usage.completion_tokens));
    if (settings_.answer.timings && answer.finish != FinishReason::kCancelled)
      write_stderr(timings_text(answer, std::nullopt));
  } catch (...) {
    conversation_.take_back();
    throw;
  }
  if (answered) {
    conversation_.answer(said);
  } else {
    conversation_.take_back();
  }
}

}  // namespace vl2::cli
