// The server: HTTP in front, the routes, the engine behind. What `vl2 serve` runs and tests hold in their hands.
//
//   ApiServer server(options);
//   server.start();                            // answers 503 until there is a model
//   server.set_engine(Engine::open(...));
//   server.drain(30s);                         // then the destructor
//
// One thread owns it; requests run on threads of their own.
#pragma once

#include <chrono>
#include <memory>

#include "apps/server/context.h"
#include "apps/server/http_server.h"
#include "apps/server/route.h"

namespace vl2::server {

class ApiServer {
 public:
  explicit ApiServer(ServerOptions options);
  ~ApiServer();  // cancels what is unfinished

  void start();  // kInvalidArgument, kIo: the address
  int port() const { return http_.port(); }
  void set_engine(std::shared_ptr<Engine> engine) { context_.set_engine(std::move(engine)); }

  // New requests are refused from now on. Waits until the others are answered; false: some are not when time is up.
  bool drain(std::chrono::milliseconds time);
  // Ends what runs, each with an error, and everything else.
  void stop();

  // Answers one request, whatever it is. Any thread; what connections call.
  void handle(HttpExchange& exchange);

  ServerContext& context() { return context_; }
  const HttpServer& http() const { return http_; }

 private:
  void reject(HttpExchange& exchange, const Error& error);
  void dispatch(HttpExchange& exchange, RequestNotes& notes);
  void limit(HttpExchange& exchange, RequestNotes& notes);
  void log(const HttpExchange& exchange, const RequestNotes& notes, double seconds) const;

  ServerContext context_;
  HttpServer http_;
};

// Of an x-request-id a client may choose: letters, digits and -_.:, at most 128.
bool is_request_id(std::string_view text);

}  // namespace vl2::server
