// GET / and /page/*: the web page. Everything it is made of is in the program, and nobody needs a key to read it.
#include <algorithm>
#include <string_view>

#include "apps/server/api_error.h"
#include "apps/server/http_head.h"
#include "apps/server/page_assets.h"
#include "apps/server/route.h"

namespace vl2::server {
namespace {

// The page shows what a model wrote, which may be anything: no script but its own files, no request but to this server.
constexpr std::string_view kPolicy =
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

// Whether a list of a header ("text/html, */*;q=0.8") has the item; parameters do not count.
template <typename Equal>
bool lists(std::string_view header, const Equal& equal) {
  while (!header.empty()) {
    const size_t end = header.find(',');
    std::string_view item = header.substr(0, end);
    header.remove_prefix(end == header.npos ? header.size() : end + 1);
    if (equal(trim(item.substr(0, item.find(';'))))) return true;
  }
  return false;
}

bool known_to_client(std::string_view if_none_match, std::string_view etag) {
  return lists(if_none_match, [&](std::string_view tag) {
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    return tag == "*" || tag == etag;
  });
}

void reply_asset(RouteCall& call, const PageAsset& asset) {
  // Always asked for again, seldom sent again: a page never runs with scripts of another version.
  call.http.add_header("Cache-Control", "no-cache");
  call.http.add_header("ETag", std::string(asset.etag));
  call.http.add_header("Content-Security-Policy", std::string(kPolicy));
  call.http.add_header("Referrer-Policy", "no-referrer");
  call.http.add_header("Cross-Origin-Opener-Policy", "same-origin");
  if (known_to_client(call.http.head().header("if-none-match"), asset.etag)) return call.http.reply(304, "", "");
  call.http.reply(200, asset.type, asset.bytes);
}

}  // namespace

const PageAsset* find_page_asset(std::string_view name) {
  const std::span<const PageAsset> assets = page_assets();
  const auto found = std::find_if(assets.begin(), assets.end(), [&](const PageAsset& a) { return a.name == name; });
  return found == assets.end() ? nullptr : &*found;
}

void answer_root(RouteCall& call) {
  call.http.add_header("Vary", "Accept");
  const std::string_view accept = call.http.head().header("accept");
  if (lists(accept, [](std::string_view type) { return equal_ignoring_case(type, "text/html"); }))
    return reply_asset(call, *find_page_asset("index.html"));
  // What Ollama's clients look for before they ask anything.
  call.http.reply(200, "text/plain; charset=utf-8", "Ollama is running");
}

void answer_page(RouteCall& call) {
  const PageAsset* asset = find_page_asset(call.tail);
  if (asset == nullptr)
    throw ApiError(404, "there is no " + call.http.head().path + " here; the page is at /", "unknown_url");
  reply_asset(call, *asset);
}

}  // namespace vl2::server
