// One accepted socket: reads with deadlines, writes that give up on a client that does not read.
//
// Owns the descriptor. One thread at a time, except for wake() and abort(), which any thread may call while it lives.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace vl2::server {

class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  // Makes it non-blocking, without Nagle's delay. `peer`: the address of the other end, for logs and limits.
  explicit Connection(int descriptor, std::string peer = "");
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // True once there is something to read; false: the client closed, the time is up, or wake() was called.
  bool wait_for_request(std::chrono::milliseconds time);
  // Everything through the first occurrence of `end`. nullopt: the client closed before a byte came.
  // ApiError: 408 at the deadline, 431 when it is not within `most` bytes, 400 when the client closed in between.
  std::optional<std::string> read_through(std::string_view end, size_t most, Clock::time_point deadline);
  // At most `most` bytes, at least one. ApiError: 408 at the deadline, 400 when the client closed.
  std::string read_some(size_t most, Clock::time_point deadline);

  // False: the client is gone, or took nothing for `stall_time`.
  bool write_all(std::string_view bytes, std::chrono::milliseconds stall_time);
  // The client has closed its side. Clients that close one half and still read are taken for gone.
  bool peer_gone() const;
  // Ends a reply the client may not have asked for yet: half-closes and throws away what it still sends for a moment,
  // because a close with unread bytes would reset the connection and could take the reply with it.
  void linger(std::chrono::milliseconds time);

  const std::string& peer() const { return peer_; }
  size_t bytes_taken() const { return taken_; }      // by whoever reads, since the connection began
  size_t bytes_written() const { return written_; }  // to the socket

  void wake();   // ends wait_for_request()
  void abort();  // ends everything

 private:
  bool wait(short events, Clock::time_point deadline) const;
  bool fill(Clock::time_point deadline);  // false: the client closed

  int descriptor_;
  const std::string peer_;
  std::string buffer_;  // read and not taken yet
  size_t taken_ = 0, written_ = 0;
};

}  // namespace vl2::server
