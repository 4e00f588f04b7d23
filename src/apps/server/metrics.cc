#include "apps/server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "apps/server/process_stats.h"

namespace vl2::server {
namespace {

void head(std::string_view name, std::string_view type, std::string_view help, std::string& out) {
  fmt::format_to(std::back_inserter(out), "# HELP vl2_{} {}\n# TYPE vl2_{} {}\n", name, help, name, type);
}

template <typename T>
void value(std::string_view name, std::string_view type, std::string_view help, T number, std::string& out) {
  head(name, type, help, out);
  fmt::format_to(std::back_inserter(out), "vl2_{} {}\n", name, number);
}

void print_engine(const EngineStats& stats, std::string& out) {
  value("requests_running", "gauge", "Answers being made.", stats.running, out);
  value("requests_waiting", "gauge", "Answers waiting for their turn.", stats.waiting, out);
  const double total = static_cast<double>(std::max<int64_t>(stats.cache_blocks_total, 1));
  value("kv_cache_usage_ratio", "gauge", "Cache blocks in use.", static_cast<double>(stats.cache_blocks_used) / total,
        out);
  value("prompt_tokens_total", "counter", "Prompt tokens run.", stats.prompt_tokens, out);
  value("generated_tokens_total", "counter", "Tokens generated.", stats.generated_tokens, out);
  value("tiles_total", "counter", "Tiles of pictures encoded.", stats.tiles, out);
  value("steps_total", "counter", "Steps of the model.", stats.steps, out);
  value("drafted_tokens_total", "counter", "Guessed tokens that were run.", stats.drafted_tokens, out);
  value("accepted_tokens_total", "counter", "Guessed tokens that saved a step.", stats.accepted_tokens, out);
  value("prefix_cache_queries_total", "counter", "Prompt tokens looked up in the cache.", stats.prefix_query_tokens,
        out);
  value("prefix_cache_hits_total", "counter", "Those of them that were there.", stats.prefix_hit_tokens, out);
  value("image_cache_queries_total", "counter", "Pictures to be encoded.", stats.picture_queries, out);
  value("image_cache_hits_total", "counter", "Those of them that were encoded before.", stats.picture_hits, out);
  value("image_cache_bytes", "gauge", "Encoded pictures that are kept.", stats.picture_bytes, out);
  value("vision_seconds_total", "counter", "Time of the vision encoder.", stats.vision_ms / 1000, out);
  value("forward_seconds_total", "counter", "Time of the decoder.", stats.forward_ms / 1000, out);
}

// Under the names every exporter gives them.
void print_process(std::string& out) {
  const ProcessStats stats = process_stats();
  const auto print = [&](std::string_view name, std::string_view type, std::string_view help, auto number) {
    fmt::format_to(std::back_inserter(out), "# HELP process_{0} {2}\n# TYPE process_{0} {1}\nprocess_{0} {3}\n", name,
                   type, help, number);
  };
  print("cpu_seconds_total", "counter", "Time of all cores together.", stats.cpu_seconds);
  print("start_time_seconds", "gauge", "Start of the process, in seconds since 1970.", stats.start_time);
  print("resident_memory_bytes", "gauge", "Memory that is in use.", stats.resident_bytes);
  print("virtual_memory_bytes", "gauge", "Addresses that are in use.", stats.virtual_bytes);
  print("open_fds", "gauge", "Open files and sockets.", stats.open_fds);
  print("max_fds", "gauge", "How many there may be.", stats.max_fds);
  print("threads", "gauge", "Threads.", stats.threads);
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::add(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  ++counts_[static_cast<size_t>(bucket)];
  sum_ += value;
}

void Histogram::print(std::string_view name, std::string_view help, std::string& out) const {
  head(name, "histogram", help, out);
  int64_t count = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    count += counts_[i];
    fmt::format_to(std::back_inserter(out), "vl2_{}_bucket{{le=\"{}\"}} {}\n", name, bounds_[i], count);
  }
  count += counts_.back();
  fmt::format_to(std::back_inserter(out), "vl2_{0}_bucket{{le=\"+Inf\"}} {1}\nvl2_{0}_sum {2}\nvl2_{0}_count {1}\n",
                 name, count, sum_);
}

Metrics::Metrics()
    : duration_({0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300}),
      first_token_({0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120}),
      between_tokens_({0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}) {}

void Metrics::count_request(std::string_view route, int status, double seconds) {
  const std::lock_guard lock(mutex_);
  ++requests_[{std::string(route), status}];
  duration_.add(seconds);
}

void Metrics::first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}

void Metrics::between_tokens(double seconds) {
  const std::lock_guard lock(mutex_);
  between_tokens_.add(seconds);
}

void Metrics::count_answer(const Usage& usage) {
  const std::lock_guard lock(mutex_);
  ++answers_;
  image_tokens_ += usage.vision_tokens;
}

void Metrics::count_cancelled() {
  const std::lock_guard lock(mutex_);
  ++cancelled_;
}

int64_t Metrics::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

std::string Metrics::text(const EngineStats* engine) const {
  std::string out;
  const std::lock_guard lock(mutex_);
  head("requests_total", "counter", "HTTP requests answered.", out);
  for (const auto& [key, count] : requests_)
    fmt::format_to(std::back_inserter(out), "vl2_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first,
                   key.second, count);
  duration_.print("request_duration_seconds", "From the head of a request to the end of its reply.", out);
  first_token_.print("time_to_first_token_seconds", "From submitting a request to its first token.", out);
  between_tokens_.print("inter_token_latency_seconds", "Between two tokens of an answer.", out);
  value("answers_total", "counter", "Answers completed.", answers_, out);
  value("answers_cancelled_total", "counter", "Answers given up because their client was gone.", cancelled_, out);
  value("image_tokens_total", "counter", "Vision tokens in the prompts of completed answers.", image_tokens_, out);
  if (engine != nullptr) print_engine(*engine, out);
  print_process(out);
  return out;
}

std::string transport_text(const TransportCounts& counts, int64_t rate_limited) {
  std::string out;
  value("rate_limited_total", "counter", "Requests refused because their client had asked too much.", rate_limited,
        out);
  value("http_connections", "gauge", "Connections open.", counts.connections, out);
  value("http_connections_max", "gauge", "Connections and their threads there may be.", counts.most_connections, out);
  value("http_threads", "gauge", "Threads of connections.", counts.threads, out);
  return out;
}

std::string tiles_text(const TileCache::Counts& counts) {
  std::string out;
  value("tile_cache_queries_total", "counter", "Pictures to be decoded and cut up.", counts.queries, out);
  value("tile_cache_hits_total", "counter", "Those of them that were cut up before.", counts.hits, out);
  value("tile_cache_bytes", "gauge", "Tiles that are kept.", counts.bytes, out);
  return out;
}

}  // namespace vl2::server
