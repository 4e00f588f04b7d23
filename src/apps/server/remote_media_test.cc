// Pictures of other machines: what is fetched, and above all what is not.
#include "apps/server/remote_media.h"

#include <arpa/inet.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "apps/server/api_error.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kParam = "messages[0].content[0].image_url";

bool is_public(const std::string& text) {
  sockaddr_storage storage = {};
  auto* in4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (::inet_pton(AF_INET, text.c_str(), &in4->sin_addr) == 1) {
    storage.ss_family = AF_INET;
  } else {
    EXPECT_EQ(::inet_pton(AF_INET6, text.c_str(), &in6->sin6_addr), 1) << text;
    storage.ss_family = AF_INET6;
  }
  EXPECT_FALSE(address_text(reinterpret_cast<const sockaddr&>(storage)).empty());
  return is_public_address(reinterpret_cast<const sockaddr&>(storage));
}

TEST(PublicAddress, IsWhatEverybodyCanReach) {
  for (const char* text :
       {"1.1.1.1",         "9.255.255.255",   "11.0.0.0",        "93.184.216.34",  "100.63.255.255", "100.128.0.0",
        "126.255.255.255", "128.0.0.1",       "169.253.255.255", "169.255.0.0",    "172.15.255.255", "172.32.0.0",
        "192.0.3.0",       "192.167.255.255", "192.169.0.0",     "198.17.255.255", "198.20.0.0",     "223.255.255.255",
        "2606:4700::1111", "2a00::1",         "::ffff:1.1.1.1"})
    EXPECT_TRUE(is_public(text)) << text;
  for (const char* text :
       {"0.0.0.0",     "0.1.2.3",          "10.0.0.1",        "10.255.255.255", "100.64.0.1",      "100.127.255.255",
        "127.0.0.1",   "127.255.255.254",  "169.254.169.254", "172.16.0.1",     "172.31.255.255",  "192.0.0.1",
        "192.0.2.1",   "192.88.99.1",      "192.168.1.1",     "198.18.0.1",     "198.19.255.255",  "198.51.100.1",
        "203.0.113.1", "224.0.0.1",        "239.1.1.1",       "240.0.0.1",      "255.255.255.255", "::",
        "::1",         "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::7f00:1",       "64:ff9b::a00:1",  "fe80::1",
        "fc00::1",     "fd12:3456::1",     "ff02::1",         "2001::1",        "2001:db8::1",     "2002:7f00:1::",
        "3fff::1",     "fec0::1",          "100::1"})
    EXPECT_FALSE(is_public(text)) << text;
  const sockaddr local = {AF_UNIX, {}};
  EXPECT_FALSE(is_public_address(local));
}

// Another machine, which happens to be this one: the server's own transport with answers of any kind.
class OtherMachine {
 public:
  OtherMachine()
      : file_(picture_file(golden_cases().at(0).image)),
        http_(
            HttpLimits{}, [this](HttpExchange& exchange) { answer(exchange); },
            [](HttpExchange& exchange, const Error&) { exchange.reply(400, "text/plain", "?"); }) {
    http_.start("127.0.0.1", 0);
  }
  std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(http_.port()) + path; }
  const std::string& file() const { return file_; }
  std::atomic<int> asked{0};
  std::string location;  // where /redirect leads

 private:
  void answer(HttpExchange& exchange) {
    ++asked;
    const std::string& path = exchange.head().path;
    if (path == "/a.png") return exchange.reply(200, "text/html", file_);  // types are not believed
    if (path == "/empty") return exchange.reply(200, "image/png", "");
    if (path == "/redirect") {
      exchange.add_header("Location", location);
      return exchange.reply(302, "text/plain", "over there");
    }
    if (path == "/stream") {
      exchange.begin_events();
      for (int i = 0; i < 64 && exchange.write_events(std::string(1 << 16, 'x')); ++i) {
      }
      return exchange.end_events();
    }
    if (path == "/slow") {
      std::this_thread::sleep_for(std::chrono::milliseconds(600));
      return exchange.reply(200, "image/png", file_);
    }
    exchange.reply(404, "text/plain", "no");
  }

  std::string file_;
  HttpServer http_;
};

bool is_loopback_one(const sockaddr& address) { return address_text(address) == "127.0.0.1"; }

RemoteMediaOptions friendly() {
  RemoteMediaOptions options;
  options.allowed = true;
  options.admits = is_loopback_one;
  return options;
}

void expect_refused(const std::string& url, const RemoteMediaOptions& options, int status, const std::string& code) {
  try {
    fetch_remote(url, options, "here");
    FAIL() << url;
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), status) << url << error.what();
    EXPECT_EQ(error.code_name(), code) << url << error.what();
    EXPECT_EQ(error.param(), "here");
  }
}

TEST(RemoteMedia, IsFetchedWhereItIsAllowed) {
  OtherMachine other;
  EXPECT_EQ(fetch_remote(other.url("/a.png"), friendly(), ""), other.file());
  EXPECT_EQ(fetch_remote(other.url("/a.png?size=1#part"), friendly(), ""), other.file());
  other.location = "/a.png";
  EXPECT_EQ(fetch_remote(other.url("/redirect"), friendly(), ""), other.file());
  RemoteMediaOptions listed = friendly();
  listed.domains = {"example.org", "127.0.0.1"};
  EXPECT_EQ(fetch_remote(other.url("/a.png"), listed, ""), other.file());
}

TEST(RemoteMedia, NothingIsAskedWhereItIsNot) {
  OtherMachine other;
  expect_refused(other.url("/a.png"), {}, 403, "media_domain_not_allowed");
  RemoteMediaOptions options;
  options.allowed = true;  // and only public addresses
  const std::string port = ":" + std::to_string(std::stoi(other.url("").substr(17)));
  for (const std::string host : {"127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "0.0.0.0", "[::1]",
                                 "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "10.0.0.1"})
    expect_refused("http://" + host + port + "/a.png", options, 403, "media_domain_not_allowed");
  RemoteMediaOptions listed = friendly();
  listed.domains = {"example.org", ".cdn.example.org"};
  for (const std::string& url :
       {other.url("/a.png"), std::string("http://evilexample.org/"), std::string("http://cdn.example.org/"),
        std::string("http://example.org.evil.net/"), std::string("http://a.example.org/")})
    expect_refused(url, listed, 403, "media_domain_not_allowed");
  EXPECT_EQ(other.asked, 0);
}

TEST(RemoteMedia, RedirectsAreLookedAtLikeTheFirstUrl) {
  OtherMachine other;
  other.location = "http://127.0.0.2/a.png";
  expect_refused(other.url("/redirect"), friendly(), 403, "media_domain_not_allowed");
  for (const std::string scheme : {"file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/",
                                   "dict://127.0.0.1/", "http://user:secret@127.0.0.1/"}) {
    other.location = scheme;
    expect_refused(other.url("/redirect"), friendly(), 400, "invalid_image_url");
  }
  RemoteMediaOptions listed = friendly();
  listed.domains = {"127.0.0.1"};
  other.location = "http://localhost/a.png";
  expect_refused(other.url("/redirect"), listed, 403, "media_domain_not_allowed");
  other.location = "/redirect";
  other.asked = 0;
  expect_refused(other.url("/redirect"), friendly(), 400, "invalid_image_url");
  EXPECT_EQ(other.asked, 4);  // the first, and three more
}

TEST(RemoteMedia, WhatIsTooLargeTooSlowOrNotThereEnds) {
  OtherMachine other;
  RemoteMediaOptions options = friendly();
  options.bytes = 100'000;
  expect_refused(other.url("/stream"), options, 413, "request_too_large");
  options = friendly();
  options.time = std::chrono::milliseconds(100);
  expect_refused(other.url("/slow"), options, 400, "invalid_image_url");
  for (const std::string path : {"/empty", "/none"})
    expect_refused(other.url(path), friendly(), 400, "invalid_image_url");
  for (const std::string url : {"http://", "https://127.0.0.1:99999/", "http://a b/", "http://127.0.0.1:1/",
                                "http://user@127.0.0.1/", "http://\n"})
    expect_refused(url, friendly(), 400, "invalid_image_url");
  expect_refused("http://127.0.0.1/" + std::string(10'000, 'a'), friendly(), 400, "invalid_image_url");
  // Plain HTTP where TLS is asked for.
  expect_refused("https" + other.url("/a.png").substr(4), friendly(), 400, "invalid_image_url");
}

TEST(RemoteMedia, TheEnvironmentsProxyIsNotAsked) {
  OtherMachine other, proxy;
  ::setenv("http_proxy", proxy.url("").c_str(), 1);
  EXPECT_EQ(fetch_remote(other.url("/a.png"), friendly(), ""), other.file());
  ::unsetenv("http_proxy");
  EXPECT_EQ(proxy.asked, 0);
}

TEST(RemoteMedia, AFetchEndsWithTheServer) {
  OtherMachine other;
  try {
    fetch_remote(other.url("/slow"), friendly(), "here", [] { return true; });
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 503);
  }
}

TEST(RemoteMedia, ReachesTheModelOfAServerThatAllowsIt) {
  OtherMachine other;
  ServerOptions options;
  options.remote = friendly();
  TestServer server(options);
  const auto ask = [&](const json& content) { return server.post(kChat, chat(content)); };
  const json question = text_part(golden_cases().at(0).question);
  const HttpReply reply = ask({picture_part(other.url("/a.png")), question});
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.parsed().at("choices").at(0).at("message").at("content"), golden_cases().at(0).answer);
  const HttpReply missing = ask({picture_part(other.url("/none")), question});
  EXPECT_EQ(missing.status, 400);
  EXPECT_EQ(missing.error("code"), "invalid_image_url");
  EXPECT_EQ(missing.error("param"), kParam);
  const HttpReply page = ask({picture_part(other.url("/stream")), question});
  EXPECT_EQ(page.error("code"), "invalid_image");
}

TEST(RemoteMedia, FetchedBytesHaveALimitOfTheirOwn) {
  OtherMachine other;
  ServerOptions options;
  options.remote = friendly();
  options.remote_bytes = int64_t{40} << 20;  // one picture that comes, and 8 MiB
  TestServer server(options);
  const auto room = server.server->context().reserve_remote(int64_t{20} << 20);
  const json body = chat({picture_part(other.url("/a.png")), text_part("?")});
  const HttpReply reply = server.post(kChat, body);
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.error("code"), "overloaded");
  EXPECT_EQ(other.asked, 0);
  // A request may fetch no more than it could have sent.
  options.remote_bytes = int64_t{512} << 20;
  options.http.body_bytes = other.file().size() + 100;
  TestServer strict(options);
  const json picture = picture_part(other.url("/a.png"));
  EXPECT_EQ(strict.post(kChat, chat({picture, picture, text_part("?")})).status, 413);
}

}  // namespace
}  // namespace vl2::server
