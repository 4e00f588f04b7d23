#include "apps/server/api_server.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "apps/server/api_error.h"
#include "apps/server/peer.h"
#include "apps/server/request_log.h"

namespace vl2::server {
namespace {

constexpr std::chrono::milliseconds kLastWords{5000};
constexpr size_t kLongestId = 128;

void reply_error(HttpExchange& exchange, const ApiError& error, RequestNotes& notes) {
  notes.error = error.what();
  if (exchange.status() != 0) return;  // a stream that has begun says it itself
  if (error.retry_after() > 0) exchange.add_header("Retry-After", std::to_string(error.retry_after()));
  exchange.reply(error.status(), "application/json; charset=utf-8", dump_json(error_json(error, notes.errors)));
}

// What stands in place of the pattern's *, or nothing where the path is another one.
std::optional<std::string> match(std::string_view pattern, std::string_view path) {
  if (!pattern.ends_with('*')) return path == pattern ? std::optional<std::string>("") : std::nullopt;
  pattern.remove_suffix(1);
  if (path.size() <= pattern.size() || !path.starts_with(pattern)) return std::nullopt;
  return std::string(path.substr(pattern.size()));
}

std::string_view without_version(std::string_view path) {
  if (path == "/v1") return "/";
  return path.starts_with("/v1/") ? path.substr(3) : path;
}

std::string methods_of(std::string_view path) {
  std::string methods;
  for (const Route& route : routes())
    if (match(route.path, path))
      methods += std::string(route.method == "GET" ? "GET, HEAD" : route.method) + ", OPTIONS";
  return methods;
}

// In whose shape errors are told: the route says it; of routes that are not there, their neighbours do. Anthropic's
// client shares some routes with the others, and is known by a header of its own.
ErrorStyle error_style(const HttpHead& head, std::string_view path) {
  for (const Route& route : routes())
    if (route.errors != ErrorStyle::kOpenAi && match(route.path, path)) return route.errors;
  if (path.starts_with("/api/")) return ErrorStyle::kOllama;
  const bool anthropic = path.starts_with("/messages/") || !head.header("anthropic-version").empty();
  return anthropic ? ErrorStyle::kAnthropic : ErrorStyle::kOpenAi;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= kLongestId && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("-_.:").find(c) != std::string_view::npos;
  });
}

ApiServer::ApiServer(ServerOptions options)
    : context_(std::move(options)),
      http_(
          context_.options().http, [this](HttpExchange& exchange) { handle(exchange); },
          [this](HttpExchange& exchange, const Error& error) { reject(exchange, error); }) {
  context_.set_transport([this] {
    return TransportCounts{http_.connections(), context_.options().http.connections, http_.threads()};
  });
}

ApiServer::~ApiServer() { stop(); }

void ApiServer::start() { http_.start(context_.options().host, context_.options().port); }

bool ApiServer::drain(std::chrono::milliseconds time) {
  context_.drain();
  return http_.drain(time);
}

void ApiServer::stop() {
  context_.drain();
  context_.stop();
  http_.drain(kLastWords);
  http_.stop();
}

void ApiServer::handle(HttpExchange& exchange) {
  const auto start = std::chrono::steady_clock::now();
  RequestNotes notes;
  const std::string_view given = exchange.head().header("x-request-id");
  notes.id = is_request_id(given) ? std::string(given) : context_.new_id("req-");
  notes.peer = client_address(exchange.head(), exchange.peer(), context_.options().behind_proxy);
  exchange.add_header("x-request-id", notes.id);
  try {
    dispatch(exchange, notes);
  } catch (const Error& error) {
    reply_error(exchange, to_api_error(error), notes);
  } catch (const std::bad_alloc&) {
    reply_error(exchange, ApiError(503, "out of memory; try again in a moment", "out_of_memory"), notes);
  } catch (const std::exception& error) {
    reply_error(exchange, ApiError(500, error.what()), notes);
  }
  const double seconds = seconds_since(start);
  context_.metrics().count_request(notes.route, status_of(exchange), seconds);
  log(exchange, notes, seconds);
}

void ApiServer::dispatch(HttpExchange& exchange, RequestNotes& notes) {
  const HttpHead& head = exchange.head();
  const std::string_view path = without_version(head.path);
  const std::string methods = methods_of(path);
  notes.errors = error_style(head, path);
  notes.route = "other";  // what nobody asked for must not make metrics without end
  context_.cors().apply(exchange, methods);
  if (methods.empty())
    throw ApiError(404, fmt::format("there is no {} here; docs/server.md lists what there is", head.path),
                   "unknown_url");
  if (head.method == "OPTIONS") {
    exchange.add_header("Allow", methods);
    return exchange.reply(204, "", "");
  }
  for (const Route& route : routes()) {
    std::optional<std::string> tail = match(route.path, path);
    if (!tail || (route.method != head.method && !(route.method == "GET" && head.method == "HEAD"))) continue;
    notes.route = route.path;
    if (!route.open) notes.key = context_.check_client(head);
    // Asking what there is is free, and so is what monitors ask.
    if (route.method == "POST" && context_.limiter().any()) limit(exchange, notes);
    RouteCall call{context_, exchange, notes, std::move(*tail)};
    return route.answer(call);
  }
  exchange.add_header("Allow", methods);
  throw ApiError(405, fmt::format("{} takes {}, not {}", head.path, methods, head.method), "method_not_allowed");
}

void ApiServer::limit(HttpExchange& exchange, RequestNotes& notes) {
  notes.limited_as = notes.key.empty() ? address_group(notes.peer) : notes.key;
  exchange.on_reply([&] {
    for (auto& [name, value] : context_.limiter().headers(notes.limited_as)) exchange.add_header(name, value);
  });
  context_.limiter().take_request(notes.limited_as);
}

void ApiServer::reject(HttpExchange& exchange, const Error& error) {
  RequestNotes notes;
  notes.id = context_.new_id("req-");
  notes.route = "unreadable";
  notes.peer = exchange.peer();
  exchange.add_header("x-request-id", notes.id);
  reply_error(exchange, to_api_error(error), notes);
  context_.metrics().count_request(notes.route, exchange.status(), 0);
  log(exchange, notes, 0);
}

void ApiServer::log(const HttpExchange& exchange, const RequestNotes& notes, double seconds) const {
  if (context_.options().log) context_.options().log(request_line(exchange, notes, seconds));
}

}  // namespace vl2::server
