#include "apps/server/access.h"

#include <algorithm>
#include <span>

#include "apps/server/api_error.h"
#include "apps/server/http_exchange.h"
#include "apps/server/http_head.h"
#include "core/base/file.h"

namespace vl2::server {
namespace {

constexpr size_t kMostKeyFileBytes = size_t{1} << 20, kLongestKeyName = 64;

std::string digest(std::string_view key) { return sha256_hex(std::as_bytes(std::span(key.data(), key.size()))); }

std::string_view key_of(const HttpHead& head) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = head.header("authorization");
  if (authorization.size() > kBearer.size() && equal_ignoring_case(authorization.substr(0, kBearer.size()), kBearer))
    return trim(authorization.substr(kBearer.size()));
  return head.header("x-api-key");
}

bool is_key_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestKeyName && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("-_.").find(c) != std::string_view::npos;
  });
}

bool is_local(std::string_view origin) {
  for (std::string_view start : {"http://localhost", "https://localhost", "http://127.0.0.1", "https://127.0.0.1",
                                 "http://[::1]", "https://[::1]"}) {
    if (!origin.starts_with(start)) continue;
    const std::string_view rest = origin.substr(start.size());
    if (rest.empty() || (rest.front() == ':' && rest.find_first_not_of("0123456789", 1) == rest.npos)) return true;
  }
  return false;
}

}  // namespace

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]));
  return difference == 0;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) { replace(keys); }

void ApiKeys::replace(const std::vector<std::string>& keys) {
  std::vector<Known> known;
  for (const std::string& text : keys) {
    const size_t colon = text.find(':');
    const bool named = colon != text.npos && is_key_name(std::string_view(text).substr(0, colon));
    const std::string key = named ? text.substr(colon + 1) : text;
    std::string name = named ? text.substr(0, colon) : fmt::format("key-{}", known.size() + 1);
    if (key.empty()) fail(ErrorCode::kInvalidArgument, "the key named \"{}\" is empty", name);
    known.push_back({std::move(name), digest(key)});
  }
  const std::lock_guard lock(mutex_);
  known_ = std::move(known);
}

size_t ApiKeys::size() const {
  const std::lock_guard lock(mutex_);
  return known_.size();
}

std::string ApiKeys::check(const HttpHead& head) const {
  if (empty()) return "";
  const std::string_view key = key_of(head);
  if (key.empty())
    throw ApiError(401, "no API key was given; send \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"",
                   "invalid_api_key");
  // Of digests, which all have one length, and of every key: nothing ends early.
  const std::string given = digest(key);
  const std::lock_guard lock(mutex_);
  const Known* found = nullptr;
  for (const Known& one : known_) found = equal_in_constant_time(given, one.digest) ? &one : found;
  if (found == nullptr) throw ApiError(401, "this API key is not known here", "invalid_api_key");
  return found->name;
}

std::vector<std::string> read_key_file(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMostKeyFileBytes);
  std::vector<std::string> keys;
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = trim(line);
    if (!line.empty() && line.front() != '#') keys.emplace_back(line);
  }
  if (keys.empty()) fail(ErrorCode::kInvalidArgument, "{}: no key in it; write one a line", path.string());
  return keys;
}

bool Cors::admits(std::string_view origin) const {
  return std::any_of(origins_.begin(), origins_.end(), [&](const std::string& allowed) {
    return allowed == "*" || (allowed == "localhost" ? is_local(origin) : origin == allowed);
  });
}

void Cors::apply(HttpExchange& exchange, std::string_view allowed_methods) const {
  const HttpHead& head = exchange.head();
  const std::string_view origin = head.header("origin");
  if (origins_.empty() || origin.empty()) return;
  const bool any = std::find(origins_.begin(), origins_.end(), "*") != origins_.end();
  exchange.add_header("Vary", "Origin");
  if (!admits(origin)) return;
  // Keys travel in headers and never in cookies, so credentials are not allowed and "*" is enough.
  exchange.add_header("Access-Control-Allow-Origin", any ? "*" : std::string(origin));
  exchange.add_header("Access-Control-Expose-Headers",
                      "x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
                      "x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
                      "x-ratelimit-reset-tokens");
  if (head.method != "OPTIONS") return;
  exchange.add_header("Access-Control-Allow-Methods", std::string(allowed_methods));
  const std::string_view wanted = head.header("access-control-request-headers");
  if (!wanted.empty()) exchange.add_header("Access-Control-Allow-Headers", std::string(wanted));
  exchange.add_header("Access-Control-Max-Age", "600");
}

}  // namespace vl2::server
