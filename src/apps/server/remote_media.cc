#include "apps/server/remote_media.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "apps/server/api_error.h"
#include "apps/server/host_names.h"
#include "apps/server/http_head.h"

namespace vl2::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLongestUrl = 8192;

// Of one hop.
struct Fetch {
  const RemoteMediaOptions& options;
  const std::function<bool()>& stopped;
  std::string body;
  std::string refused;  // the address that is not admitted
  bool too_large = false;
};

[[noreturn]] void bad_url(const std::string& why, const std::string& param) {
  throw ApiError(400, fmt::format("{}: {}", param, why), "invalid_image_url", param);
}

[[noreturn]] void not_allowed(const std::string& why, const std::string& param) {
  throw ApiError(403, fmt::format("{}: {}; send the picture as a data: URL", param, why), "media_domain_not_allowed",
                 param);
}

std::string part(CURLU* url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, 0) != CURLUE_OK) return {};
  const std::unique_ptr<char, decltype(&curl_free)> owner(text, &curl_free);
  return text;
}

struct Url {
  std::string text, host;
};

// As libcurl itself reads it: what is checked here is what is asked.
Url parse_url(const std::string& text, const std::string& param) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), &curl_url_cleanup);
  // A NUL would end it for libcurl, and the others are no part of any URL.
  const bool odd = std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c <= ' ') || c == 0x7f; });
  if (odd || text.size() > kLongestUrl || !url || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    bad_url("this is no URL", param);
  const std::string scheme = part(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") bad_url("it leads to something that is neither http nor https", param);
  if (!part(url.get(), CURLUPART_USER).empty() || !part(url.get(), CURLUPART_PASSWORD).empty())
    bad_url("URLs with a user or a password are not fetched", param);
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  return {part(url.get(), CURLUPART_URL), part(url.get(), CURLUPART_HOST)};
}

bool is_listed(std::string_view host, const std::vector<std::string>& domains) {
  if (host.ends_with('.')) host.remove_suffix(1);
  return domains.empty() || is_listed_host(host, domains);
}

// libcurl asks for a socket for exactly the address it is about to connect to: nothing lies between the look at an
// address and its use, so a name that changes its mind gains nothing.
curl_socket_t open_socket(void* data, curlsocktype purpose, curl_sockaddr* address) {
  auto& fetch = *static_cast<Fetch*>(data);
  if (purpose != CURLSOCKTYPE_IPCXN || !fetch.options.admits(address->addr)) {
    fetch.refused = address_text(address->addr);
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

size_t take_bytes(char* bytes, size_t size, size_t count, void* data) {
  auto& fetch = *static_cast<Fetch*>(data);
  if (fetch.body.size() + size * count > fetch.options.bytes) {
    fetch.too_large = true;
    return 0;
  }
  fetch.body.append(bytes, size * count);
  return size * count;
}

int look_around(void* data, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& fetch = *static_cast<Fetch*>(data);
  return fetch.stopped && fetch.stopped() ? 1 : 0;
}

void prepare(CURL* curl, const std::string& url, Fetch& fetch, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(std::max<int64_t>(left, 1)));
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");  // not the environment's: a proxy would connect where we may not
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "vl2/" VL2_VERSION);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
  curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &fetch);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &fetch);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_around);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &fetch);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  if (!fetch.options.certificates.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, fetch.options.certificates.c_str());
}

// The place it redirects to, or nothing where the body is there.
std::optional<std::string> fetch_once(const Url& url, Fetch& fetch, Clock::time_point deadline,
                                      const std::string& param) {
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  if (!curl) fail(ErrorCode::kOutOfMemory, "cannot prepare to fetch a picture");
  prepare(curl.get(), url.text, fetch, deadline);
  const CURLcode result = curl_easy_perform(curl.get());
  if (fetch.too_large)
    throw ApiError(413,
                   fmt::format("{}: more than {} bytes; pictures of other machines are taken up to that", param,
                               fetch.options.bytes),
                   "request_too_large", param);
  if (result == CURLE_ABORTED_BY_CALLBACK) throw ApiError(503, "the server is shutting down", "shutting_down");
  if (result != CURLE_OK && !fetch.refused.empty())
    not_allowed(fmt::format("{} is at {}, which is no public address", url.host, fetch.refused), param);
  if (result == CURLE_OPERATION_TIMEDOUT)
    bad_url(fmt::format("{} did not send the picture within {} s", url.host,
                        static_cast<double>(fetch.options.time.count()) / 1000),
            param);
  if (result != CURLE_OK) bad_url(fmt::format("{} cannot be asked: {}", url.host, curl_easy_strerror(result)), param);
  long status = 0;
  char* next = nullptr;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &next);
  if (status / 100 == 3 && next != nullptr) return std::string(next);
  if (status != 200) bad_url(fmt::format("{} answered with status {}", url.host, status), param);
  if (fetch.body.empty()) bad_url(fmt::format("{} sent a picture without bytes", url.host), param);
  return std::nullopt;
}

void start_libcurl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);  // once, whichever thread comes first
  VL2_CHECK(started == CURLE_OK, "libcurl does not start: {}", curl_easy_strerror(started));
}

}  // namespace

std::string fetch_remote(std::string_view given, const RemoteMediaOptions& options, const std::string& param,
                         const std::function<bool()>& stopped) {
  if (!options.allowed) not_allowed("pictures are not fetched from other machines here", param);
  start_libcurl();
  const Clock::time_point deadline = Clock::now() + options.time;
  std::string next(given);
  for (int hop = 0; hop <= options.redirects; ++hop) {
    const Url url = parse_url(next, param);
    if (!is_listed(url.host, options.domains))
      not_allowed(fmt::format("pictures are not fetched from {}", url.host), param);
    Fetch fetch{options, stopped, {}, {}, false};
    const std::optional<std::string> redirect = fetch_once(url, fetch, deadline, param);
    if (!redirect) return std::move(fetch.body);
    next = *redirect;
  }
  bad_url(fmt::format("more than {} redirects", options.redirects), param);
}

}  // namespace vl2::server
