// One question to a server, streamed, with the times at which its answer arrived.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "apps/cli/http_client.h"
#include "core/image/image.h"

namespace vl2::cli {

using ServeClock = std::chrono::steady_clock;

struct ServeQuestion {
  std::string text;
  std::string picture;  // a data: URL; empty: none
  int64_t max_tokens = 64;
  double temperature = 1;
  uint64_t seed = 0;
  bool count_tokens = false;  // in ServeAnswer::tokens; some tokens have no text and arrive with the next one that has

  std::string body() const;  // of POST /chat/completions: streamed, to the last token whatever the model says
};

struct ServeAnswer {
  ServeClock::time_point sent;
  std::vector<ServeClock::time_point> arrivals;  // of each piece of text
  std::vector<int64_t> tokens;                   // of each piece; 1 where they are not counted
  ServeClock::time_point ended;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  int64_t tiles = 0;
  // As the server tells: the longest piece of the pictures and of the prompt, the longest time between two tokens.
  double vision_step_ms = 0, prefill_step_ms = 0, longest_pause_ms = 0;
  bool whole = false;  // false: stopped by `stop`

  double first_token_ms() const;
  std::vector<double> gaps_ms() const;
  // Between two tokens that follow each other: a gap before a piece of several is none. Those that overlap the time
  // from `begin` to `end`.
  std::vector<double> gaps_ms(ServeClock::time_point begin, ServeClock::time_point end) const;
  std::vector<double> gaps_before_ms(ServeClock::time_point end) const;  // those that were over by then
};

struct Server {
  ServerAddress address;
  std::string key;  // empty: none

  HttpClient::Headers headers() const;
  // The reply to a question; once `stop` is set, what came until then, and the connection is closed. Errors: kIo of the
  // connection; kInvalidArgument: the server refused, or ended the answer with an error, and its message.
  ServeAnswer ask(const ServeQuestion& question, const std::atomic<bool>* stop = nullptr) const;
  // The numbers of /metrics without labels, by name.
  std::map<std::string, double> metrics() const;
  int64_t count_tokens(const std::string& text) const;
};

// A picture of coloured patches, as a data: URL of a PNG; another one for another seed.
std::string random_picture(ImageSize size, uint64_t seed);
// So many words of random letters.
std::string random_words(int64_t count, uint64_t seed);

}  // namespace vl2::cli
