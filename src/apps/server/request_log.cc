#include "apps/server/request_log.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <span>

namespace vl2::server {
namespace {

using nlohmann::ordered_json;

ordered_json line_of(std::string_view event) {
  return {{"time", format_time(std::chrono::system_clock::now())}, {"event", event}};
}

std::string dump_line(const ordered_json& line) {
  return line.dump(-1, ' ', true, ordered_json::error_handler_t::replace);
}

double rounded(double ms) { return std::round(ms * 1000) / 1000; }

}  // namespace

int status_of(const HttpExchange& exchange) { return exchange.status() != 0 ? exchange.status() : 499; }

std::string format_time(std::chrono::system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time - whole).count();
  const auto seconds = static_cast<std::time_t>(whole.time_since_epoch().count());
  std::tm parts = {};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, ms);
}

std::string request_line(const HttpExchange& exchange, const RequestNotes& notes, double seconds) {
  ordered_json line = line_of("request");
  line["id"] = notes.id;
  line["method"] = exchange.head().method;
  line["route"] = notes.route;
  line["status"] = status_of(exchange);
  line["peer"] = notes.peer;
  if (!notes.key.empty()) line["key"] = notes.key;
  line["ms"] = rounded(seconds * 1000);
  line["bytes_in"] = exchange.bytes_in();
  line["bytes_out"] = exchange.bytes_out();
  if (exchange.streaming()) line["stream"] = true;
  if (notes.answers > 0) {
    line["answers"] = notes.answers;
    line["prompt_tokens"] = notes.prompt_tokens;
    line["cached_tokens"] = notes.cached_tokens;
    line["image_tokens"] = notes.image_tokens;
    line["tiles"] = notes.tiles;
    line["completion_tokens"] = notes.completion_tokens;
    line["queue_ms"] = rounded(notes.queue_ms);
    line["vision_ms"] = rounded(notes.vision_ms);
    line["prefill_ms"] = rounded(notes.prefill_ms);
    line["first_token_ms"] = rounded(notes.first_token_ms);
    line["decode_ms"] = rounded(notes.decode_ms);
    line["longest_pause_ms"] = rounded(notes.longest_pause_ms);
  }
  if (!notes.finish.empty()) line["finish"] = notes.finish;
  // Of failures of ours alone: messages about requests may quote them.
  if (!notes.error.empty() && (exchange.status() >= 500 || exchange.streaming())) line["error"] = notes.error;
  if (!notes.prompts.empty()) line["prompts"] = notes.prompts;
  if (!notes.texts.empty()) line["texts"] = notes.texts;
  return dump_line(line);
}

std::string event_line(std::string_view event, const ordered_json& fields) {
  ordered_json line = line_of(event);
  line.update(fields);
  return dump_line(line);
}

std::string prompt_text(const Tokenizer& tokenizer, const MultimodalPrompt& prompt) {
  const std::span<const int32_t> ids(prompt.input_ids);
  const auto masked = [&](size_t i) { return i < prompt.images_seq_mask.size() && prompt.images_seq_mask[i] != 0; };
  std::string text;
  size_t picture = 0;
  for (size_t at = 0; at < ids.size();) {
    size_t end = at;
    if (masked(at)) {
      const int64_t tokens = picture < prompt.num_image_tokens.size() ? prompt.num_image_tokens[picture] : 1;
      end = at + static_cast<size_t>(std::max<int64_t>(tokens, 1));
      ++picture;
      text += "<image>";
    } else {
      while (end < ids.size() && !masked(end)) ++end;
      text += tokenizer.decode(ids.subspan(at, end - at));
    }
    at = end;
  }
  return text;
}

}  // namespace vl2::server
