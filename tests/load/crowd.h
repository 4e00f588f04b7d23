// Clients of a server, good and bad ones. What client `c` does as its `n`th thing follows from the seed, c and n alone.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/http_client.h"
#include "core/base/random.h"
#include "load/tally.h"

namespace vl2::load_test {

using Clock = std::chrono::steady_clock;

enum class Act {
  kWhole,      // an answer as one reply
  kStream,     // an answer as events
  kLeave,      // goes away while the answer comes
  kCutBody,    // goes away while it sends
  kSlow,       // reads a few bytes a second of a large answer
  kHalfOpen,   // connects, sends half of a head or nothing, and waits
  kMalformed,  // sends what is no request
  kHuge,       // a body over the limit
  kWrongKey,
  kWatch,  // /health, /metrics, /v1/models
};

struct CrowdOptions {
  cli::ServerAddress server;
  std::string key;  // the right one
  size_t body_limit = size_t{1} << 20;
  int64_t clients = 200;
  uint64_t seed = 1;
  std::vector<Act> acts;        // drawn from these; a kind that stands there twice is twice as frequent
  int64_t longest_answer = 48;  // tokens
  std::chrono::milliseconds longest_visit{8000};  // of slow readers and half-open connections
  std::chrono::milliseconds longest_pause{500};   // after a refusal
};

class Crowd {
 public:
  Crowd(CrowdOptions options, Tally& tally);
  // Returns when all have done what they had begun by then, or the server has gone (`server_ends` was set).
  void run(Clock::time_point until, const std::atomic<bool>& server_ends);

 private:
  struct Visit {
    std::string id;  // of its request, as in the server's log
    Random random;
    Clock::time_point until;
    Clock::time_point begun = {};  // before it connected
    Clock::time_point sent = {};   // the first bytes were out
  };
  void visit(Act act, Visit& visit);
  void ask(Act act, Visit& visit);
  void read_reply(Act act, Visit& visit, cli::HttpClient& client, bool stream);
  void read_slowly(Visit& visit, cli::HttpClient& client);
  void cut_body(Visit& visit);
  void half_open(Visit& visit);
  void malformed(Visit& visit);
  void huge(Visit& visit);
  void wrong_key(Visit& visit);
  void watch(Visit& visit);

  std::string question(Act act, Visit& visit, bool& stream) const;
  cli::HttpClient::Headers headers(const Visit& visit) const;
  std::string head_of(const Visit& visit, const std::string& more) const;
  std::unique_ptr<cli::HttpClient> connect(Visit& visit, int receive_bytes = 0) const;
  static void send(Visit& visit, cli::HttpClient& client, std::string_view bytes);
  std::optional<int> refusal(cli::HttpClient& client, const Visit& visit);
  // True: turned away at the door, which is fine, as long as it says when to come back.
  bool turned_away(int status, cli::HttpClient& client, const Visit& visit);
  void expect(bool holds, const Visit& visit, const std::string& what);

  const CrowdOptions options_;
  Tally& tally_;
  std::vector<std::string> pictures_;  // data: URLs
};

}  // namespace vl2::load_test
