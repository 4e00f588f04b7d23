// Bodies of requests through every route, and what comes back: apps/server, in front of an engine that is told what to
// answer.
//
// Input: a byte for the route, a byte with the number of the answer's tokens, these (told_engine.h), and the body.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "apps/server/api_server.h"
#include "core/text/utf8.h"
#include "fuzz/fuzz.h"
#include "fuzz/told_engine.h"

namespace vl2::server {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 13> kPaths = {"/v1/chat/completions",
                                                     "/v1/completions",
                                                     "/v1/responses",
                                                     "/v1/messages",
                                                     "/api/chat",
                                                     "/api/generate",
                                                     "/tokenize",
                                                     "/detokenize",
                                                     "/v1/images/plan",
                                                     "/apply-template",
                                                     "/api/show",
                                                     "/v1/messages/count_tokens",
                                                     "/v1/responses/input_tokens"};
constexpr size_t kMostBody = 32768;

ServerOptions options() {
  ServerOptions result;
  result.model_ids = {"told"};
  result.max_picture_pixels = 1'000'000;
  result.http.stall_time = std::chrono::milliseconds(20'000);
  result.log = [](std::string_view line) { VL2_HOLDS(json::accept(line) && line.find('\n') == line.npos, "{}", line); };
  return result;
}

// The reply to a POST.
std::string ask(ApiServer& server, std::string_view path, std::string_view body) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
  if (::send(ends[0], body.data(), body.size(), MSG_DONTWAIT) != static_cast<ssize_t>(body.size())) std::abort();
  std::string reply;
  std::thread reader([&] {  // replies are longer than what a socket holds
    std::array<char, 65536> bytes;
    for (ssize_t count = 0; (count = ::recv(ends[0], bytes.data(), bytes.size(), 0)) > 0;)
      reply.append(bytes.data(), static_cast<size_t>(count));
  });
  {
    Connection connection(ends[1]);
    std::atomic<size_t> bodies{0};
    HttpHead head;
    head.method = "POST";
    head.path = path;
    head.content_length = static_cast<int64_t>(body.size());
    {
      HttpExchange exchange(connection, std::move(head), server.context().options().http, bodies);
      server.handle(exchange);
      VL2_HOLDS(exchange.status() != 0, "{} was not answered", body);
      VL2_HOLDS(exchange.reusable(), "{} left something behind", body);
    }
    VL2_HOLDS(bodies == 0, "{} bytes are held", bodies.load());
  }
  reader.join();
  ::close(ends[0]);
  return reply;
}

struct Reply {
  int status = 0;
  std::string head, body;
  bool events = false, lines = false;
};

std::string unchunked(std::string_view rest) {
  std::string body;
  while (true) {
    const size_t end = rest.find("\r\n");
    VL2_HOLDS(end != rest.npos, "{}", rest);
    const size_t count = std::stoul(std::string(rest.substr(0, end)), nullptr, 16);
    rest.remove_prefix(end + 2);
    VL2_HOLDS(rest.size() >= count + 2 && rest.substr(count, 2) == "\r\n", "{}", rest);
    body += rest.substr(0, count);
    rest.remove_prefix(count + 2);
    if (count == 0) break;
  }
  VL2_HOLDS(rest.empty(), "{}", rest);
  return body;
}

Reply parse(const std::string& text) {
  Reply reply;
  const size_t end = text.find("\r\n\r\n");
  VL2_HOLDS(text.starts_with("HTTP/1.1 ") && end != std::string::npos, "{}", text);
  reply.status = std::stoi(text.substr(9, 3));
  reply.head = text.substr(0, end + 2);
  reply.body = text.substr(end + 4);
  reply.events = reply.head.find("Content-Type: text/event-stream") != std::string::npos;
  reply.lines = reply.head.find("Content-Type: application/x-ndjson") != std::string::npos;
  if (reply.head.find("Transfer-Encoding: chunked\r\n") != std::string::npos) {
    reply.body = unchunked(reply.body);
  } else {
    const std::string length = fmt::format("Content-Length: {}\r\n", reply.body.size());
    VL2_HOLDS(reply.head.find(length) != std::string::npos, "{}", text);
  }
  VL2_HOLDS(is_valid_utf8(reply.body), "{}", reply.body);
  return reply;
}

// The values of a stream, and whether it ended as such streams do.
struct Events {
  std::vector<json> values;
  bool done = false;
};

Events events_of(const Reply& reply) {
  Events result;
  const std::string_view separator = reply.events ? "\n\n" : "\n";
  std::string_view rest = reply.body;
  while (!rest.empty()) {
    const size_t end = rest.find(separator);
    VL2_HOLDS(end != rest.npos, "{}", rest);
    std::string_view event = rest.substr(0, end);
    rest.remove_prefix(end + separator.size());
    if (reply.events) {
      if (event.starts_with("event: ")) event.remove_prefix(std::min(event.size(), event.find('\n') + 1));
      if (event.starts_with(": ping")) continue;
      VL2_HOLDS(event.starts_with("data: "), "{}", event);
      event.remove_prefix(6);
    }
    VL2_HOLDS(event.find('\n') == event.npos, "{}", event);
    if (event == "[DONE]") {
      VL2_HOLDS(rest.empty(), "{}", rest);
      result.done = true;
      continue;
    }
    VL2_HOLDS(json::accept(event), "{}", event);
    result.values.push_back(json::parse(event));
  }
  return result;
}

// Text of each choice in one value of any API: a piece of a stream or a whole reply.
void add_text(const json& v, std::map<size_t, std::string>& out) {
  const auto add = [&](size_t i, const json& text) {
    if (text.is_string()) out[i] += text.get_ref<const std::string&>();
  };
  if (v.contains("choices")) {
    for (const json& choice : v.at("choices")) {
      const auto i = choice.at("index").get<size_t>();
      if (choice.contains("text")) add(i, choice.at("text"));
      for (const char* key : {"delta", "message"})
        if (choice.contains(key)) add(i, choice.at(key).value("content", json()));
    }
  } else if (v.value("type", "") == "response.output_text.delta") {
    add(0, v.at("delta"));
  } else if (v.value("type", "") == "content_block_delta") {
    add(0, v.at("delta").at("text"));
  } else if (v.value("object", "") == "response") {
    for (const json& item : v.at("output"))
      for (const json& part : item.at("content")) add(0, part.at("text"));
  } else if (v.value("type", "") == "message") {
    for (const json& part : v.at("content")) add(0, part.at("text"));
  } else if (v.contains("message") && v.contains("done")) {
    add(0, v.at("message").at("content"));
  } else if (v.contains("response") && v.contains("done")) {
    add(0, v.at("response"));
  }
}

void check_error(std::string_view path, const json& v) {
  VL2_HOLDS(v.contains("error"), "{}", v.dump());
  const json& error = v.at("error");
  if (path.starts_with("/api/")) {
    VL2_HOLDS(error.is_string() && !error.empty(), "{}", v.dump());
    return;
  }
  VL2_HOLDS(error.at("message").is_string() && error.at("type").is_string(), "{}", v.dump());
  VL2_HOLDS(path.starts_with("/v1/messages") ? v.at("type") == "error" : error.size() == 4, "{}", v.dump());
}

void check_answers(const std::map<size_t, std::string>& texts, const fuzz::Script& script, bool echo,
                   const std::string& body) {
  size_t i = 0;
  for (const Answer& answer : script.answers) {
    const auto at = texts.find(i++);
    const std::string text = at == texts.end() ? "" : at->second;
    VL2_HOLDS(echo ? text.ends_with(answer.text) : text == answer.text, "\"{}\" was \"{}\" for {}", text, answer.text,
              body);
  }
}

void check_stops(const json& request, const fuzz::Script& script) {
  std::vector<json> stops;
  for (const char* key : {"stop", "stop_sequences"}) {
    const json stop = request.value(key, json());
    if (stop.is_string()) stops.push_back(stop);
    if (stop.is_array()) stops.insert(stops.end(), stop.begin(), stop.end());
  }
  for (const Answer& answer : script.answers)
    for (const json& stop : stops)
      if (stop.is_string() && !stop.get<std::string>().empty())
        VL2_HOLDS(answer.text.find(stop.get<std::string>()) == std::string::npos, "{} in {}", stop.dump(), answer.text);
}

void check(std::string_view path, const Reply& reply, const fuzz::Script& script, const std::string& body) {
  bool failed = false;
  for (const Answer& answer : script.answers) failed |= answer.finish == FinishReason::kError;
  VL2_HOLDS(reply.status == 200 || (reply.status >= 400 && reply.status < 500) || failed, "{} {}", reply.status,
            reply.body);
  if (reply.status != 200) return check_error(path, json::parse(reply.body));
  const json request = json::parse(body);  // nothing else is answered with 200
  VL2_HOLDS(request.is_object(), "{}", body);
  if (failed) {  // an answer with an error must say so
    VL2_HOLDS(reply.events || reply.lines, "{}", reply.body);
    VL2_HOLDS(reply.body.find("\"error\"") != std::string::npos, "{}", reply.body);
    events_of(reply);
    return;
  }
  std::map<size_t, std::string> texts;
  if (reply.events || reply.lines) {
    const Events events = events_of(reply);
    VL2_HOLDS(!path.ends_with("completions") || events.done, "{}", reply.body);
    for (const json& value : events.values) add_text(value, texts);
  } else {
    VL2_HOLDS(json::accept(reply.body), "{}", reply.body);
    add_text(json::parse(reply.body), texts);
  }
  const json echo = request.value("echo", json());
  check_answers(texts, script, path == "/v1/completions" && echo == true, body);
  if (path != "/api/chat" && path != "/api/generate") check_stops(request, script);
}

}  // namespace
}  // namespace vl2::server

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vl2::server;
  static vl2::fuzz::Script script;
  static ApiServer server(options());
  static const bool ready = [] {
    server.set_engine(vl2::fuzz::make_told_engine(script));
    return true;
  }();
  vl2::fuzz::Input input(data, size);
  const std::string_view path = kPaths[input.byte() % kPaths.size()];
  script.tokens = input.bytes(input.byte());
  script.answers.clear();
  const std::string body(input.rest());
  if (!ready || body.size() > kMostBody) return 0;
  check(path, parse(ask(server, path, body)), script, body);
  return 0;
}
