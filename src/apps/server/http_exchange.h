// One request and its reply: the handler reads the body when it wants it and answers once, whole or as events.
//
// Lives on the stack of the connection's thread; that thread alone uses it.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/server/connection.h"
#include "apps/server/http_message.h"

namespace vl2::server {

class HttpExchange {
 public:
  // `bodies`: bytes of bodies that all exchanges hold together. All must outlive the exchange.
  HttpExchange(Connection& connection, HttpHead head, const HttpLimits& limits, std::atomic<size_t>& bodies);
  ~HttpExchange();
  HttpExchange(const HttpExchange&) = delete;
  HttpExchange& operator=(const HttpExchange&) = delete;

  const HttpHead& head() const { return head_; }
  // Reads it, once; the caller owns it. ApiError: 400 broken chunks, 408, 413, 503 when all bodies take too much.
  std::string take_body();
  // What was made of the body is gone, too: others may have its room.
  void release_body();

  // Headers of the reply to come.
  void add_header(std::string name, std::string value);
  // Called once, right before the reply's head is written: for headers that say how things stand then.
  void on_reply(std::function<void()> add) { on_reply_ = std::move(add); }
  void reply(int status, std::string_view content_type, std::string_view body);
  // Server-sent events, or lines of JSON: begin, any number of writes, end. False: nobody reads any more. A connection
  // that is not ended is closed, which tells the client that something is missing.
  bool begin_events(std::string_view content_type = "text/event-stream; charset=utf-8");
  bool write_events(std::string_view bytes);
  void end_events();

  bool client_gone() const { return gone_ || connection_.peer_gone(); }
  const std::string& peer() const { return connection_.peer(); }
  size_t bytes_in() const { return head_.bytes + connection_.bytes_taken() - taken_before_; }
  size_t bytes_out() const { return connection_.bytes_written() - written_before_; }
  int status() const { return status_; }  // 0: not answered yet
  bool streaming() const { return streaming_; }
  // The connection can take another request: this one is read and answered whole.
  bool reusable() const { return head_.keep_alive && complete_ && !unread_body(); }
  bool unread_body() const { return head_.has_body() && !body_taken_; }
  void close_after() { head_.keep_alive = false; }

 private:
  void hold(size_t bytes);
  std::string read_sized(Connection::Clock::time_point deadline);
  std::string read_chunks(Connection::Clock::time_point deadline);
  std::string read_line(Connection::Clock::time_point deadline);
  std::string reply_head(int status, std::string_view content_type) const;
  bool send(std::string_view bytes);

  Connection& connection_;
  HttpHead head_;
  const HttpLimits& limits_;
  std::atomic<size_t>& bodies_;
  const size_t taken_before_, written_before_;
  size_t held_ = 0;
  std::function<void()> on_reply_;
  std::vector<std::pair<std::string, std::string>> headers_;
  int status_ = 0;
  bool body_taken_ = false, body_begun_ = false, streaming_ = false, complete_ = false, gone_ = false;
};

}  // namespace vl2::server
