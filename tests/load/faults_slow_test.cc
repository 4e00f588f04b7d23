// `vl2 serve` among clients that do everything wrong, for VL2_LOAD_SECONDS seconds (25; 300 shows what creeps).
// VL2_LOAD_SEED repeats what a failure names.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "apps/cli/serve_ask.h"
#include "cli/server_process.h"
#include "core/base/error.h"
#include "load/crowd.h"

namespace vl2::load_test {
namespace {

using cli_test::ProcessUse;
using cli_test::ServerProcess;
using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kKey = "open-sesame";
constexpr int64_t kParallel = 4, kQueue = 12, kConnections = 160;

int64_t number_from(const char* variable, int64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::atoll(text) : otherwise;
}

cli::Server server_at(const ServerProcess& process) { return {cli::parse_server_address(process.url()), kKey}; }

// The server's own words about each request.
struct LogLine {
  std::string id, finish;
  int status = 0;
  bool failed = false;
};
std::vector<LogLine> log_of(const ServerProcess& process) {
  std::vector<LogLine> lines;
  std::istringstream text(process.stderr_text());
  for (std::string line; std::getline(text, line);) {
    if (!line.starts_with('{')) continue;
    const json one = json::parse(line);  // a line that is none is a failure
    lines.push_back({one.value("id", ""), one.value("finish", ""), one.value("status", 0), one.contains("error")});
  }
  return lines;
}

// Whatever was answered in full has arrived in full, unless its client left.
void expect_answers_arrived(const ServerProcess& process, const Tally& tally) {
  int64_t answers = 0;
  for (const LogLine& line : log_of(process)) {
    EXPECT_NE(line.status, 500) << line.id;
    if (line.status != 200 || line.failed || line.finish.empty() || line.finish == "client_gone") continue;
    if (!line.id.starts_with('c') || tally.is_left(line.id)) continue;
    ++answers;
    EXPECT_TRUE(tally.is_whole(line.id)) << line.id << " is answered by the log, but its client has no whole reply";
  }
  EXPECT_GT(answers, 0);
}

void expect_no_violations(const Tally& tally, uint64_t seed) {
  std::cout << tally.text();
  for (const std::string& what : tally.violations()) ADD_FAILURE() << what << "\nrepeat with VL2_LOAD_SEED=" << seed;
}

// Looks at the process until the end of its life.
class UseWatch {
 public:
  explicit UseWatch(const ServerProcess& process)
      : thread_([this, &process] {
          while (!done_) {
            samples_.push_back(process.use());
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
          }
        }) {}
  std::vector<ProcessUse> end() {
    done_ = true;
    thread_.join();
    return samples_;
  }

 private:
  std::atomic<bool> done_{false};
  std::vector<ProcessUse> samples_;
  std::thread thread_;
};

int64_t median_rss(const std::vector<ProcessUse>& samples, double from, double to) {
  const auto size = static_cast<double>(samples.size());
  std::vector<int64_t> values;
  for (auto i = static_cast<size_t>(from * size); i < static_cast<size_t>(to * size); ++i)
    values.push_back(samples[i].rss_bytes);
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

// Until nothing runs and only this connection is open.
std::map<std::string, double> wait_until_idle(const ServerProcess& process) {
  const auto deadline = Clock::now() + seconds(90);
  std::map<std::string, double> now;
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    now = server_at(process).metrics();
  } while ((now["vl2_requests_running"] > 0 || now["vl2_requests_waiting"] > 0) && Clock::now() < deadline);
  return now;
}

// Every event of a stream has the model's name in it, so that a few hundred are more than what fits between server and
// client while nobody reads.
std::vector<std::string> arguments(int64_t connections) {
  const std::string name(8000, 'm');
  return {"--parallel",        std::to_string(kParallel),
          "--max-queue",       std::to_string(kQueue),
          "--max-connections", std::to_string(connections),
          "--max-body",        "1",
          "--max-context",     "4096",
          "--threads",         "2",
          "--model-id",        name};
}

std::vector<std::string> with_key(std::vector<std::string> words) {
  words.insert(words.end(), {"--api-key", kKey});
  return words;
}

TEST(Faults, ACrowdThatDoesEverythingWrongNeitherBreaksNorSwellsTheServer) {
  const auto length = seconds(number_from("VL2_LOAD_SECONDS", 25));
  const auto seed = static_cast<uint64_t>(number_from("VL2_LOAD_SEED", 1));
  ServerProcess process(with_key(arguments(kConnections)), static_cast<unsigned>(length.count()) + 300);
  const ProcessUse fresh = process.use();
  CrowdOptions options;
  options.server = server_at(process).address;
  options.key = kKey;
  options.seed = seed;
  options.acts = {Act::kWhole, Act::kWhole,    Act::kStream,    Act::kStream, Act::kLeave,    Act::kCutBody,
                  Act::kSlow,  Act::kHalfOpen, Act::kMalformed, Act::kHuge,   Act::kWrongKey, Act::kWatch};
  Tally tally;
  std::atomic<bool> server_ends{false};
  UseWatch watch(process);
  Crowd(options, tally).run(Clock::now() + length, server_ends);
  const std::vector<ProcessUse> samples = watch.end();
  ASSERT_TRUE(process.running()) << process.stderr_text();

  expect_no_violations(tally, seed);
  for (const char* what : {"answered: 200", "answered: 400", "answered: 401", "answered: 413", "answered: 429",
                           "answered: 503", "ended: whole reply", "ended: whole stream"})
    EXPECT_GT(tally.of(what), 0) << what;

  int64_t threads = 0, descriptors = 0, rss = 0;
  for (const ProcessUse& use : samples) {
    threads = std::max(threads, use.threads);
    descriptors = std::max(descriptors, use.descriptors);
    rss = std::max(rss, use.rss_bytes);
  }
  const int64_t early = median_rss(samples, 0.25, 0.5), late = median_rss(samples, 0.75, 1);
  const double mib = 1 << 20;
  std::cout << fmt::format(
      "threads {}, descriptors {} at most; RSS {:.1f} MiB at the start, {:.1f} in the second "
      "quarter, {:.1f} in the last ({:+.1f} %), {:.1f} at most\n",
      threads, descriptors, static_cast<double>(fresh.rss_bytes) / mib, static_cast<double>(early) / mib,
      static_cast<double>(late) / mib, 100.0 * static_cast<double>(late - early) / static_cast<double>(early),
      static_cast<double>(rss) / mib);
  EXPECT_LE(threads, fresh.threads + kConnections);
  EXPECT_LE(descriptors, fresh.descriptors + kConnections + 2);  // one being accepted, one being refused
  // Threads, their heaps and the caches fill in the first two minutes; a short run sees no more than a gross leak.
  const double growth = length >= seconds(240) ? 1.05 : 1.5;
  EXPECT_LE(static_cast<double>(late), growth * static_cast<double>(early));

  std::map<std::string, double> idle = wait_until_idle(process);
  EXPECT_EQ(idle["vl2_requests_running"], 0);
  EXPECT_EQ(idle["vl2_requests_waiting"], 0);
  EXPECT_EQ(idle["vl2_kv_cache_usage_ratio"], 0);
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 0);
  expect_answers_arrived(process, tally);
}

TEST(Faults, TheEndUnderLoadLosesNoFinishedAnswer) {
  const auto seed = static_cast<uint64_t>(number_from("VL2_LOAD_SEED", 1));
  for (uint64_t turn = 0; turn < 3; ++turn) {
    ServerProcess process(with_key(arguments(256)));
    CrowdOptions options;
    options.server = server_at(process).address;
    options.key = kKey;
    options.clients = 48;
    options.seed = seed + turn;
    options.acts = {Act::kWhole, Act::kStream};
    Tally tally;
    std::atomic<bool> server_ends{false};
    std::thread crowd([&] { Crowd(options, tally).run(Clock::now() + seconds(120), server_ends); });
    // In the middle of it: some answers are there, others run and wait.
    const auto deadline = Clock::now() + seconds(90);
    while (tally.of("ended: whole reply") + tally.of("ended: whole stream") < static_cast<int64_t>(3 + 10 * turn) &&
           Clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    server_ends = true;
    process.signal(SIGTERM);
    EXPECT_EQ(process.wait(), 0) << process.stderr_text();
    crowd.join();
    expect_no_violations(tally, seed);
    EXPECT_EQ(tally.of("ended: error event"), 0) << "the time to finish was enough for all that ran";
    expect_answers_arrived(process, tally);
  }
}

// What a stream's client sees between its tokens.
std::vector<double> gaps_of_a_stream(const cli::Server& server, uint64_t seed) {
  const cli::ServeAnswer answer = server.ask({"Tell me something long.", "", 300, 1, seed, false});
  EXPECT_TRUE(answer.whole);
  return answer.gaps_ms();
}

TEST(Faults, ReadersThatDoNotReadHoldUpNobody) {
  constexpr int64_t kSlow = kParallel + kQueue;
  ServerProcess process(with_key(arguments(256)));
  const cli::Server server = server_at(process);
  const std::vector<double> before = gaps_of_a_stream(server, 1);
  json body = {{"messages", {{{"role", "user"}, {"content", "Go on for ever."}}}},
               {"max_tokens", 600},
               {"ignore_eos", true},
               {"stream", true}};
  const std::string text = body.dump();
  std::vector<std::unique_ptr<cli::HttpClient>> slow;
  for (int64_t i = 0; i < kSlow; ++i) {
    slow.push_back(std::make_unique<cli::HttpClient>(server.address, seconds(120), 2048));
    slow.back()->send("POST", "/v1/chat/completions", text, server.headers());
    EXPECT_EQ(slow.back()->read_status(), 200);
  }
  // The engine is done with all of them, and none of them has read its answer.
  std::map<std::string, double> idle = wait_until_idle(process);
  EXPECT_EQ(idle["vl2_requests_running"], 0);
  EXPECT_EQ(idle["vl2_answers_total"], 1) << "the replies fit between server and client: nobody is slow";
  const std::vector<double> beside = gaps_of_a_stream(server, 2);
  EXPECT_EQ(server.metrics()["vl2_answers_total"], 2) << "a slow reader was waited for";
  const auto say = [](const char* when, const std::vector<double>& gaps) {
    const double middle = gaps.empty() ? 0 : gaps[gaps.size() / 2];
    std::cout << fmt::format("{}: between tokens {:.2f} ms in the middle of {}\n", when, middle, gaps.size());
  };
  std::vector<double> one = before, two = beside;
  std::sort(one.begin(), one.end());
  std::sort(two.begin(), two.end());
  say("without slow readers", one);
  say("beside slow readers", two);
  slow.clear();
  process.signal(SIGTERM);
  EXPECT_EQ(process.wait(), 0);
}

}  // namespace
}  // namespace vl2::load_test
