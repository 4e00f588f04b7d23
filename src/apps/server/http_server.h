// Accepts connections and runs the handler, a thread for each connection up to a bound. HTTP/1.1 with keep-alive;
// TLS is a proxy's work. Why no library: docs/decisions/0017-own-http.md.
//
// start(), drain() and stop() belong to one thread; the handler runs on many.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apps/server/http_exchange.h"
#include "core/base/error.h"

namespace vl2::server {

class HttpServer {
 public:
  // Answers the exchange, and does not throw. What it leaves unanswered is answered 500.
  using Handler = std::function<void(HttpExchange&)>;
  // Answers a request that could not be read; as above.
  using RejectHandler = std::function<void(HttpExchange&, const Error&)>;

  HttpServer(HttpLimits limits, Handler handler, RejectHandler reject);
  ~HttpServer();  // stop()
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Port 0: one that is free. Returns once connections are accepted. kInvalidArgument, kIo.
  void start(const std::string& host, int port);
  int port() const { return port_; }

  // Accepts nothing more, lets go of connections without a request, and waits for the others. False: some are left
  // when the time is up.
  bool drain(std::chrono::milliseconds time);
  // Drain without patience: connections are cut.
  void stop();

  size_t connections() const;  // at most limits.connections, as is the next
  size_t threads() const;

 private:
  void accept_loop();
  struct Accepted {
    int descriptor;
    std::string peer;
  };
  void take(Accepted accepted);
  void work();
  void serve(Accepted accepted);
  bool serve_one(Connection& connection);
  bool begin_request(Connection& connection);
  void close_listener();

  const HttpLimits limits_;
  const Handler handler_;
  const RejectHandler reject_;
  int listener_ = -1, waker_ = -1, port_ = 0;
  std::thread acceptor_;
  std::atomic<size_t> bodies_{0};

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Accepted> accepted_;  // without a thread yet
  std::vector<std::thread> threads_;
  std::map<Connection*, bool> open_;  // and whether a request is under way
  size_t idle_threads_ = 0, serving_ = 0;
  bool draining_ = false;
};

}  // namespace vl2::server
