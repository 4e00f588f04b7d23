#include "apps/cli/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <cwchar>

#include "apps/cli/chat_history.h"
#include "apps/cli/terminal.h"
#include "core/base/error.h"

namespace vl2::cli {
namespace {

constexpr wchar_t kEndOfInput = L'\004', kEscape = L'\033', kReplacement = L'\uFFFD';
constexpr std::wstring_view kPasteEnd = L"\033[201~";
constexpr size_t kLongestPaste = size_t{1} << 20;
constexpr const char* kBracketedPasteOn = "\033[?2004h";
constexpr const char* kBracketedPasteOff = "\033[?2004l";

// What Ctrl-C types: to the end of the line, a mark that it is thrown away, Enter.
constexpr const wchar_t* kInterruptKeys = L"\005^C\n";

// Signal handlers and libedit's callbacks reach nothing but globals.
const wchar_t* instead_of_keys = L"";
volatile std::sig_atomic_t resized = 0, continued = 0, stopped_typing = 0;
// A byte in this pipe wakes whoever waits for a key, also when the signal came just before, or to another thread.
int wake[2] = {-1, -1};
void wake_up() {
  const int saved = errno;
  if (::write(wake[1], "", 1) < 0) errno = saved;  // full: a wake-up is on its way
  errno = saved;
}
void on_resize(int) { resized = 1, wake_up(); }
void on_continue(int) { continued = 1, wake_up(); }
void on_interrupt(int) { stopped_typing = 1, wake_up(); }

// Handlers for the time of one line.
class LineSignals {
 public:
  LineSignals() {
    if (wake[0] < 0 && ::pipe2(wake, O_CLOEXEC | O_NONBLOCK) != 0)
      fail(ErrorCode::kIo, "no pipe for signals: {}", std::strerror(errno));
    stopped_typing = 0;
    instead_of_keys = L"";
    set(SIGWINCH, on_resize, &window_);
    set(SIGCONT, on_continue, &continue_);
    set(SIGINT, on_interrupt, &interrupt_);
  }
  ~LineSignals() {
    ::sigaction(SIGWINCH, &window_, nullptr);
    ::sigaction(SIGCONT, &continue_, nullptr);
    ::sigaction(SIGINT, &interrupt_, nullptr);
  }
  LineSignals(const LineSignals&) = delete;
  LineSignals& operator=(const LineSignals&) = delete;

 private:
  static void set(int signal_number, void (*handler)(int), struct sigaction* before) {
    struct sigaction action = {};
    action.sa_handler = handler;
    ::sigaction(signal_number, &action, before);
  }
  struct sigaction window_ = {}, continue_ = {}, interrupt_ = {};
};

std::string narrow(std::wstring_view text) {
  std::string result;
  for (const wchar_t c : text) {
    char bytes[MB_LEN_MAX];
    std::mbstate_t state{};
    const size_t n = std::wcrtomb(bytes, c, &state);
    if (n != static_cast<size_t>(-1)) result.append(bytes, n);
  }
  return result;
}

std::wstring widen(const std::string& text) {
  std::wstring result;
  std::mbstate_t state{};
  for (size_t at = 0; at < text.size();) {
    wchar_t c = 0;
    const size_t n = std::mbrtowc(&c, text.data() + at, text.size() - at, &state);
    if (n == static_cast<size_t>(-2)) break;
    if (n == static_cast<size_t>(-1) || n == 0) {
      state = {};
      result += kReplacement;
      ++at;
    } else {
      result += c;
      at += n;
    }
  }
  return result;
}

// libedit asks here for every character, so that signals are ours to handle.
int read_character(EditLine* edit, wchar_t* out) {
  if (*instead_of_keys != L'\0') {
    *out = *instead_of_keys++;
    return 1;
  }
  std::mbstate_t state{};
  while (true) {
    pollfd ready[] = {{STDIN_FILENO, POLLIN, 0}, {wake[0], POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0 && errno != EINTR) return 0;
    char byte = 0;
    if (ready[1].revents != 0) {
      while (::read(wake[0], &byte, 1) > 0) continue;
      if (stopped_typing != 0) {
        ::tcflush(STDIN_FILENO, TCIFLUSH);  // keys before the Ctrl-C belong to the line that is thrown away
        instead_of_keys = kInterruptKeys;
        return read_character(edit, out);
      }
      if (continued != 0) {  // the shell has used the terminal meanwhile
        continued = 0;
        el_set(edit, EL_PREP_TERM, 0);
        el_set(edit, EL_PREP_TERM, 1);
        el_set(edit, EL_REFRESH);
      }
      if (resized != 0) {
        resized = 0;
        el_resize(edit);
      }
      continue;
    }
    if (ready[0].revents == 0) continue;
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    const size_t used = std::mbrtowc(out, &byte, 1, &state);
    if (used == static_cast<size_t>(-2)) continue;
    if (used == static_cast<size_t>(-1)) *out = kReplacement;
    // A Ctrl-D typed ahead of the prompt, while the terminal was not raw yet, arrives as 0.
    if (used == 0) *out = kEndOfInput;
    return 1;
  }
}

// What follows the terminal's paste mark, up to its end mark, goes into the line as it is.
unsigned char insert_paste(EditLine* edit, int) {
  std::wstring text;
  wchar_t c = 0;
  while (text.size() < kLongestPaste && el_wgetc(edit, &c) == 1) {
    text += c == L'\r' ? L'\n' : c;
    if (c == L'~' && text.ends_with(kPasteEnd)) {
      text.resize(text.size() - kPasteEnd.size());
      break;
    }
  }
  while (text.ends_with(L'\n')) text.pop_back();
  std::erase_if(text, [](wchar_t w) { return (w < L' ' && w != L'\n' && w != L'\t') || w == kEscape; });
  if (!text.empty()) el_winsertstr(edit, text.c_str());
  return CC_REFRESH;
}

wchar_t* prompt_of(EditLine* edit) {
  void* prompt = nullptr;
  el_wget(edit, EL_CLIENTDATA, &prompt);
  return static_cast<std::wstring*>(prompt)->data();
}

}  // namespace

class LineEditor::Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& history)
      : edit_(el_init("vl2", stdin, stdout_is_terminal() ? stdout : stderr, stderr)), history_(history_winit()) {
    if (edit_ == nullptr || history_ == nullptr) fail(ErrorCode::kIo, "cannot set up the terminal for line editing");
    HistEventW event;
    history_w(history_, &event, H_SETSIZE, static_cast<int>(ChatHistory::kMostEntries));
    el_wset(edit_, EL_CLIENTDATA, &prompt_);
    el_wset(edit_, EL_PROMPT, prompt_of);
    el_wset(edit_, EL_EDITOR, L"emacs");
    // Ctrl-C would have the kernel drop what we print at that moment, the next prompt included.
    el_wset(edit_, EL_SETTY, L"-d", L"+noflsh", nullptr);
    el_wset(edit_, EL_SETTY, L"-x", L"+noflsh", nullptr);
    el_wset(edit_, EL_HIST, history_w, history_);
    el_wset(edit_, EL_GETCFN, read_character);
    el_wset(edit_, EL_ADDFN, L"vl2-paste", L"insert pasted text", insert_paste);
    el_wset(edit_, EL_BIND, L"\033[200~", L"vl2-paste", nullptr);
    el_wset(edit_, EL_BIND, L"^R", L"em-inc-search-prev", nullptr);
    el_wset(edit_, EL_BIND, L"\033[1~", L"ed-move-to-beg", nullptr);  // Home and End, of which there are several
    el_wset(edit_, EL_BIND, L"\033[4~", L"ed-move-to-end", nullptr);
    el_wset(edit_, EL_BIND, L"\033[3~", L"ed-delete-next-char", nullptr);
    for (const std::string& line : history) remember(line);
  }
  ~Terminal() {
    if (edit_ != nullptr) el_end(edit_);
    if (history_ != nullptr) history_wend(history_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  std::optional<std::string> read(const std::string& prompt) {
    prompt_ = widen(prompt);
    while (true) {
      const LineSignals signals;
      write_stderr(kBracketedPasteOn);
      el_set(edit_, EL_PREP_TERM, 1);  // before the prompt: keys pressed at its sight are not echoed twice
      int length = 0;
      const wchar_t* line = el_wgets(edit_, &length);
      write_stderr(kBracketedPasteOff);
      if (stopped_typing != 0) continue;
      if (line == nullptr || length <= 0) {
        write_stderr("\n");
        return std::nullopt;
      }
      std::wstring_view text(line, static_cast<size_t>(length));
      if (text.ends_with(L'\n')) text.remove_suffix(1);
      return narrow(text);
    }
  }

  void remember(const std::string& line) {
    HistEventW event;
    history_w(history_, &event, H_ENTER, widen(line).c_str());
  }

 private:
  EditLine* edit_;
  HistoryW* history_;
  std::wstring prompt_;
};

LineEditor::LineEditor(const std::vector<std::string>& history) {
  if (stdin_is_terminal()) terminal_ = std::make_unique<Terminal>(history);
}
LineEditor::~LineEditor() = default;

bool LineEditor::interactive() const { return terminal_ != nullptr; }

std::optional<std::string> LineEditor::read_line(const std::string& prompt) {
  return terminal_ ? terminal_->read(prompt) : read_stdin_line();
}

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  std::string message;
  for (std::string next = prompt;; next = "... ") {
    const std::optional<std::string> line = read_line(next);
    if (!line) return message.empty() ? std::nullopt : std::optional(message);
    message += *line;
    if (!message.ends_with('\\')) return message;
    message.back() = '\n';
  }
}

void LineEditor::remember(const std::string& message) {
  if (terminal_) terminal_->remember(message);
}

}  // namespace vl2::cli
