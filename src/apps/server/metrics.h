// Counters and histograms of the server, as Prometheus reads them. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/server/tile_cache.h"
#include "engine/runtime/engine_stats.h"

namespace vl2::server {

// Cumulative buckets of fixed bounds, in seconds. Not locked by itself.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void add(double value);
  void print(std::string_view name, std::string_view help, std::string& out) const;

 private:
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;  // of each bucket alone; the last one has no bound
  double sum_ = 0;
};

// Of the transport; connections and threads have the same bound.
struct TransportCounts {
  size_t connections = 0, most_connections = 0, threads = 0;
};

class Metrics {
 public:
  Metrics();

  void count_request(std::string_view route, int status, double seconds);
  void first_token(double seconds);
  void between_tokens(double seconds);
  void count_answer(const Usage& usage);
  void count_cancelled();
  int64_t cancelled() const;

  // Prometheus' text format. `engine`: nullptr while there is none.
  std::string text(const EngineStats* engine) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> requests_;
  Histogram duration_, first_token_, between_tokens_;
  int64_t image_tokens_ = 0, answers_ = 0, cancelled_ = 0;
};

// Gauges of the transport, and process_* of this process from /proc, as far as it is there.
std::string transport_text(const TransportCounts& counts, int64_t rate_limited);
std::string tiles_text(const TileCache::Counts& counts);

}  // namespace vl2::server
