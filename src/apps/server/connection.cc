#include "apps/server/connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "apps/server/api_error.h"

namespace vl2::server {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;

ApiError timed_out() { return {408, "the request did not arrive in time"}; }
ApiError cut_off() { return {400, "malformed HTTP request: the connection ended in the middle of it"}; }

}  // namespace

Connection::Connection(int descriptor, std::string peer) : descriptor_(descriptor), peer_(std::move(peer)) {
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL, 0) | O_NONBLOCK);
  const int on = 1;
  ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

Connection::~Connection() { ::close(descriptor_); }

bool Connection::wait(short events, Clock::time_point deadline) const {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd entry{descriptor_, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30)));
    if (ready > 0) return true;
    if (ready == 0 && left <= 0) return false;
    if (ready < 0 && errno != EINTR) return true;  // the read or write will say
  }
}

bool Connection::fill(Clock::time_point deadline) {
  std::array<char, kReadBytes> bytes;
  while (true) {
    const ssize_t count = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (count > 0) {
      buffer_.append(bytes.data(), static_cast<size_t>(count));
      return true;
    }
    if (count == 0) return false;
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
    if (!wait(POLLIN, deadline)) throw timed_out();
  }
}

bool Connection::wait_for_request(std::chrono::milliseconds time) {
  if (!buffer_.empty()) return true;
  try {
    return fill(Clock::now() + time);
  } catch (const ApiError&) {
    return false;
  }
}

std::optional<std::string> Connection::read_through(std::string_view end, size_t most, Clock::time_point deadline) {
  size_t searched = 0;
  while (true) {
    const size_t at = buffer_.find(end, searched);
    if (at != std::string::npos && at + end.size() <= most) {
      std::string result = buffer_.substr(0, at + end.size());
      buffer_.erase(0, result.size());
      taken_ += result.size();
      return result;
    }
    if (buffer_.size() > most || at != std::string::npos)
      throw ApiError(431, fmt::format("the request's head is longer than {} bytes", most));
    searched = buffer_.size() - std::min(buffer_.size(), end.size() - 1);
    if (!fill(deadline)) {
      if (buffer_.empty()) return std::nullopt;
      throw cut_off();
    }
  }
}

std::string Connection::read_some(size_t most, Clock::time_point deadline) {
  if (buffer_.empty() && !fill(deadline)) throw cut_off();
  taken_ += std::min(buffer_.size(), most);
  if (buffer_.size() <= most) return std::exchange(buffer_, {});
  std::string result = buffer_.substr(0, most);
  buffer_.erase(0, most);
  return result;
}

bool Connection::write_all(std::string_view bytes, std::chrono::milliseconds stall_time) {
  while (!bytes.empty()) {
    const ssize_t count = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
      written_ += static_cast<size_t>(count);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait(POLLOUT, Clock::now() + stall_time)) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool Connection::peer_gone() const {
  pollfd entry{descriptor_, POLLRDHUP, 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Connection::linger(std::chrono::milliseconds time) {
  ::shutdown(descriptor_, SHUT_WR);
  const Clock::time_point deadline = Clock::now() + time;
  try {
    while (Clock::now() < deadline && fill(deadline)) buffer_.clear();
  } catch (const ApiError&) {
  }
}

void Connection::wake() { ::shutdown(descriptor_, SHUT_RD); }
void Connection::abort() { ::shutdown(descriptor_, SHUT_RDWR); }

}  // namespace vl2::server
