#include "apps/server/http_server.h"

#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/http_head.h"
#include "apps/server/peer.h"

namespace vl2::server {
namespace {

constexpr int kBacklog = 128;
constexpr std::chrono::milliseconds kLinger{2000};

std::string full_reply() {
  const std::string body =
      dump_json(error_json(ApiError(503, "too many connections; try again in a moment", "overloaded")));
  return fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 1\r\n"
      "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
      body.size(), body);
}

struct Addresses {
  addrinfo* first = nullptr;
  ~Addresses() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

int listen_on(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  Addresses found;
  const int failed = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found.first);
  if (failed != 0)
    fail(ErrorCode::kInvalidArgument, "cannot listen on \"{}\": {}; give an address of this machine such as 127.0.0.1",
         host, ::gai_strerror(failed));
  int error = 0;
  for (const addrinfo* a = found.first; a != nullptr; a = a->ai_next) {
    const int descriptor = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) {
      error = errno;
      continue;
    }
    const int on = 1;
    ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(descriptor, a->ai_addr, a->ai_addrlen) == 0 && ::listen(descriptor, kBacklog) == 0) return descriptor;
    error = errno;
    ::close(descriptor);
  }
  fail(ErrorCode::kIo, "cannot listen on {} port {}: {}{}", host, port, std::strerror(error),
       error == EADDRINUSE ? "; choose another with --port" : "");
}

int port_of(int descriptor) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  std::array<char, NI_MAXSERV> service{};
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, service.data(), service.size(),
                    NI_NUMERICSERV) != 0)
    return 0;
  return std::atoi(service.data());
}

}  // namespace

HttpServer::HttpServer(HttpLimits limits, Handler handler, RejectHandler reject)
    : limits_(limits), handler_(std::move(handler)), reject_(std::move(reject)) {}

HttpServer::~HttpServer() { stop(); }

void HttpServer::start(const std::string& host, int port) {
  VL2_CHECK(listener_ < 0, "started twice");
  listener_ = listen_on(host, port);
  port_ = port_of(listener_);
  waker_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (waker_ < 0) fail(ErrorCode::kIo, "cannot make an eventfd: {}", std::strerror(errno));
  acceptor_ = std::thread([this] { accept_loop(); });
}

void HttpServer::accept_loop() {
  while (true) {
    std::array<pollfd, 2> entries = {pollfd{listener_, POLLIN, 0}, pollfd{waker_, POLLIN, 0}};
    if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    sockaddr_storage peer = {};
    socklen_t size = sizeof(peer);
    const int descriptor = ::accept4(listener_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC);
    if (descriptor >= 0) {
      take({descriptor, address_text(peer, size)});
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      ::poll(&entries[1], 1, 50);  // nothing is free: try again in a while
    }
  }
}

void HttpServer::take(Accepted accepted) {
  const int descriptor = accepted.descriptor;
  std::unique_lock lock(mutex_);
  const bool full = serving_ + accepted_.size() >= limits_.connections;
  try {
    if (!full) {
      if (idle_threads_ <= accepted_.size() && threads_.size() < limits_.connections)
        threads_.emplace_back([this] { work(); });
      accepted_.push_back(std::move(accepted));
      changed_.notify_all();
      return;
    }
  } catch (const std::system_error&) {  // no more threads: as good as full
  }
  lock.unlock();
  const std::string reply = full_reply();
  (void)::send(descriptor, reply.data(), reply.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(descriptor, SHUT_WR);
  ::close(descriptor);
}

void HttpServer::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_threads_;
    changed_.wait(lock, [&] { return !accepted_.empty() || draining_; });
    --idle_threads_;
    if (accepted_.empty()) return;
    Accepted next = std::move(accepted_.front());
    accepted_.pop_front();
    ++serving_;
    lock.unlock();
    serve(std::move(next));
    lock.lock();
    --serving_;
    changed_.notify_all();
  }
}

void HttpServer::serve(Accepted accepted) {
  Connection connection(accepted.descriptor, std::move(accepted.peer));
  {
    const std::lock_guard lock(mutex_);
    open_.emplace(&connection, false);
    if (draining_) connection.abort();
  }
  try {
    while (serve_one(connection)) {
    }
  } catch (const std::exception&) {  // of memory: this connection ends, the others go on
  }
  const std::lock_guard lock(mutex_);
  open_.erase(&connection);
}

// A request has begun to arrive. False: too late for that.
bool HttpServer::begin_request(Connection& connection) {
  const std::lock_guard lock(mutex_);
  open_.at(&connection) = !draining_;
  return !draining_;
}

bool HttpServer::serve_one(Connection& connection) {
  // With most connections taken, nobody keeps one for later.
  const bool crowded = connections() * 4 > limits_.connections * 3;
  if (!connection.wait_for_request(crowded ? std::chrono::milliseconds(1000) : limits_.idle_time)) return false;
  if (!begin_request(connection)) return false;
  std::string text;
  HttpHead head;
  try {
    const auto deadline = Connection::Clock::now() + limits_.head_time;
    const auto read = connection.read_through("\r\n\r\n", limits_.head_bytes, deadline);
    if (!read) return false;
    head = parse_http_head(*read, limits_);
    head.bytes = read->size();
  } catch (const Error& error) {
    HttpHead unread;
    unread.keep_alive = false;
    HttpExchange exchange(connection, std::move(unread), limits_, bodies_);
    reject_(exchange, error);
    connection.linger(kLinger);
    return false;
  }
  HttpExchange exchange(connection, std::move(head), limits_, bodies_);
  {
    const std::lock_guard lock(mutex_);
    if (draining_ || crowded) exchange.close_after();
  }
  handler_(exchange);
  if (exchange.status() == 0 && !exchange.client_gone())
    reject_(exchange, Error(ErrorCode::kInternal, "the request was not answered"));
  if (exchange.reusable()) {
    const std::lock_guard lock(mutex_);
    open_.at(&connection) = false;
    return !draining_;
  }
  if (!exchange.client_gone()) connection.linger(kLinger);
  return false;
}

bool HttpServer::drain(std::chrono::milliseconds time) {
  if (acceptor_.joinable()) {
    const uint64_t one = 1;
    (void)!::write(waker_, &one, sizeof(one));
    acceptor_.join();
    close_listener();
  }
  std::unique_lock lock(mutex_);
  draining_ = true;
  for (const auto& [connection, busy] : open_)
    if (!busy) connection->wake();
  changed_.notify_all();
  return changed_.wait_for(lock, time, [&] { return serving_ == 0 && accepted_.empty(); });
}

void HttpServer::stop() {
  drain(std::chrono::milliseconds(0));
  std::vector<std::thread> threads;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [connection, busy] : open_) connection->abort();
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void HttpServer::close_listener() {
  ::close(listener_);
  ::close(waker_);
  listener_ = waker_ = -1;
}

size_t HttpServer::connections() const {
  const std::lock_guard lock(mutex_);
  return serving_ + accepted_.size();
}

size_t HttpServer::threads() const {
  const std::lock_guard lock(mutex_);
  return threads_.size();
}

}  // namespace vl2::server
