// The web page as it is served; tests/page looks at it in a browser.
#include <algorithm>
#include <set>
#include <string_view>

#include "apps/server/page_assets.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

constexpr const char* kBrowser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

TEST(Page, BrowsersGetThePageAndOllamasClientsTheirWord) {
  TestServer server({}, false);
  for (const char* accept : {kBrowser, "text/html", "application/json, TEXT/HTML;q=0.5"}) {
    const HttpReply page = server.get("/", {{"Accept", accept}});
    EXPECT_EQ(page.status, 200);
    EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
    EXPECT_TRUE(page.body.starts_with("<!doctype html>")) << accept;
    EXPECT_EQ(page.headers.at("vary"), "Accept");
  }
  EXPECT_EQ(server.get("/v1", {{"Accept", kBrowser}}).headers.at("content-type"), "text/html; charset=utf-8");
  for (const TestClient::Headers& headers :
       {TestClient::Headers{}, {{"Accept", "*/*"}}, {{"Accept", "application/json"}}, {{"Accept", "text/htmlx"}}}) {
    const HttpReply text = server.get("/", headers);
    EXPECT_EQ(text.status, 200);
    EXPECT_EQ(text.headers.at("content-type"), "text/plain; charset=utf-8");
    EXPECT_EQ(text.body, "Ollama is running");
    EXPECT_EQ(text.headers.at("vary"), "Accept");
  }
}

TEST(Page, EveryFileComesWithItsTypeAndThePolicy) {
  TestServer server({}, false);
  TestClient client(server.port());
  std::set<std::string_view> types;
  size_t bytes = 0;
  for (const PageAsset& asset : page_assets()) {
    const HttpReply reply = client.get("/page/" + std::string(asset.name));
    EXPECT_EQ(reply.status, 200) << asset.name;
    EXPECT_EQ(reply.body, asset.bytes) << asset.name;
    EXPECT_EQ(reply.headers.at("content-type"), asset.type);
    EXPECT_EQ(reply.headers.at("x-content-type-options"), "nosniff");
    EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
    EXPECT_EQ(reply.headers.at("referrer-policy"), "no-referrer");
    const std::string& policy = reply.headers.at("content-security-policy");
    EXPECT_NE(policy.find("default-src 'self'"), policy.npos);
    EXPECT_NE(policy.find("img-src 'self' blob: data:"), policy.npos);
    EXPECT_NE(policy.find("frame-ancestors 'none'"), policy.npos);
    EXPECT_EQ(policy.find("unsafe"), policy.npos);
    types.insert(asset.type);
    bytes += asset.bytes.size();
  }
  EXPECT_EQ(types, (std::set<std::string_view>{"text/html; charset=utf-8", "text/css; charset=utf-8",
                                               "text/javascript; charset=utf-8", "image/svg+xml", "image/png"}));
  EXPECT_LT(bytes, 150'000u);
}

TEST(Page, FilesAreTheOnesOfTheSource) {
  const std::filesystem::path root = source_dir();
  for (const char* name : {"index.html", "main.js", "base.css", "icon.svg"}) {
    const PageAsset* asset = find_page_asset(name);
    ASSERT_NE(asset, nullptr) << name;
    EXPECT_EQ(asset->bytes, read_file(root / "src/apps/server/page" / name)) << name;
  }
  const PageAsset* picture = find_page_asset("examples/5-wide.png");
  ASSERT_NE(picture, nullptr);
  EXPECT_EQ(picture->bytes, read_file(root / "examples/5-wide.png"));
  // All that the page names is there: an offline machine has nothing else.
  const std::string_view html = find_page_asset("index.html")->bytes;
  for (size_t at = html.find("\"page/"); at != html.npos; at = html.find("\"page/", at + 1)) {
    const std::string_view name = html.substr(at + 6, html.find('"', at + 1) - at - 6);
    EXPECT_NE(find_page_asset(name), nullptr) << name;
  }
  EXPECT_EQ(html.find("http://"), html.npos);
  EXPECT_EQ(html.find("https://"), html.npos);
}

TEST(Page, WhatABrowserHasIsNotSentAgain) {
  TestServer server({}, false);
  TestClient client(server.port());
  const std::string tag = client.get("/page/main.js").headers.at("etag");
  EXPECT_EQ(tag.front(), '"');
  EXPECT_NE(tag, client.get("/page/api.js").headers.at("etag"));
  for (const std::string& known : {tag, "\"other\", " + tag, "W/" + tag, std::string("*")}) {
    TestClient other(server.port());
    other.send(TestClient::text_of("GET", "/page/main.js", "", {{"If-None-Match", known}}));
    // A reply without a body: what follows its head is the head of the next reply.
    other.send(TestClient::text_of("GET", "/health", "", {}));
    ASSERT_TRUE(other.wait_for("HTTP/1.1 503")) << known;
    const std::string head = other.buffer().substr(0, other.buffer().find("HTTP/1.1 503"));
    EXPECT_TRUE(head.starts_with("HTTP/1.1 304 Not Modified\r\n")) << head;
    EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
    EXPECT_EQ(head.find("Content-Length"), head.npos);
    EXPECT_NE(head.find("ETag: " + tag), head.npos);
  }
  EXPECT_EQ(client.get("/page/main.js", {{"If-None-Match", "\"another\""}}).status, 200);
}

TEST(Page, HeadIsTheHeadOfGet) {
  TestServer server({}, false);
  TestClient client(server.port());
  const HttpReply head = client.request("HEAD", "/page/main.js"), get = client.get("/page/main.js");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), std::to_string(get.body.size()));
  EXPECT_EQ(head.headers.at("etag"), get.headers.at("etag"));
  EXPECT_EQ(client.request("HEAD", "/", "", {{"Accept", kBrowser}}).headers.at("content-type"),
            "text/html; charset=utf-8");
}

TEST(Page, NothingElseIsThere) {
  TestServer server({}, false);
  for (const char* path : {"/page/", "/page/none.js", "/page/../routes.cc", "/page/%2e%2e/x", "/page/MAIN.JS",
                           "/page/main.js/", "/page//main.js"}) {
    const HttpReply reply = server.get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(reply.error("code"), "unknown_url") << path;
  }
  EXPECT_EQ(server.post("/page/main.js", json::object()).status, 405);
}

TEST(Page, NoKeyIsNeededToReadIt) {
  ServerOptions options;
  options.keys = {"secret"};
  TestServer server(options, false);
  EXPECT_EQ(server.get("/", {{"Accept", kBrowser}}).status, 200);
  EXPECT_EQ(server.get("/page/main.js").status, 200);
  EXPECT_EQ(server.get("/v1/models").status, 401);
}

}  // namespace
}  // namespace vl2::server
