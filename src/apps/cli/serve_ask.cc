#include "apps/cli/serve_ask.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/base64.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/image/encode.h"

namespace vl2::cli {
namespace {

using nlohmann::json;

constexpr int64_t kPatches = 40, kLongestWord = 7;

double milliseconds(ServeClock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

[[noreturn]] void refused(const std::string& what, const std::string& body) {
  const json reply = json::parse(body, nullptr, false);
  const bool known = reply.is_object() && reply.contains("error") && reply["error"].is_object() &&
                     reply["error"].value("message", json()).is_string();
  fail(ErrorCode::kInvalidArgument, "the server {}: {}", what,
       known ? reply["error"]["message"].get<std::string>() : body.substr(0, 200));
}

void read_event(const json& event, ServeClock::time_point now, ServeAnswer& answer) {
  if (event.contains("error")) refused("ended an answer with an error", event.dump());
  if (const auto choices = event.find("choices"); choices != event.end())
    for (const json& choice : *choices)
      if (choice.contains("delta") && !choice["delta"].value("content", std::string()).empty()) {
        answer.arrivals.push_back(now);
        const json logprobs = choice.value("logprobs", json());
        const bool counted = logprobs.is_object() && logprobs.contains("content");
        answer.tokens.push_back(counted ? static_cast<int64_t>(logprobs["content"].size()) : 1);
      }
  if (const auto usage = event.find("usage"); usage != event.end() && usage->is_object()) {
    answer.prompt_tokens = usage->value("prompt_tokens", int64_t{0});
    answer.completion_tokens = usage->value("completion_tokens", int64_t{0});
    answer.cached_tokens = usage->value("prompt_tokens_details", json::object()).value("cached_tokens", int64_t{0});
  }
  if (const auto timings = event.find("timings"); timings != event.end() && timings->is_object()) {
    answer.tiles = timings->value("tiles", int64_t{0});
    answer.vision_step_ms = timings->value("vision_step_ms", 0.0);
    answer.prefill_step_ms = timings->value("prefill_step_ms", 0.0);
    answer.longest_pause_ms = timings->value("longest_pause_ms", 0.0);
  }
}

}  // namespace

std::string ServeQuestion::body() const {
  json content = json::array();
  if (!picture.empty()) content.push_back({{"type", "image_url"}, {"image_url", {{"url", picture}}}});
  content.push_back({{"type", "text"}, {"text", text}});
  json request = {{"messages", {{{"role", "user"}, {"content", std::move(content)}}}},
                  {"stream", true},
                  {"stream_options", {{"include_usage", true}}},
                  {"max_tokens", max_tokens},
                  {"ignore_eos", true},
                  {"temperature", temperature},
                  {"seed", seed >> 12}};  // servers take signed numbers
  if (count_tokens) request["logprobs"] = true;
  return request.dump();
}

double ServeAnswer::first_token_ms() const {
  return milliseconds((arrivals.empty() ? ended : arrivals.front()) - sent);
}

std::vector<double> ServeAnswer::gaps_ms() const { return gaps_ms(sent, ended); }

std::vector<double> ServeAnswer::gaps_ms(ServeClock::time_point begin, ServeClock::time_point end) const {
  std::vector<double> gaps;
  for (size_t i = 1; i < arrivals.size(); ++i)
    if (tokens[i] == 1 && arrivals[i] > begin && arrivals[i - 1] < end)
      gaps.push_back(milliseconds(arrivals[i] - arrivals[i - 1]));
  return gaps;
}

std::vector<double> ServeAnswer::gaps_before_ms(ServeClock::time_point end) const {
  std::vector<double> gaps;
  for (size_t i = 1; i < arrivals.size() && arrivals[i] <= end; ++i)
    if (tokens[i] == 1) gaps.push_back(milliseconds(arrivals[i] - arrivals[i - 1]));
  return gaps;
}

HttpClient::Headers Server::headers() const {
  if (key.empty()) return {};
  return {{"Authorization", "Bearer " + key}};
}

ServeAnswer Server::ask(const ServeQuestion& question, const std::atomic<bool>* stop) const {
  const std::string body = question.body();
  ServeAnswer answer;
  HttpClient client(address);
  answer.sent = ServeClock::now();
  client.send("POST", "/chat/completions", body, headers());
  const int status = client.read_status();
  if (status != 200) refused(fmt::format("answered {}", status), client.read_all());
  EventReader events;
  while (stop == nullptr || !*stop) {
    const std::string part = client.read_some();
    const ServeClock::time_point now = answer.ended = ServeClock::now();
    if (part.empty()) break;
    for (const std::string& event : events.feed(part)) {
      if (event == "[DONE]")
        answer.whole = true;
      else
        read_event(json::parse(event), now, answer);
    }
  }
  if (!answer.whole && (stop == nullptr || !*stop))
    fail(ErrorCode::kIo, "{} ended an answer in the middle", address.text());
  return answer;
}

std::map<std::string, double> Server::metrics() const {
  HttpClient client(address);
  client.send("GET", "/metrics", "", headers());
  const int status = client.read_status();
  const std::string text = client.read_all();
  if (status != 200) refused(fmt::format("answered {}", status), text);
  std::map<std::string, double> numbers;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.find(' ');
    if (line.starts_with('#') || space == line.npos || line.find('{') != line.npos) continue;
    double value = 0;
    if (std::from_chars(line.data() + space + 1, line.data() + line.size(), value).ec == std::errc())
      numbers[line.substr(0, space)] = value;
  }
  return numbers;
}

int64_t Server::count_tokens(const std::string& text) const {
  HttpClient client(address);
  client.send("POST", "/tokenize", json{{"content", text}}.dump(), headers());
  const int status = client.read_status();
  const std::string reply = client.read_all();
  if (status != 200) refused(fmt::format("answered {}", status), reply);
  return static_cast<int64_t>(json::parse(reply).at("tokens").size());
}

std::string random_picture(ImageSize size, uint64_t seed) {
  Random random(seed);
  const auto colour = [&] { return static_cast<uint8_t>(random.below(256)); };
  Image image = make_image(size.width, size.height, colour(), colour(), colour());
  for (int64_t i = 0; i < kPatches; ++i) {
    const int64_t x = random.below(size.width), y = random.below(size.height);
    const int64_t right = std::min(size.width, x + 1 + random.below(size.width / 4 + 1));
    const int64_t bottom = std::min(size.height, y + 1 + random.below(size.height / 4 + 1));
    const uint8_t red = colour(), green = colour(), blue = colour();
    for (int64_t row = y; row < bottom; ++row)
      for (int64_t column = x; column < right; ++column) {
        uint8_t* pixel = image.row(row) + 3 * column;
        pixel[0] = red;
        pixel[1] = green;
        pixel[2] = blue;
      }
  }
  return "data:image/png;base64," + encode_base64(encode_png(image, PngEffort::kFast));
}

std::string random_words(int64_t count, uint64_t seed) {
  Random random(seed);
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    for (int64_t letters = 1 + random.below(kLongestWord); letters > 0; --letters)
      text += static_cast<char>('a' + random.below(26));
  }
  return text;
}

}  // namespace vl2::cli
