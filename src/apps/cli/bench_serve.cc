#include "apps/cli/bench_serve.h"

#include <stdlib.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2::cli {
namespace {

constexpr const char* kQuestion = "Describe the picture.";
constexpr const char* kOtherQuestion = "Which colours do you see?";
constexpr const char* kOpenQuestion = "Tell me everything you know.";
constexpr int64_t kLongAnswer = 500;  // tokens of an answer that runs beside something
constexpr int kMissed = 5;            // turns in which no stream said anything beside the prompt, before that counts
constexpr int64_t kSettled = 16;      // tokens of each stream before something is put beside them
constexpr std::chrono::milliseconds kLook{5};
constexpr std::chrono::seconds kPatience{120};  // until all of them run

double load_now() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : 0;
}

double milliseconds(ServeClock::duration time) { return std::chrono::duration<double, std::milli>(time).count(); }

double median(std::vector<double> values) { return quantiles_of(std::move(values)).median; }

// Of servers that are not ours, too.
std::map<std::string, double> metrics_if_any(const Server& server) {
  try {
    return server.metrics();
  } catch (const Error&) {
    return {};
  }
}

// Runs on a thread for each index; the first that throws counts.
void together(int64_t count, const std::function<void(int64_t)>& work) {
  std::vector<std::thread> threads;
  std::exception_ptr failed;
  std::mutex mutex;
  for (int64_t i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failed) failed = std::current_exception();
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (failed) std::rethrow_exception(failed);
}

class ServeBench {
 public:
  ServeBench(const ServeBenchOptions& options, const BenchProgress& progress)
      : options_(options), server_(options.server), progress_(progress) {}

  StreamsResult streams(int64_t count);
  BesideResult beside(bool picture);
  SecondResult second();

 private:
  // Never the same twice in this run, nor in a run with another seed.
  uint64_t new_seed() { return splitmix64(options_.seed + (drawn_++ << 32)); }
  ServeQuestion question(const std::string& text, std::string picture, int64_t max_tokens) {
    return {text, std::move(picture), max_tokens, options_.temperature, new_seed(), false};
  }
  struct BesideTurn {
    ServeAnswer longest;
    std::vector<ServeAnswer> answers;
  };
  ServeAnswer ask_beside(const ServeQuestion& question, const std::atomic<bool>& failed) const;
  BesideTurn beside_once(const ServeQuestion& question);
  std::string long_text();
  ServeQuestion long_question(bool picture);

  const ServeBenchOptions& options_;
  const Server& server_;
  const BenchProgress& progress_;
  uint64_t drawn_ = 0;
  double letters_a_token_ = 0;
};

StreamsResult ServeBench::streams(int64_t count) {
  StreamsResult result;
  result.streams = count;
  std::vector<double> rates, own_rates, first, gaps;
  const std::string work = fmt::format("{} streams", count);
  const std::string same = random_picture(options_.picture, splitmix64(options_.seed));
  std::map<std::string, double> before;
  for (int64_t repeat = -1; repeat < options_.repeats; ++repeat) {
    if (repeat == 0) before = metrics_if_any(server_);
    std::vector<ServeQuestion> questions;
    for (int64_t i = 0; i < count; ++i)
      questions.push_back(question(kQuestion, options_.fresh ? random_picture(options_.picture, new_seed()) : same,
                                   options_.max_tokens));
    std::vector<ServeAnswer> answers(static_cast<size_t>(count));
    const auto begin = ServeClock::now();
    together(count,
             [&](int64_t i) { answers[static_cast<size_t>(i)] = server_.ask(questions[static_cast<size_t>(i)]); });
    const double seconds = milliseconds(ServeClock::now() - begin) / 1000;
    progress_(work, repeat + 1, options_.repeats);
    if (repeat < 0) continue;
    double tokens = 0;
    for (const ServeAnswer& answer : answers) {
      tokens += static_cast<double>(answer.completion_tokens);
      first.push_back(answer.first_token_ms());
      const double rest = milliseconds(answer.ended - answer.sent) - answer.first_token_ms();
      own_rates.push_back(1000 * static_cast<double>(answer.completion_tokens - 1) / std::max(rest, 1e-6));
      for (const double gap : answer.gaps_ms()) gaps.push_back(gap);
    }
    rates.push_back(tokens / seconds);
  }
  std::map<std::string, double> after = metrics_if_any(server_);
  const auto counted = [&](const char* name) { return static_cast<int64_t>(after[name] - before[name]); };
  result.tokens_per_s = spread_of(rates);
  result.per_stream = median(own_rates);
  result.first_token_ms = quantiles_of(first);
  result.gap_ms = quantiles_of(gaps);
  result.drafted = counted("vl2_drafted_tokens_total");
  result.accepted = counted("vl2_accepted_tokens_total");
  return result;
}

// About as many tokens as asked for; others each time.
std::string ServeBench::long_text() {
  constexpr int64_t kSampleWords = 500;
  if (letters_a_token_ == 0) {
    const std::string sample = random_words(kSampleWords, options_.seed);
    letters_a_token_ = static_cast<double>(sample.size()) / static_cast<double>(server_.count_tokens(sample));
  }
  std::string text = random_words(options_.prompt_tokens, new_seed());
  const auto letters = static_cast<size_t>(letters_a_token_ * static_cast<double>(options_.prompt_tokens));
  while (text.size() < letters) text += random_words(options_.prompt_tokens, new_seed());
  return text.substr(0, letters);
}

ServeQuestion ServeBench::long_question(bool picture) {
  if (picture) return question(kQuestion, random_picture(options_.large, new_seed()), 1);
  return question(long_text(), "", 1);
}

// The long question once all streams are under way.
ServeAnswer ServeBench::ask_beside(const ServeQuestion& question, const std::atomic<bool>& failed) const {
  const auto deadline = ServeClock::now() + kPatience;
  const double settled =
      server_.metrics()["vl2_generated_tokens_total"] + static_cast<double>(kSettled * options_.beside);
  for (std::map<std::string, double> now; !failed; std::this_thread::sleep_for(kLook)) {
    now = server_.metrics();
    const bool all = now["vl2_requests_running"] >= static_cast<double>(options_.beside);
    if (all && now["vl2_generated_tokens_total"] >= settled) return server_.ask(question);
    if (!all && ServeClock::now() > deadline)
      fail(ErrorCode::kInvalidArgument, "the server makes fewer than {} answers at a time; start it with --parallel {}",
           options_.beside, options_.beside + 1);
  }
  fail(ErrorCode::kCancelled, "a stream beside the long prompt failed");
}

ServeBench::BesideTurn ServeBench::beside_once(const ServeQuestion& question) {
  BesideTurn turn;
  std::vector<uint64_t> seeds;
  for (int64_t i = 0; i < options_.beside; ++i) seeds.push_back(new_seed());
  std::atomic<bool> stop{false}, failed{false};
  std::mutex mutex;
  together(options_.beside + 1, [&](int64_t i) {
    try {
      if (i == options_.beside) {
        turn.longest = ask_beside(question, failed);
        stop = true;
      }
      // Streams that end before that begin anew. All go on to their end, which tells how long they had to wait.
      while (!stop && !failed) {
        uint64_t& seed = seeds[static_cast<size_t>(i)];
        const ServeQuestion own = {kOpenQuestion, "", kLongAnswer, options_.temperature, seed = splitmix64(seed), true};
        ServeAnswer answer = server_.ask(own, &failed);
        const std::lock_guard lock(mutex);
        turn.answers.push_back(std::move(answer));
      }
    } catch (...) {
      failed = true;
      throw;
    }
  });
  return turn;
}

BesideResult ServeBench::beside(bool picture) {
  BesideResult result;
  result.prompt = picture ? "picture" : "text";
  result.streams = options_.beside;
  const std::string work = "beside a " + result.prompt;
  std::vector<double> alone, first, without, with, piece, pause, largest, ratio, gap_ratio;
  for (int64_t repeat = 0; repeat < options_.repeats; ++repeat) {
    const ServeAnswer answer = server_.ask(long_question(picture));
    result.prompt_tokens = answer.prompt_tokens;
    result.tiles = answer.tiles;
    alone.push_back(answer.first_token_ms());
  }
  int missed = 0;
  for (int64_t repeat = -1; repeat < options_.repeats; ++repeat) {
    const BesideTurn turn = beside_once(long_question(picture));
    progress_(work, repeat + 1, options_.repeats);
    if (repeat < 0) continue;
    const size_t seen = with.size();
    const auto end = turn.longest.arrivals.empty() ? turn.longest.ended : turn.longest.arrivals.front();
    std::vector<double> before;
    double most_pause = 0, most_gap = 0;
    for (const ServeAnswer& answer : turn.answers) {
      for (const double gap : answer.gaps_before_ms(turn.longest.sent)) before.push_back(gap);
      for (const double gap : answer.gaps_ms(turn.longest.sent, end)) {
        with.push_back(gap);
        most_gap = std::max(most_gap, gap);
      }
      if (answer.ended > turn.longest.sent) most_pause = std::max(most_pause, answer.longest_pause_ms);
    }
    // All of them had just ended: of a small model they are short, and the prompt is.
    if (with.size() == seen && missed++ < kMissed) {
      --repeat;
      continue;
    }
    first.push_back(turn.longest.first_token_ms());
    piece.push_back(std::max(turn.longest.vision_step_ms, turn.longest.prefill_step_ms));
    pause.push_back(most_pause);
    largest.push_back(most_gap);
    const double bearable = piece.back() + median(before);
    ratio.push_back(most_pause / bearable);
    gap_ratio.push_back(most_gap / bearable);
    without.insert(without.end(), before.begin(), before.end());
  }
  result.piece_ms = spread_of(piece);
  result.pause_ms = spread_of(pause);
  result.ratio = spread_of(ratio);
  result.gap_ratio = spread_of(gap_ratio);
  result.first_token_alone_ms = spread_of(alone);
  result.first_token_ms = spread_of(first);
  result.gap_without_ms = quantiles_of(without);
  result.gap_ms = quantiles_of(with);
  result.largest_gap_ms = spread_of(largest);
  return result;
}

SecondResult ServeBench::second() {
  SecondResult result;
  std::vector<double> first, second, ratio;
  for (int64_t repeat = 0; repeat < options_.repeats; ++repeat) {
    const std::string picture = random_picture(options_.large, new_seed());
    const ServeAnswer one = server_.ask(question(kQuestion, picture, 1));
    std::map<std::string, double> before = server_.metrics();
    const ServeAnswer two = server_.ask(question(kOtherQuestion, picture, 1));
    std::map<std::string, double> after = server_.metrics();
    const auto counted = [&](const char* name) { return after[name] - before[name]; };
    result.prompt_tokens = two.prompt_tokens;
    result.cached_tokens = two.cached_tokens;
    result.tiles = one.tiles;
    result.tiles_encoded += counted("vl2_tiles_total");
    result.prefix_queries += counted("vl2_prefix_cache_queries_total");
    result.prefix_hits += counted("vl2_prefix_cache_hits_total");
    result.prompt_tokens_run += counted("vl2_prompt_tokens_total");
    first.push_back(one.first_token_ms());
    second.push_back(two.first_token_ms());
    ratio.push_back(second.back() / first.back());
    progress_("a second question", repeat + 1, options_.repeats);
  }
  result.first_ms = spread_of(first);
  result.second_ms = spread_of(second);
  result.ratio = spread_of(ratio);
  return result;
}

std::string model_of(const Server& server) {
  HttpClient client(server.address);
  client.send("GET", "/models", "", server.headers());
  const int status = client.read_status();
  const nlohmann::json reply = nlohmann::json::parse(client.read_all(), nullptr, false);
  if (status != 200 || !reply.is_object() || !reply.contains("data") || reply["data"].empty())
    fail(ErrorCode::kInvalidArgument, "{}/models answered {} and names no model", server.address.text(), status);
  return reply["data"][0].value("id", "");
}

}  // namespace

Quantiles quantiles_of(std::vector<double> values) {
  Quantiles result;
  result.count = static_cast<int64_t>(values.size());
  if (values.empty()) return result;
  std::sort(values.begin(), values.end());
  const size_t last = values.size() - 1;
  result.median = (values[last / 2] + values[(last + 1) / 2]) / 2;
  result.p95 = values[(last * 95 + 99) / 100];
  result.max = values.back();
  return result;
}

ServeBenchReport run_serve_bench(const ServeBenchOptions& options, const BenchProgress& progress) {
  ServeBenchReport report;
  report.options = options;
  report.model = model_of(options.server);
  report.load_before = load_now();
  ServeBench bench(options, progress);
  for (const std::string& work : options.work) {
    if (work == "streams") {
      double one = 0;
      for (const int64_t count : options.streams) {
        report.streams.push_back(bench.streams(count));
        StreamsResult& result = report.streams.back();
        if (count == 1) one = result.tokens_per_s.median;
        if (one > 0) result.speed_up = result.tokens_per_s.median / one;
      }
    } else if (work == "beside") {
      report.beside.push_back(bench.beside(true));
      report.beside.push_back(bench.beside(false));
    } else {
      report.second.push_back(bench.second());
    }
  }
  report.load_after = load_now();
  return report;
}

}  // namespace vl2::cli
