#include "load/crowd.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>

#include "apps/cli/serve_ask.h"
#include "core/base/base64.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/test_data.h"
#include "load/malformed.h"

namespace vl2::load_test {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr const char* kChat = "/v1/chat/completions";
constexpr std::chrono::seconds kPatience{120};
constexpr milliseconds kDawdled{400};
constexpr int kSmallestWindow = 2048;

// The connection ended before there was a status.
class NotTaken : public std::exception {};

const char* name_of(Act act) {
  constexpr std::array kNames = {"whole",     "stream",    "leave", "cut body",  "slow",
                                 "half open", "malformed", "huge",  "wrong key", "watch"};
  return kNames[static_cast<size_t>(act)];
}

// A server that has heard enough answers and stops reading: what it says can be read all the same.
void send_quietly(cli::HttpClient& client, std::string_view bytes) {
  try {
    client.send_raw(bytes);
  } catch (const Error&) {
  }
}

int status_of(cli::HttpClient& client) {
  try {
    return client.read_status();
  } catch (const Error&) {
    throw NotTaken();
  }
}

void linger_none(const cli::HttpClient& client) {
  const linger none = {1, 0};  // a reset instead of a proper end
  ::setsockopt(client.descriptor(), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

void sleep_up_to(milliseconds time, Random& random) {
  std::this_thread::sleep_for(milliseconds(random.below(time.count() + 1)));
}

}  // namespace

Crowd::Crowd(CrowdOptions options, Tally& tally) : options_(std::move(options)), tally_(tally) {
  const std::filesystem::path examples = std::filesystem::path(source_dir()) / "examples";
  for (const char* name : {"2-three-shapes.png", "5-wide.png", "6-small-landscape.png"})
    pictures_.push_back("data:image/png;base64," + encode_base64(read_file(examples / name)));
}

void Crowd::run(Clock::time_point until, const std::atomic<bool>& server_ends) {
  std::vector<std::thread> threads;
  for (int64_t c = 0; c < options_.clients; ++c)
    threads.emplace_back([this, c, until, &server_ends] {
      for (int64_t n = 0; Clock::now() < until; ++n) {
        Visit one = {fmt::format("c{}-{}", c, n),
                     Random(splitmix64(options_.seed + (static_cast<uint64_t>(c) << 20)) + static_cast<uint64_t>(n)),
                     until};
        const Act act = options_.acts[static_cast<size_t>(one.random.below(std::ssize(options_.acts)))];
        try {
          visit(act, one);
        } catch (const NotTaken&) {
          // Fine at the end, when nobody has begun to read it, and where a crowded server waited in vain: it lets go of
          // connections that are silent for a second.
          const bool dawdled = one.sent - one.begun > kDawdled;
          if (!server_ends && !dawdled)
            tally_.violation(fmt::format("{} ({}): not answered at all", one.id, name_of(act)));
          tally_.count("not taken");
        } catch (const Error& error) {
          tally_.violation(fmt::format("{} ({}): {}", one.id, name_of(act), error.what()));
        }
        if (server_ends) return;
      }
    });
  for (std::thread& thread : threads) thread.join();
}

void Crowd::expect(bool holds, const Visit& visit, const std::string& what) {
  if (!holds) tally_.violation(visit.id + ": " + what);
}

cli::HttpClient::Headers Crowd::headers(const Visit& visit) const {
  cli::HttpClient::Headers headers = {{"x-request-id", visit.id}};
  if (!options_.key.empty()) headers.emplace_back("Authorization", "Bearer " + options_.key);
  return headers;
}

std::unique_ptr<cli::HttpClient> Crowd::connect(Visit& visit, int receive_bytes) const {
  visit.begun = Clock::now();
  try {
    return std::make_unique<cli::HttpClient>(options_.server, kPatience, receive_bytes);
  } catch (const Error&) {
    throw NotTaken();
  }
}

std::string Crowd::head_of(const Visit& visit, const std::string& more) const {
  std::string head = fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n", kChat);
  for (const auto& [name, value] : headers(visit)) head += fmt::format("{}: {}\r\n", name, value);
  return head + more + "\r\n\r\n";
}

void Crowd::send(Visit& visit, cli::HttpClient& client, std::string_view bytes) {
  send_quietly(client, bytes);
  visit.sent = Clock::now();
}

// The status of a request that must not be good; nothing where it was turned away at the door.
std::optional<int> Crowd::refusal(cli::HttpClient& client, const Visit& visit) {
  const int status = status_of(client);
  if (turned_away(status, client, visit)) return std::nullopt;
  tally_.count(fmt::format("answered: {}", status));
  return status;
}

void Crowd::visit(Act act, Visit& visit) {
  tally_.count(std::string("did: ") + name_of(act));
  switch (act) {
    case Act::kCutBody:
      return cut_body(visit);
    case Act::kHalfOpen:
      return half_open(visit);
    case Act::kMalformed:
      return malformed(visit);
    case Act::kHuge:
      return huge(visit);
    case Act::kWrongKey:
      return wrong_key(visit);
    case Act::kWatch:
      return watch(visit);
    default:
      return ask(act, visit);
  }
}

std::string Crowd::question(Act act, Visit& visit, bool& stream) const {
  Random& random = visit.random;
  json content = json::array();
  for (int64_t pictures = random.below(3); pictures > 0; --pictures)
    content.push_back({{"type", "image_url"},
                       {"image_url", {{"url", pictures_[static_cast<size_t>(random.below(std::ssize(pictures_)))]}}}});
  content.push_back({{"type", "text"}, {"text", cli::random_words(1 + random.below(12), random.next())}});
  stream = act == Act::kStream || act == Act::kSlow || (act == Act::kLeave && random.below(2) == 0);
  json body = {{"messages", {{{"role", "user"}, {"content", std::move(content)}}}},
               {"max_tokens", 1 + random.below(options_.longest_answer)},
               {"ignore_eos", random.below(2) == 0},
               {"temperature", random.below(2)},
               {"seed", random.next() >> 12},
               {"stream", stream}};
  if (act == Act::kSlow) {  // more than all buffers on the way
    body["max_tokens"] = 4 * options_.longest_answer;
    body["ignore_eos"] = true;
    body["logprobs"] = true;
    body["top_logprobs"] = 20;
  }
  return body.dump();
}

bool Crowd::turned_away(int status, cli::HttpClient& client, const Visit& visit) {
  if (status != 429 && status != 503) return false;
  expect(!client.header("retry-after").empty(), visit, fmt::format("{} without Retry-After", status));
  tally_.count(fmt::format("answered: {}", status));
  return true;
}

void Crowd::ask(Act act, Visit& visit) {
  bool stream = false;
  const std::string body = question(act, visit, stream);
  const auto client = connect(visit, act == Act::kSlow ? kSmallestWindow : 0);
  send(visit, *client, head_of(visit, fmt::format("Content-Length: {}", body.size())) + body);
  if (act == Act::kLeave && visit.random.below(3) == 0) {
    tally_.left(visit.id);
    return sleep_up_to(milliseconds(100), visit.random);
  }
  const int status = status_of(*client);
  if (turned_away(status, *client, visit)) {
    client->read_all();
    return sleep_up_to(options_.longest_pause, visit.random);
  }
  tally_.count(fmt::format("answered: {}", status));
  if (status != 200) {
    expect(false, visit, fmt::format("a good request was answered {}: {}", status, client->read_all().substr(0, 200)));
    return;
  }
  if (act == Act::kSlow) return read_slowly(visit, *client);
  read_reply(act, visit, *client, stream);
}

void Crowd::read_reply(Act act, Visit& visit, cli::HttpClient& client, bool stream) {
  const int64_t leaves_after = act == Act::kLeave ? visit.random.below(4000) : INT64_MAX;
  cli::EventReader reader;
  std::string text, last;
  while (static_cast<int64_t>(text.size()) <= leaves_after) {
    const std::string part = client.read_some();
    if (part.empty()) break;
    text += part;
    if (stream)
      for (std::string& event : reader.feed(part)) last = std::move(event);
  }
  if (act == Act::kLeave) {
    tally_.left(visit.id);
    if (visit.random.below(2) == 0) linger_none(client);
    return;
  }
  if (!stream) {
    const json reply = json::parse(text, nullptr, false);
    const bool good = reply.is_object() && reply.contains("choices") && reply["choices"].size() == 1 &&
                      reply["choices"][0].value("finish_reason", json()).is_string() && reply.contains("usage");
    expect(good, visit, "a reply that is no completion: " + text.substr(0, 200));
    tally_.count("ended: whole reply");
  } else if (last == "[DONE]") {
    tally_.count("ended: whole stream");
  } else {
    expect(last.find("\"error\"") != std::string::npos, visit, "a stream ended without [DONE] or an error: " + last);
    tally_.count("ended: error event");
    return;
  }
  tally_.whole(visit.id);
}

void Crowd::read_slowly(Visit& visit, cli::HttpClient& client) {
  tally_.left(visit.id);
  const auto until =
      std::min(visit.until, Clock::now() + milliseconds(visit.random.below(options_.longest_visit.count() + 1)));
  try {
    while (Clock::now() < until) {
      if (client.read_some(8).empty()) return tally_.count("ended: whole slow stream");
      std::this_thread::sleep_for(milliseconds(250));
    }
    tally_.count("ended: slow reader left");
  } catch (const Error&) {
    tally_.count("ended: slow reader was let go");
  }
}

void Crowd::cut_body(Visit& visit) {
  bool stream = false;
  const std::string body = question(Act::kCutBody, visit, stream);
  tally_.left(visit.id);
  const auto client = connect(visit);
  send(visit, *client,
       head_of(visit, fmt::format("Content-Length: {}", body.size())) +
           body.substr(0, static_cast<size_t>(visit.random.below(std::ssize(body)))));
  sleep_up_to(milliseconds(300), visit.random);
  if (visit.random.below(2) == 0) linger_none(*client);
}

void Crowd::half_open(Visit& visit) {
  const auto until =
      std::min(visit.until, Clock::now() + milliseconds(visit.random.below(options_.longest_visit.count() + 1)));
  const auto client = connect(visit);
  if (visit.random.below(2) == 0) send(visit, *client, fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nContent-Le", kChat));
  if (visit.random.below(3) == 0) ::shutdown(client->descriptor(), SHUT_WR);
  std::this_thread::sleep_until(until);
}

void Crowd::malformed(Visit& visit) {
  const std::vector<MalformedRequest>& all = malformed_requests();
  const MalformedRequest& one = all[static_cast<size_t>(visit.random.below(std::ssize(all)))];
  const auto client = connect(visit);
  send(visit, *client,
       one.head.empty() ? head_of(visit, fmt::format("Content-Length: {}", one.body.size())) + one.body
                        : one.head + one.body);
  if (const auto status = refusal(*client, visit))
    expect(*status == one.status, visit,
           fmt::format("{} was answered {}: {}", one.name, *status, client->read_all().substr(0, 200)));
}

void Crowd::huge(Visit& visit) {
  const bool chunked = visit.random.below(2) == 0;
  const std::string half(options_.body_limit / 2, ' ');
  const auto client = connect(visit);
  send(visit, *client,
       head_of(visit, chunked ? std::string("Transfer-Encoding: chunked")
                              : fmt::format("Content-Length: {}", 3 * half.size())));
  for (int i = 0; i < 3; ++i) send(visit, *client, chunked ? fmt::format("{:x}\r\n{}\r\n", half.size(), half) : half);
  if (const auto status = refusal(*client, visit))
    expect(*status == 413, visit, fmt::format("a body over the limit was answered {}", *status));
}

void Crowd::wrong_key(Visit& visit) {
  const auto client = connect(visit);
  send(visit, *client,
       fmt::format("POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\nContent-Length: 2"
                   "\r\n\r\n{{}}",
                   kChat));
  if (const auto status = refusal(*client, visit))
    expect(*status == 401, visit, fmt::format("a wrong key was answered {}", *status));
}

void Crowd::watch(Visit& visit) {
  constexpr std::array kPlaces = {"/health", "/metrics", "/v1/models"};
  const auto client = connect(visit);
  std::string head =
      fmt::format("GET {} HTTP/1.1\r\nHost: x\r\n", kPlaces[static_cast<size_t>(visit.random.below(kPlaces.size()))]);
  for (const auto& [name, value] : headers(visit)) head += fmt::format("{}: {}\r\n", name, value);
  send(visit, *client, head + "\r\n");
  if (const auto status = refusal(*client, visit))
    expect(*status == 200 && !client->read_all().empty(), visit, fmt::format("was answered {}", *status));
}

}  // namespace vl2::load_test
