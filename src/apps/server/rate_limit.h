// How much each client may ask in a minute: two buckets, of requests and of tokens, that fill evenly.
//
// A client is a name: of its key, or its address. Any thread; one lock, held for a look into a table. The table has a
// bound: the client that has been quiet for longest gives way, and is new when it comes back.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace vl2::server {

struct RateLimits {
  int64_t requests = 0;                                          // a minute, and at once; 0: no limit
  int64_t tokens = 0;                                            // of prompts and answers together
  std::function<std::chrono::steady_clock::time_point()> clock;  // for tests; empty: the steady clock

  bool any() const { return requests > 0 || tokens > 0; }
};

class RateLimiter {
 public:
  explicit RateLimiter(RateLimits limits, size_t most_clients = 16384);

  bool any() const { return limits_.any(); }

  // One request, if there is one left and the tokens are not used up. ApiError 429 rate_limit_exceeded, with the
  // seconds until it would be let in.
  void take_request(std::string_view client);
  // The tokens of its prompt. ApiError 429, or 413 for more than a minute ever has.
  void take_prompt(std::string_view client, int64_t tokens);
  // Tokens that have been made already: the bucket may go below empty, and then fills from there.
  void spend(std::string_view client, int64_t tokens);

  // x-ratelimit-{limit,remaining,reset}-{requests,tokens} of the limits there are.
  std::vector<std::pair<std::string, std::string>> headers(std::string_view client);

  int64_t refused() const;  // how often there was too little
  size_t clients() const;

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Client {
    std::string name;
    double requests, tokens;  // left at `seen`
    Time seen;
  };
  Time now() const;
  Client& find(std::string_view name);  // filled up to now; the lock is held
  [[noreturn]] void refuse(const char* what, int64_t limit, double missing);

  const RateLimits limits_;
  const size_t most_;
  mutable std::mutex mutex_;
  std::list<Client> clients_;  // the latest first
  std::unordered_map<std::string_view, std::list<Client>::iterator> by_name_;
  int64_t refused_ = 0;
};

// "12ms", "1.5s", "2m30s": as OpenAI writes them.
std::string format_reset(double seconds);

}  // namespace vl2::server
