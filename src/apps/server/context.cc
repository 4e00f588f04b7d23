#include "apps/server/context.h"

#include <algorithm>
#include <random>
#include <utility>

#include "apps/server/api_error.h"
#include "apps/server/host_names.h"
#include "core/base/random.h"

namespace vl2::server {
namespace {

uint64_t seed_of_this_run() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

ServerContext::ServerContext(ServerOptions options)
    : options_(std::move(options)),
      keys_(options_.keys),
      limiter_(options_.rate),
      cors_(options_.cors_origins),
      created_(std::time(nullptr)),
      decoders_(std::max<int64_t>(options_.decoders, 1)),
      tiles_(options_.tile_cache_bytes),
      seed_(seed_of_this_run()) {
  VL2_CHECK(!options_.model_ids.empty(), "a server needs a name for its model");
}

void ServerContext::set_engine(std::shared_ptr<Engine> engine) {
  VL2_CHECK(!loaded(), "one engine a server");
  engine_ = std::move(engine);
  engine_ready_.store(true, std::memory_order_release);
}

Engine& ServerContext::engine() const {
  if (!loaded()) throw ApiError(503, "Loading model", "model_loading");
  return *engine_;
}

std::string ServerContext::check_client(const HttpHead& head) const {
  if (!keys_.empty()) return keys_.check(head);
  const std::string_view host = head.header("host");
  const std::vector<std::string>& allowed = options_.allowed_hosts;
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && !is_private_host(host) && !is_listed_host(without_port(host), allowed))
    throw ApiError(403,
                   fmt::format("this server is not known as {}; start it with --allowed-hosts {}, or with a key", host,
                               without_port(host)),
                   "host_not_allowed");
  return "";
}

void ServerContext::check_model(std::string_view name) const {
  if (name.empty()) return;
  const std::vector<std::string>& ids = options_.model_ids;
  if (std::find(ids.begin(), ids.end(), name) == ids.end())
    throw ApiError(404, fmt::format("the model \"{}\" is not served here; this is \"{}\"", name, model_id()),
                   "model_not_found", "model");
}

std::unique_ptr<ServerContext::Ticket> ServerContext::admit(int64_t answers) {
  if (draining_) throw ApiError(503, "the server is shutting down", "shutting_down");
  if (answers > capacity())
    throw ApiError(400,
                   fmt::format("{} answers were asked for, and at most {} are made or kept waiting here at a time",
                               answers, capacity()),
                   "unsupported_value", "n");
  int64_t used = *answers_;
  do {
    if (used + answers > capacity())
      throw ApiError(429, fmt::format("{} answers are being made or waiting, no more fit; try again in a moment", used),
                     "queue_full");
  } while (!answers_->compare_exchange_weak(used, used + answers));
  return std::make_unique<Ticket>(answers_, answers);
}

std::unique_ptr<ServerContext::Ticket> ServerContext::reserve_remote(int64_t bytes) const {
  int64_t used = *remote_bytes_;
  do {
    if (used + bytes > options_.remote_bytes)
      throw ApiError(503, "too many pictures are being fetched; try again in a moment", "overloaded");
  } while (!remote_bytes_->compare_exchange_weak(used, used + bytes));
  return std::make_unique<Ticket>(remote_bytes_, bytes);
}

uint64_t ServerContext::random() const { return splitmix64(seed_ + drawn_++); }

std::string ServerContext::new_id(std::string_view prefix) const {
  return fmt::format("{}{:016x}{:08x}", prefix, random(), random() & 0xffffffff);
}

}  // namespace vl2::server
