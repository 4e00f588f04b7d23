// The program's three streams, without stdio: what is written has left when the call returns, so nothing fails unseen
// at exit. Any thread may write; one reads.
#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

namespace vl2::cli {

// Whoever read our stdout has gone away (`vl2 ... | head`): stop quietly.
class StdoutClosed : public std::exception {};

// Before anything else: closed streams stay closed instead of becoming the first file we open, a closed pipe is an
// error and no signal, and text is UTF-8 whatever the locale says.
void prepare_streams();

bool stdin_is_terminal();
bool stdout_is_terminal();
bool stderr_is_terminal();

// All of it. StdoutClosed, kIo.
void write_stdout(std::string_view text);
// As far as it goes: there is no place left to complain.
void write_stderr(std::string_view text);

// Text of a model or a file, harmless for a terminal: control characters but newline and tab become U+FFFD.
std::string printable(std::string_view text);

// Everything on stdin; kInvalidArgument over the limit, kIo.
std::string read_stdin(size_t max_bytes);
// The next line without its newline; empty at the end.
std::optional<std::string> read_stdin_line();

}  // namespace vl2::cli
