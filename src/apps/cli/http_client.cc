#include "apps/cli/http_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "core/base/error.h"

namespace vl2::cli {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;
constexpr size_t kMostHeadBytes = size_t{64} << 10;

struct Addresses {
  addrinfo* first = nullptr;
  ~Addresses() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

int connect_to(const ServerAddress& address, int receive_bytes) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  Addresses found;
  const int failed = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found.first);
  if (failed != 0) fail(ErrorCode::kIo, "cannot find \"{}\": {}", address.host, ::gai_strerror(failed));
  int error = 0;
  for (const addrinfo* a = found.first; a != nullptr; a = a->ai_next) {
    const int descriptor = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
      error = errno;
      continue;
    }
    // Before connecting: it decides about the window.
    if (receive_bytes > 0) ::setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
    if (::connect(descriptor, a->ai_addr, a->ai_addrlen) == 0) return descriptor;
    error = errno;
    ::close(descriptor);
  }
  fail(ErrorCode::kIo, "cannot reach {}: {}; start a server there, or name it with --url", address.text(),
       std::strerror(error));
}

// A whole number at the start of the text; nothing else may follow up to `ends`.
template <typename T>
bool parse_number(std::string_view text, T& value, int base = 10) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

}  // namespace

std::string ServerAddress::text() const {
  return fmt::format("http://{}:{}{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port, path);
}

ServerAddress parse_server_address(const std::string& url) {
  const auto bad = [&](const char* why) {
    fail(ErrorCode::kInvalidArgument, "\"{}\" {}; expected a URL such as http://127.0.0.1:8080", url, why);
  };
  std::string_view rest = url;
  if (rest.starts_with("https:")) bad("needs TLS, which is not spoken here");
  if (rest.starts_with("http://")) rest.remove_prefix(7);
  if (rest.find("://") != rest.npos) bad("is no http:// URL");
  ServerAddress address;
  const size_t slash = rest.find('/');
  if (slash != rest.npos) {
    address.path = rest.substr(slash);
    while (address.path.ends_with('/')) address.path.pop_back();
    rest = rest.substr(0, slash);
  }
  size_t colon = rest.rfind(':');
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == rest.npos) bad("has no end of its address");
    address.host = rest.substr(1, close - 1);
    colon = close + 1 < rest.size() ? close + 1 : rest.npos;
    if (colon != rest.npos && rest[colon] != ':') bad("has no port behind its address");
  } else {
    address.host = rest.substr(0, colon);
  }
  if (address.host.empty()) bad("names no host");
  if (colon != rest.npos &&
      (!parse_number(rest.substr(colon + 1), address.port) || address.port < 1 || address.port > 65535))
    bad("has no usable port");
  return address;
}

HttpClient::HttpClient(const ServerAddress& address, std::chrono::seconds patience, int receive_bytes)
    : socket_(connect_to(address, receive_bytes)), address_(address) {
  const timeval limit = {static_cast<time_t>(patience.count()), 0};
  const int on = 1;
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

HttpClient::~HttpClient() { ::close(socket_); }

void HttpClient::abort() const { ::shutdown(socket_, SHUT_RDWR); }

void HttpClient::send_raw(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0)
      bytes.remove_prefix(static_cast<size_t>(count));
    else if (errno != EINTR)
      fail(ErrorCode::kIo, "{} takes no more of the request: {}", address_.text(), std::strerror(errno));
  }
}

void HttpClient::send(std::string_view method, std::string_view route, std::string_view body, const Headers& headers) {
  std::string text =
      fmt::format("{} {}{} HTTP/1.1\r\nHost: {}:{}\r\n", method, address_.path, route, address_.host, address_.port);
  for (const auto& [name, value] : headers) text += fmt::format("{}: {}\r\n", name, value);
  if (!body.empty() || method == "POST")
    text += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  text += "\r\n";
  text += body;
  send_raw(text);
}

bool HttpClient::fill(size_t most) {
  std::array<char, kReadBytes> bytes;
  while (true) {
    const ssize_t count = ::recv(socket_, bytes.data(), std::min(bytes.size(), most), 0);
    if (count > 0) {
      buffer_.append(bytes.data(), static_cast<size_t>(count));
      return true;
    }
    if (count == 0) return false;
    if (errno == EINTR) continue;
    fail(ErrorCode::kIo, "{} sends nothing more: {}", address_.text(), std::strerror(errno));
  }
}

std::string HttpClient::read_line() {
  size_t end = 0;
  while ((end = buffer_.find("\r\n")) == std::string::npos) {
    if (buffer_.size() > kMostHeadBytes || !fill(kReadBytes))
      fail(ErrorCode::kIo, "{} ended its reply in the middle", address_.text());
  }
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return line;
}

int HttpClient::read_status() {
  int status = 0;
  do {
    const std::string line = read_line();
    if (!line.starts_with("HTTP/1.") || line.size() < 12 || !parse_number(std::string_view(line).substr(9, 3), status))
      fail(ErrorCode::kIo, "{} does not speak HTTP: \"{}\"", address_.text(), line.substr(0, 80));
    headers_.clear();
    for (std::string header = read_line(); !header.empty(); header = read_line()) {
      const size_t colon = header.find(':');
      if (colon == std::string::npos) continue;
      std::string name = header.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      headers_[name] = header.substr(std::min(header.find_first_not_of(' ', colon + 1), header.size()));
    }
  } while (status == 100);
  framing_ = Framing::kClose;
  left_ = 0;
  done_ = status == 204;
  if (header("transfer-encoding") == "chunked") {
    framing_ = Framing::kChunks;
  } else if (const std::string length = header("content-length"); !length.empty()) {
    framing_ = Framing::kLength;
    if (!parse_number(length, left_)) fail(ErrorCode::kIo, "{} has an odd Content-Length", address_.text());
    done_ = left_ == 0;
  }
  return status;
}

std::string HttpClient::header(const std::string& lower_case_name) const {
  const auto at = headers_.find(lower_case_name);
  return at == headers_.end() ? std::string() : at->second;
}

// The bytes there are, once there are any; `read`: at a time from the socket.
std::string HttpClient::take(size_t most, size_t read) {
  if (buffer_.empty() && !fill(read)) return {};
  std::string result = buffer_.substr(0, most);
  buffer_.erase(0, result.size());
  return result;
}

std::string HttpClient::read_some(size_t most) {
  if (done_) return {};
  if (framing_ == Framing::kChunks && left_ == 0) {
    if (!parse_number(read_line(), left_, 16)) fail(ErrorCode::kIo, "{} sends broken chunks", address_.text());
    if (left_ == 0) {
      read_line();
      done_ = true;
      return {};
    }
  }
  std::string part = take(framing_ == Framing::kClose ? most : std::min(most, left_), most);
  if (framing_ == Framing::kClose) {
    done_ = part.empty();
    return part;
  }
  if (part.empty()) fail(ErrorCode::kIo, "{} ended its reply in the middle", address_.text());
  left_ -= part.size();
  if (left_ == 0 && framing_ == Framing::kLength) done_ = true;
  if (left_ == 0 && framing_ == Framing::kChunks) read_line();
  return part;
}

std::string HttpClient::read_all() {
  std::string body;
  for (std::string part = read_some(); !part.empty(); part = read_some()) body += part;
  return body;
}

std::vector<std::string> EventReader::feed(std::string_view bytes) {
  buffer_ += bytes;
  std::vector<std::string> events;
  size_t begin = 0;
  for (size_t end = 0; (end = buffer_.find("\n\n", begin)) != std::string::npos; begin = end + 2) {
    const std::string_view event = std::string_view(buffer_).substr(begin, end - begin);
    if (event.starts_with("data: ")) events.emplace_back(event.substr(6));
  }
  buffer_.erase(0, begin);
  return events;
}

}  // namespace vl2::cli
