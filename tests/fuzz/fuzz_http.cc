// The bytes of a connection as requests: heads, sized and chunked bodies, one after the other. apps/server/http_head,
// http_exchange, connection.
//
// Input: a byte that says where the stream is cut into what arrives together, and the stream. What is read must not
// depend on the cuts, and must be what a second, simple reader below finds in the stream.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <vector>

#include "apps/server/api_error.h"
#include "apps/server/connection.h"
#include "apps/server/http_exchange.h"
#include "apps/server/http_head.h"
#include "core/base/random.h"
#include "core/text/utf8.h"
#include "fuzz/fuzz.h"

namespace vl2::server {
namespace {

constexpr size_t kMostStream = 16384, kMostPackets = 100;

HttpLimits limits() {
  HttpLimits result;
  result.head_bytes = 2048;
  result.headers = 16;
  result.body_bytes = 4096;
  result.stall_time = std::chrono::milliseconds(50);
  return result;
}

struct Read {
  int status = 0;  // 200, or of the error that ended the connection
  HttpHead head;
  std::string body;
};

// A socket on which the stream arrives in these pieces: SOCK_SEQPACKET keeps them apart.
class Stream {
 public:
  explicit Stream(const std::vector<std::string_view>& pieces) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) std::abort();
    ours_ = ends[0];
    theirs_ = ends[1];
    for (const std::string_view piece : pieces)
      if (::send(ours_, piece.data(), piece.size(), MSG_DONTWAIT) != static_cast<ssize_t>(piece.size())) std::abort();
    ::shutdown(ours_, SHUT_WR);
  }
  ~Stream() { ::close(ours_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  int theirs() const { return theirs_; }  // the connection's to close

 private:
  int ours_ = -1, theirs_ = -1;
};

// As HttpServer::serve_one() reads.
std::vector<Read> read_all(const std::vector<std::string_view>& pieces) {
  const HttpLimits limit = limits();
  const Stream stream(pieces);
  Connection connection(stream.theirs());
  std::atomic<size_t> bodies{0};
  std::vector<Read> result;
  while (true) {
    Read& one = result.emplace_back();
    try {
      const auto text =
          connection.read_through("\r\n\r\n", limit.head_bytes, Connection::Clock::now() + limit.head_time);
      if (!text) break;
      one.head = parse_http_head(*text, limit);
      HttpExchange exchange(connection, one.head, limit, bodies);
      one.body = exchange.take_body();
      VL2_HOLDS(!exchange.unread_body(), "{}", *text);
      one.status = 200;
    } catch (const ApiError& error) {
      one.status = error.status();
      break;
    }
    VL2_HOLDS(bodies == 0, "{} bytes are held", bodies.load());
    if (!one.head.keep_alive) break;
  }
  return result;
}

std::vector<std::string_view> cut(std::string_view stream, Random random) {
  std::vector<std::string_view> pieces;
  while (!stream.empty()) {
    const int64_t longest = pieces.size() < kMostPackets ? 1 + random.below(64) : kMostStream;
    pieces.push_back(stream.substr(0, static_cast<size_t>(1 + random.below(longest))));
    if (pieces.size() >= kMostPackets) pieces.back() = stream;
    stream.remove_prefix(pieces.back().size());
  }
  return pieces;
}

int hex(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const size_t at = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c);
  return at == kDigits.npos ? -1 : static_cast<int>(at);
}

// The second reader: chunks as RFC 9112 has them, and nothing else.
std::optional<std::string> plain_chunks(std::string_view& rest) {
  const auto line = [&]() -> std::optional<std::string_view> {
    const size_t end = rest.find("\r\n");
    if (end == rest.npos || rest.substr(0, end).find_first_of(std::string_view("\r\n\0", 3)) != rest.npos)
      return std::nullopt;
    const std::string_view result = rest.substr(0, end);
    rest.remove_prefix(end + 2);
    return result;
  };
  std::string body;
  while (true) {
    const auto head = line();
    if (!head) return std::nullopt;
    size_t digits = 0, count = 0;
    for (; digits < head->size() && hex((*head)[digits]) >= 0; ++digits)
      count = count * 16 + static_cast<size_t>(hex((*head)[digits]));
    std::string_view extension = head->substr(digits);
    while (extension.starts_with(' ') || extension.starts_with('\t')) extension.remove_prefix(1);
    if (digits == 0 || digits > 8 || (digits < head->size() && !extension.starts_with(';'))) return std::nullopt;
    if (count == 0) break;
    if (rest.size() < count + 2 || rest.substr(count, 2) != "\r\n") return std::nullopt;
    body += rest.substr(0, count);
    rest.remove_prefix(count + 2);
  }
  while (true) {
    const auto trailer = line();
    if (!trailer) return std::nullopt;
    if (trailer->empty()) return body;
  }
}

void check_head(const HttpHead& head, std::string_view text) {
  VL2_HOLDS(text.find('\0') == text.npos, "{}", text);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') VL2_HOLDS(i > 0 && text[i - 1] == '\r', "{}", text);
    if (text[i] == '\r') VL2_HOLDS(i + 1 < text.size() && text[i + 1] == '\n', "{}", text);
  }
  VL2_HOLDS(text.find("\r\n ") == text.npos && text.find("\r\n\t") == text.npos, "{}", text);
  VL2_HOLDS(head.path.starts_with('/') && is_valid_utf8(head.path), "{}", text);
  VL2_HOLDS(head.path.find('\0') == std::string::npos, "{}", text);
  const auto count = [&](std::string_view name) {
    return std::count_if(head.headers.begin(), head.headers.end(), [&](const auto& h) { return h.first == name; });
  };
  VL2_HOLDS(count("content-length") + count("transfer-encoding") <= 1, "{}", text);
  VL2_HOLDS(count("host") == 1 || (count("host") == 0 && head.minor_version == 0), "{}", text);
  VL2_HOLDS(count("authorization") <= 1 && count("x-api-key") <= 1 && count("origin") <= 1, "{}", text);
  VL2_HOLDS(head.headers.size() <= limits().headers, "{}", text);
  VL2_HOLDS(!head.chunked || head.minor_version == 1, "{}", text);
  for (const auto& [name, value] : head.headers) {
    VL2_HOLDS(!name.empty() && name.find_first_of(" \t:") == std::string::npos, "{}", text);
    for (const std::string& one : {name, value})
      VL2_HOLDS(one.find_first_of(std::string_view("\r\n\0\x7f", 4)) == std::string::npos, "{}", text);
  }
}

// Every request that was read stands in the stream, one behind the other.
void check(const std::vector<Read>& reads, std::string_view rest) {
  for (const Read& one : reads) {
    if (one.status != 200) return;
    const size_t end = rest.find("\r\n\r\n");
    VL2_HOLDS(end != rest.npos, "{}", rest);
    check_head(one.head, rest.substr(0, end + 4));
    rest.remove_prefix(end + 4);
    if (one.head.chunked) {
      const auto body = plain_chunks(rest);
      VL2_HOLDS(body && *body == one.body, "{}", one.body);
    } else {
      const auto length = static_cast<size_t>(one.head.content_length);
      VL2_HOLDS(one.body.size() == length && rest.substr(0, length) == one.body, "{} of {}", one.body, rest);
      rest.remove_prefix(length);
    }
    VL2_HOLDS(one.body.size() <= limits().body_bytes, "{}", one.body.size());
  }
}

}  // namespace
}  // namespace vl2::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vl2::server;
  vl2::fuzz::Input input(data, size);
  const vl2::Random random(input.byte());
  const std::string_view stream = input.rest();
  if (stream.empty() || stream.size() > kMostStream) return 0;
  const std::vector<Read> reads = read_all({stream});
  check(reads, stream);
  const std::vector<Read> again = read_all(cut(stream, random));
  VL2_HOLDS(again.size() == reads.size(), "{} and {} requests", again.size(), reads.size());
  for (size_t i = 0; i < reads.size(); ++i) {
    VL2_HOLDS(again[i].status == reads[i].status, "{} and {}", again[i].status, reads[i].status);
    VL2_HOLDS(again[i].body == reads[i].body && again[i].head.path == reads[i].head.path, "request {}", i);
  }
  return 0;
}
