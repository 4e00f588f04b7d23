#include "apps/server/rate_limit.h"

#include <algorithm>
#include <cmath>

#include "apps/server/api_error.h"

namespace vl2::server {
namespace {

constexpr double kMinute = 60;

double refilled(double left, int64_t limit, double seconds) {
  return std::min(static_cast<double>(limit), left + static_cast<double>(limit) * seconds / kMinute);
}

// Seconds until `missing` more are there.
double wait_for(double missing, int64_t limit) { return std::max(missing, 0.0) * kMinute / static_cast<double>(limit); }

}  // namespace

std::string format_reset(double seconds) {
  const auto ms = static_cast<int64_t>(std::ceil(std::max(seconds, 0.0) * 1000 - 1e-6));
  if (ms < 1000) return fmt::format("{}ms", ms);
  const int64_t minutes = ms / 60'000, rest = ms % 60'000;
  std::string text = minutes > 0 ? fmt::format("{}m{}", minutes, rest / 1000) : fmt::format("{}", rest / 1000);
  if (minutes == 0 && rest % 1000 != 0) text += fmt::format(".{:03}", rest % 1000);
  return text + "s";
}

RateLimiter::RateLimiter(RateLimits limits, size_t most_clients)
    : limits_(std::move(limits)), most_(std::max<size_t>(most_clients, 1)) {}

RateLimiter::Time RateLimiter::now() const {
  return limits_.clock ? limits_.clock() : std::chrono::steady_clock::now();
}

RateLimiter::Client& RateLimiter::find(std::string_view name) {
  const Time time = now();
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    if (clients_.size() >= most_) {
      by_name_.erase(clients_.back().name);
      clients_.pop_back();
    }
    clients_.push_front(
        {std::string(name), static_cast<double>(limits_.requests), static_cast<double>(limits_.tokens), time});
    by_name_.emplace(clients_.front().name, clients_.begin());
    return clients_.front();
  }
  clients_.splice(clients_.begin(), clients_, found->second);
  Client& client = clients_.front();
  const double seconds = std::max(std::chrono::duration<double>(time - client.seen).count(), 0.0);
  client.requests = refilled(client.requests, limits_.requests, seconds);
  client.tokens = refilled(client.tokens, limits_.tokens, seconds);
  client.seen = time;
  return client;
}

void RateLimiter::refuse(const char* what, int64_t limit, double missing) {
  ++refused_;
  const double seconds = wait_for(missing, limit);
  ApiError error(
      429, fmt::format("the limit of {} {} a minute is reached; try again in {}", limit, what, format_reset(seconds)),
      "rate_limit_exceeded");
  error.set_retry_after(static_cast<int>(std::clamp(std::ceil(seconds - 1e-6), 1.0, 86'400.0)));
  throw error;
}

void RateLimiter::take_request(std::string_view client) {
  if (!any()) return;
  const std::lock_guard lock(mutex_);
  Client& one = find(client);
  if (limits_.requests > 0 && one.requests < 1) refuse("requests", limits_.requests, 1 - one.requests);
  if (limits_.tokens > 0 && one.tokens < 1) refuse("tokens", limits_.tokens, 1 - one.tokens);
  one.requests -= 1;
}

void RateLimiter::take_prompt(std::string_view client, int64_t tokens) {
  if (limits_.tokens <= 0) return;
  const std::lock_guard lock(mutex_);
  if (tokens > limits_.tokens)
    throw ApiError(
        413,
        fmt::format("the prompt has {} tokens, and at most {} may be used here in a minute", tokens, limits_.tokens),
        "request_too_large");
  Client& one = find(client);
  const double missing = static_cast<double>(tokens) - one.tokens;
  if (missing > 0) refuse("tokens", limits_.tokens, missing);
  one.tokens -= static_cast<double>(tokens);
}

void RateLimiter::spend(std::string_view client, int64_t tokens) {
  if (limits_.tokens <= 0) return;
  const std::lock_guard lock(mutex_);
  find(client).tokens -= static_cast<double>(tokens);
}

std::vector<std::pair<std::string, std::string>> RateLimiter::headers(std::string_view client) {
  std::vector<std::pair<std::string, std::string>> result;
  if (!any()) return result;
  const std::lock_guard lock(mutex_);
  const Client& one = find(client);
  const auto add = [&](const char* what, int64_t limit, double left) {
    if (limit <= 0) return;
    const auto name = [&](const char* part) { return fmt::format("x-ratelimit-{}-{}", part, what); };
    result.emplace_back(name("limit"), std::to_string(limit));
    result.emplace_back(name("remaining"), std::to_string(static_cast<int64_t>(std::max(left + 1e-6, 0.0))));
    result.emplace_back(name("reset"), format_reset(wait_for(static_cast<double>(limit) - left, limit)));
  };
  add("requests", limits_.requests, one.requests);
  add("tokens", limits_.tokens, one.tokens);
  return result;
}

int64_t RateLimiter::refused() const {
  const std::lock_guard lock(mutex_);
  return refused_;
}

size_t RateLimiter::clients() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

}  // namespace vl2::server
