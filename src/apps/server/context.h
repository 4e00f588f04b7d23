// What all routes share: the engine once it is there, who may ask, how much at a time, what is counted.
//
// Owns a share of the engine. Any thread, but for set_engine() and the switches, which belong to whoever runs the
// server.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>
#include <utility>

#include "apps/server/access.h"
#include "apps/server/metrics.h"
#include "apps/server/rate_limit.h"
#include "apps/server/server_options.h"
#include "apps/server/tile_cache.h"
#include "core/processor/processor.h"
#include "engine/runtime/engine.h"

namespace vl2::server {

class ServerContext {
 public:
  explicit ServerContext(ServerOptions options);

  const ServerOptions& options() const { return options_; }
  const ApiKeys& keys() const { return keys_; }
  ApiKeys& keys() { return keys_; }
  RateLimiter& limiter() { return limiter_; }
  const Cors& cors() const { return cors_; }
  Metrics& metrics() { return metrics_; }
  const std::string& model_id() const { return options_.model_ids.front(); }
  std::time_t created() const { return created_; }

  void set_engine(std::shared_ptr<Engine> engine);  // once
  bool loaded() const { return engine_ready_.load(std::memory_order_acquire); }
  Engine& engine() const;  // ApiError 503 while the model is being loaded

  // The name of the client's key, "" where none is needed. ApiError 401; 403 where none is needed and the request came
  // by a name that a stranger's DNS may have pointed here.
  std::string check_client(const HttpHead& head) const;

  // ApiError 404 for a model that is not the one served. Empty: no model was named, which is as good.
  void check_model(std::string_view name) const;

  // Room for answers, given back by the destructor, wherever and whenever that runs.
  class Ticket {
   public:
    Ticket(std::shared_ptr<std::atomic<int64_t>> used, int64_t count) : used_(std::move(used)), count_(count) {}
    ~Ticket() { *used_ -= count_; }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

   private:
    const std::shared_ptr<std::atomic<int64_t>> used_;
    const int64_t count_;
  };
  // ApiError 429 when the queue is full, 400 when so many never fit, 503 when the server is about to end.
  std::unique_ptr<Ticket> admit(int64_t answers);
  bool full() const { return *answers_ >= capacity(); }
  int64_t capacity() const { return options_.parallel + options_.max_queue; }

  // Room for bytes of pictures that are fetched. ApiError 503 when there is none.
  std::unique_ptr<Ticket> reserve_remote(int64_t bytes) const;

  // One of few places where pictures are decoded: they take the memory of their pixels.
  std::counting_semaphore<>& decoders() { return decoders_; }
  TileCache& tiles() { return tiles_; }

  // No new answers, then: none at all.
  void drain() { draining_ = true; }
  void stop() { stopping_ = true; }
  bool draining() const { return draining_; }
  bool stopping() const { return stopping_; }

  // What the transport holds; set by the server that owns it, before it starts.
  void set_transport(std::function<TransportCounts()> counts) { transport_ = std::move(counts); }
  TransportCounts transport() const { return transport_ ? transport_() : TransportCounts{}; }

  uint64_t random() const;                            // of no use as a secret
  std::string new_id(std::string_view prefix) const;  // "chatcmpl-" and 24 hexadecimal digits

 private:
  const ServerOptions options_;
  ApiKeys keys_;
  RateLimiter limiter_;
  const Cors cors_;
  const std::time_t created_;
  Metrics metrics_;
  std::function<TransportCounts()> transport_;
  std::shared_ptr<Engine> engine_;
  std::atomic<bool> engine_ready_{false}, draining_{false}, stopping_{false};
  const std::shared_ptr<std::atomic<int64_t>> answers_ = std::make_shared<std::atomic<int64_t>>(0);
  const std::shared_ptr<std::atomic<int64_t>> remote_bytes_ = std::make_shared<std::atomic<int64_t>>(0);
  std::counting_semaphore<> decoders_;
  TileCache tiles_;
  const uint64_t seed_;
  mutable std::atomic<uint64_t> drawn_{0};
};

}  // namespace vl2::server
