#include "apps/server/http_head.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "apps/server/api_error.h"
#include "core/text/utf8.h"

namespace vl2::server {
namespace {

constexpr size_t kLongestTarget = 8192, kLongestMethod = 16;
// Said twice, these mean whatever the reader likes.
constexpr std::array<std::string_view, 9> kOnce = {"host",   "content-length", "transfer-encoding",
                                                   "expect", "authorization",  "x-api-key",
                                                   "origin", "content-type",   "content-encoding"};

[[noreturn]] void malformed(const std::string& what) { throw ApiError(400, "malformed HTTP request: " + what); }

bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = lower(c);
  return result;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char l = lower(c);
  return l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
}

// Takes the line up to CRLF off `rest`.
std::string_view take_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  if (end == rest.npos || end == 0 || rest[end - 1] != '\r') malformed("lines must end with CR LF");
  const std::string_view line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  if (line.find('\r') != line.npos) malformed("a bare CR");
  return line;
}

void parse_target(std::string_view target, HttpHead& head) {
  if (target.size() > kLongestTarget) throw ApiError(414, "the request's target is longer than 8192 bytes");
  for (const char c : target)
    if (static_cast<unsigned char>(c) <= 0x20 || static_cast<unsigned char>(c) >= 0x7f)
      malformed("the target has a byte that must be percent-encoded");
  if (target == "*" && head.method == "OPTIONS") target = "/";
  for (const std::string_view scheme : {"http://", "https://"})
    if (target.size() >= scheme.size() && equal_ignoring_case(target.substr(0, scheme.size()), scheme)) {
      const size_t slash = target.find('/', scheme.size());
      target = slash == target.npos ? std::string_view("/") : target.substr(slash);
      break;
    }
  if (target.empty() || target.front() != '/') malformed("the target must begin with /");
  target = target.substr(0, target.find('#'));
  const size_t question = target.find('?');
  head.path = percent_decode(target.substr(0, question));
  if (question != target.npos) head.query = target.substr(question + 1);
}

void parse_request_line(std::string_view line, HttpHead& head) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == line.npos || first == last) malformed("expected \"METHOD /path HTTP/1.1\"");
  head.method = line.substr(0, first);
  if (!is_token(head.method) || head.method.size() > kLongestMethod) malformed("the method is no token");
  const std::string_view version = line.substr(last + 1);
  if (version.size() != 8 || version.substr(0, 5) != "HTTP/") malformed("expected \"METHOD /path HTTP/1.1\"");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") throw ApiError(505, "this server speaks HTTP/1.1 and HTTP/1.0");
  head.minor_version = version.back() - '0';
  parse_target(line.substr(first + 1, last - first - 1), head);
}

bool has_header(const HttpHead& head, std::string_view name) {
  return std::any_of(head.headers.begin(), head.headers.end(), [&](const auto& h) { return h.first == name; });
}

void check_controls(std::string_view text, const char* where) {
  for (const char c : text)
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
      malformed(fmt::format("a control character in a {}", where));
}

// A name in lower case and a value.
std::pair<std::string, std::string_view> split_header(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') malformed("a folded header");
  const size_t colon = line.find(':');
  if (colon == line.npos || !is_token(line.substr(0, colon))) malformed("a header without a proper name");
  const std::string_view value = trim(line.substr(colon + 1));
  check_controls(value, "header");
  return {lower(line.substr(0, colon)), value};
}

void parse_header(std::string_view line, HttpHead& head) {
  auto [name, value] = split_header(line);
  if (std::find(kOnce.begin(), kOnce.end(), name) != kOnce.end() && has_header(head, name))
    malformed("two headers " + name);
  head.headers.emplace_back(std::move(name), value);
}

bool has_token(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (equal_ignoring_case(trim(list.substr(0, comma)), token)) return true;
    if (comma == list.npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

void read_framing(HttpHead& head) {
  const bool sized = has_header(head, "content-length"), coded = has_header(head, "transfer-encoding");
  if (sized && coded) malformed("both Content-Length and Transfer-Encoding");
  if (coded) {
    if (head.minor_version == 0) malformed("Transfer-Encoding in HTTP/1.0");
    if (!equal_ignoring_case(head.header("transfer-encoding"), "chunked"))
      throw ApiError(501, "the only transfer coding is \"chunked\"");
    head.chunked = true;
  } else if (sized) {
    const std::string_view digits = head.header("content-length");
    if (digits.empty() || digits.size() > 18 || digits.find_first_not_of("0123456789") != digits.npos)
      malformed("Content-Length is no number");
    std::from_chars(digits.data(), digits.data() + digits.size(), head.content_length);
  } else if (head.method == "POST" || head.method == "PUT") {
    throw ApiError(411, "a POST needs a Content-Length or a chunked body");
  }
  const std::string_view coding = head.header("content-encoding");
  if (!coding.empty() && !equal_ignoring_case(coding, "identity"))
    throw ApiError(415, "compressed bodies are not read; send it without Content-Encoding");
}

}  // namespace

std::string_view HttpHead::header(std::string_view name) const {
  for (const auto& [key, value] : headers)
    if (key == name) return value;
  return {};
}

HttpHead parse_http_head(std::string_view text, const HttpLimits& limits) {
  HttpHead head;
  parse_request_line(take_line(text), head);
  while (true) {
    const std::string_view line = take_line(text);
    if (line.empty()) break;
    if (head.headers.size() >= limits.headers) throw ApiError(431, fmt::format("more than {} headers", limits.headers));
    parse_header(line, head);
  }
  const auto hosts =
      std::count_if(head.headers.begin(), head.headers.end(), [](const auto& h) { return h.first == "host"; });
  if (hosts > 1 || (hosts == 0 && head.minor_version == 1)) malformed("expected one Host header");
  read_framing(head);
  const std::string_view connection = head.header("connection");
  head.keep_alive = head.minor_version == 1 ? !has_token(connection, "close") : has_token(connection, "keep-alive");
  const std::string_view expect = head.header("expect");
  if (!expect.empty() && !equal_ignoring_case(expect, "100-continue"))
    throw ApiError(417, "the only expectation is 100-continue");
  head.expects_continue = !expect.empty() && head.minor_version == 1;
  return head;
}

size_t parse_chunk_size(std::string_view line) {
  check_controls(line, "chunk's size line");
  const size_t extension = line.find(';');
  std::string_view digits = line.substr(0, extension);
  while (extension != line.npos && (digits.ends_with(' ') || digits.ends_with('\t'))) digits.remove_suffix(1);
  if (digits.empty() || digits.size() > 8) malformed("a chunk's size is no hexadecimal number");
  size_t size = 0;
  for (const char c : digits) {
    if (hex_value(c) < 0) malformed("a chunk's size is no hexadecimal number");
    size = size * 16 + static_cast<size_t>(hex_value(c));
  }
  return size;
}

void check_trailer(std::string_view line) { split_header(line); }

std::string percent_decode(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low < 0 || high * 16 + low == 0) malformed("a broken percent escape in the target");
    result += static_cast<char>(high * 16 + low);
    i += 2;
  }
  if (!is_valid_utf8(result)) malformed("the target is not UTF-8");
  return result;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

const char* reason_phrase(int status) {
  struct Phrase {
    int status;
    const char* text;
  };
  constexpr std::array kPhrases = {
      Phrase{200, "OK"},
      Phrase{204, "No Content"},
      Phrase{304, "Not Modified"},
      Phrase{400, "Bad Request"},
      Phrase{401, "Unauthorized"},
      Phrase{403, "Forbidden"},
      Phrase{404, "Not Found"},
      Phrase{405, "Method Not Allowed"},
      Phrase{408, "Request Timeout"},
      Phrase{411, "Length Required"},
      Phrase{413, "Content Too Large"},
      Phrase{414, "URI Too Long"},
      Phrase{415, "Unsupported Media Type"},
      Phrase{417, "Expectation Failed"},
      Phrase{429, "Too Many Requests"},
      Phrase{431, "Request Header Fields Too Large"},
      Phrase{500, "Internal Server Error"},
      Phrase{501, "Not Implemented"},
      Phrase{503, "Service Unavailable"},
      Phrase{505, "HTTP Version Not Supported"},
  };
  for (const Phrase& phrase : kPhrases)
    if (phrase.status == status) return phrase.text;
  return "Status";
}

}  // namespace vl2::server
