#include "apps/server/http_exchange.h"

#include <algorithm>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/http_head.h"

namespace vl2::server {
namespace {

constexpr size_t kLongestChunkLine = 1024, kMostTrailerBytes = size_t{8} << 10;

}  // namespace

HttpExchange::HttpExchange(Connection& connection, HttpHead head, const HttpLimits& limits, std::atomic<size_t>& bodies)
    : connection_(connection),
      head_(std::move(head)),
      limits_(limits),
      bodies_(bodies),
      taken_before_(connection.bytes_taken()),
      written_before_(connection.bytes_written()) {}

HttpExchange::~HttpExchange() { release_body(); }

void HttpExchange::release_body() { bodies_ -= std::exchange(held_, 0); }

void HttpExchange::hold(size_t bytes) {
  if (held_ + bytes > limits_.body_bytes)
    throw ApiError(413, fmt::format("the body has more than {} bytes, the most that is read here", limits_.body_bytes),
                   "request_too_large");
  held_ += bytes;
  if ((bodies_ += bytes) > limits_.bodies_bytes)
    throw ApiError(503, "too many large requests at a time; try again in a moment", "overloaded");
}

std::string HttpExchange::take_body() {
  if (body_taken_ || body_begun_) return {};
  body_begun_ = true;
  if (head_.content_length > static_cast<int64_t>(limits_.body_bytes))
    throw ApiError(
        413, fmt::format("the body has {} bytes; at most {} are read here", head_.content_length, limits_.body_bytes),
        "request_too_large");
  if (head_.has_body() && head_.expects_continue && !send("HTTP/1.1 100 Continue\r\n\r\n")) return {};
  const auto deadline = Connection::Clock::now() + limits_.body_time;
  std::string body = head_.chunked ? read_chunks(deadline) : read_sized(deadline);
  body_taken_ = true;
  return body;
}

std::string HttpExchange::read_sized(Connection::Clock::time_point deadline) {
  std::string body;
  auto left = static_cast<size_t>(head_.content_length);
  while (left > 0) {
    // Held as it arrives: a length alone must not take room from others.
    const std::string part =
        connection_.read_some(left, std::min(deadline, Connection::Clock::now() + limits_.stall_time));
    hold(part.size());
    body += part;
    left -= part.size();
  }
  return body;
}

std::string HttpExchange::read_line(Connection::Clock::time_point deadline) {
  deadline = std::min(deadline, Connection::Clock::now() + limits_.stall_time);
  const auto line = connection_.read_through("\r\n", kLongestChunkLine, deadline);
  if (!line) throw ApiError(400, "malformed HTTP request: the connection ended in the middle of it");
  return line->substr(0, line->size() - 2);
}

std::string HttpExchange::read_chunks(Connection::Clock::time_point deadline) {
  std::string body;
  while (true) {
    size_t left = parse_chunk_size(read_line(deadline));
    if (left == 0) break;
    if (body.size() + left > limits_.body_bytes) hold(limits_.body_bytes + 1);  // says no
    while (left > 0) {
      const std::string part =
          connection_.read_some(left, std::min(deadline, Connection::Clock::now() + limits_.stall_time));
      hold(part.size());
      body += part;
      left -= part.size();
    }
    if (!read_line(deadline).empty()) throw ApiError(400, "malformed HTTP request: a chunk longer than its size");
  }
  // Trailers mean nothing here.
  for (size_t bytes = 0; bytes < kMostTrailerBytes;) {
    const std::string line = read_line(deadline);
    if (line.empty()) return body;
    check_trailer(line);
    bytes += line.size();
  }
  throw ApiError(431, "the trailers of the chunked body are too long");
}

void HttpExchange::add_header(std::string name, std::string value) {
  headers_.emplace_back(std::move(name), std::move(value));
}

std::string HttpExchange::reply_head(int status, std::string_view content_type) const {
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  if (!content_type.empty()) text += fmt::format("Content-Type: {}\r\n", content_type);
  for (const auto& [name, value] : headers_) text += fmt::format("{}: {}\r\n", name, value);
  text += "X-Content-Type-Options: nosniff\r\n";
  if (!head_.keep_alive || unread_body())
    text += "Connection: close\r\n";
  else if (head_.minor_version == 0)
    text += "Connection: keep-alive\r\n";
  return text;
}

bool HttpExchange::send(std::string_view bytes) {
  if (!gone_ && !connection_.write_all(bytes, limits_.stall_time)) gone_ = true;
  return !gone_;
}

void HttpExchange::reply(int status, std::string_view content_type, std::string_view body) {
  VL2_CHECK(status_ == 0, "a request is answered once");
  if (on_reply_) on_reply_();
  status_ = status;
  std::string text = reply_head(status, content_type);
  if (status != 204 && status != 304) text += fmt::format("Content-Length: {}\r\n", body.size());
  text += "\r\n";
  if (head_.method != "HEAD") text += body;
  complete_ = send(text);
}

bool HttpExchange::begin_events(std::string_view content_type) {
  VL2_CHECK(status_ == 0, "a request is answered once");
  if (on_reply_) on_reply_();
  status_ = 200;
  streaming_ = true;
  if (head_.minor_version == 0) head_.keep_alive = false;  // no chunks: the end is the end of the connection
  std::string text = reply_head(200, content_type);
  text += "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n";
  if (head_.minor_version == 1) text += "Transfer-Encoding: chunked\r\n";
  return send(text + "\r\n");
}

bool HttpExchange::write_events(std::string_view bytes) {
  if (bytes.empty()) return !gone_;
  if (head_.minor_version == 0) return send(bytes);
  return send(fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes));
}

void HttpExchange::end_events() { complete_ = head_.minor_version == 0 ? !gone_ : send("0\r\n\r\n"); }

}  // namespace vl2::server
