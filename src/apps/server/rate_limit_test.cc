#include "apps/server/rate_limit.h"

#include "apps/server/api_error.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class FakeClock {
 public:
  RateLimits limits(int64_t requests, int64_t tokens) {
    return {requests, tokens, [this] { return std::chrono::steady_clock::time_point(milliseconds(ms_)); }};
  }
  void pass(milliseconds time) { ms_ += time.count(); }

 private:
  std::atomic<int64_t> ms_{1'000'000};
};

std::map<std::string, std::string> headers_of(RateLimiter& limiter, const std::string& client) {
  const auto list = limiter.headers(client);
  return {list.begin(), list.end()};
}

// The Retry-After of a refusal; 0: it was granted.
template <typename Take>
int refused_for(const Take& take) {
  try {
    take();
    return 0;
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 429);
    EXPECT_EQ(error.code_name(), "rate_limit_exceeded");
    return error.retry_after();
  }
}

TEST(RateLimiter, GivesAMinuteOfRequestsAtOnceAndThenOneByOne) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(6, 0));  // one in ten seconds
  const auto take = [&] { limiter.take_request("a"); };
  for (int i = 0; i < 6; ++i) EXPECT_EQ(refused_for(take), 0) << i;
  EXPECT_EQ(refused_for(take), 10);
  clock.pass(milliseconds(9'500));
  EXPECT_EQ(refused_for(take), 1);
  clock.pass(milliseconds(500));
  EXPECT_EQ(refused_for(take), 0);
  EXPECT_EQ(refused_for(take), 10);
  clock.pass(seconds(3600));  // no more than a minute is saved up
  for (int i = 0; i < 6; ++i) EXPECT_EQ(refused_for(take), 0) << i;
  EXPECT_EQ(refused_for(take), 10);
  EXPECT_EQ(limiter.refused(), 4);
}

TEST(RateLimiter, KeepsClientsApart) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(1, 0));
  limiter.take_request("a");
  limiter.take_request("b");
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 60);
  EXPECT_EQ(refused_for([&] { limiter.take_request("b"); }), 60);
}

TEST(RateLimiter, AnswersMayOverdrawTokensAndTheNextRequestWaits) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(0, 600));  // ten a second
  limiter.take_request("a");
  limiter.take_prompt("a", 500);
  EXPECT_EQ(refused_for([&] { limiter.take_prompt("a", 150); }), 5);  // 50 are missing
  limiter.spend("a", 300);                                            // 200 below empty
  EXPECT_EQ(headers_of(limiter, "a").at("x-ratelimit-remaining-tokens"), "0");
  EXPECT_EQ(headers_of(limiter, "a").at("x-ratelimit-reset-tokens"), "1m20s");
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 21);  // 201 are missing
  clock.pass(seconds(21));
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 0);
}

TEST(RateLimiter, APromptThatNeverFitsIsNotWorthTryingAgain) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(0, 600));
  try {
    limiter.take_prompt("a", 601);
    FAIL();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 413);
    EXPECT_EQ(error.retry_after(), 0);
  }
  limiter.take_prompt("a", 600);
}

TEST(RateLimiter, ARequestThatIsRefusedForItsTokensIsNotCounted) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(5, 600));
  limiter.spend("a", 600);
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 1);
  EXPECT_EQ(headers_of(limiter, "a").at("x-ratelimit-remaining-requests"), "5");
}

TEST(RateLimiter, SaysWhatIsLeft) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(60, 6000));
  limiter.take_request("a");
  limiter.take_prompt("a", 1000);
  const std::map<std::string, std::string> expected = {
      {"x-ratelimit-limit-requests", "60"},     {"x-ratelimit-limit-tokens", "6000"},
      {"x-ratelimit-remaining-requests", "59"}, {"x-ratelimit-remaining-tokens", "5000"},
      {"x-ratelimit-reset-requests", "1s"},     {"x-ratelimit-reset-tokens", "10s"}};
  EXPECT_EQ(headers_of(limiter, "a"), expected);
  RateLimiter one(clock.limits(60, 0));
  EXPECT_EQ(one.headers("a").size(), 3u);
  RateLimiter none(clock.limits(0, 0));
  EXPECT_TRUE(none.headers("a").empty());
  EXPECT_FALSE(none.any());
  for (int i = 0; i < 1000; ++i) none.take_request("a");
  EXPECT_EQ(none.clients(), 0u);
}

TEST(RateLimiter, ForgetsWhoWasQuietForLongest) {
  FakeClock clock;
  RateLimiter limiter(clock.limits(1, 0), 3);
  for (const char* name : {"a", "b", "c"}) limiter.take_request(name);
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 60);  // a is the latest now
  limiter.take_request("d");                                       // in place of b
  EXPECT_EQ(limiter.clients(), 3u);
  EXPECT_EQ(refused_for([&] { limiter.take_request("a"); }), 60);
  EXPECT_EQ(refused_for([&] { limiter.take_request("b"); }), 0);
  for (int i = 0; i < 10'000; ++i) limiter.take_request("peer " + std::to_string(i));
  EXPECT_EQ(limiter.clients(), 3u);
}

TEST(RateLimiter, TimesReadAsOpenAiWritesThem) {
  EXPECT_EQ(format_reset(0), "0ms");
  EXPECT_EQ(format_reset(0.0123), "13ms");
  EXPECT_EQ(format_reset(1), "1s");
  EXPECT_EQ(format_reset(8.64), "8.640s");
  EXPECT_EQ(format_reset(59.9999), "1m0s");
  EXPECT_EQ(format_reset(360), "6m0s");
}

constexpr const char* kChat = "/v1/chat/completions";

json short_chat() {
  json body = chat("Hello");
  body["max_tokens"] = 4;
  body["ignore_eos"] = true;
  return body;
}

TEST(RateLimits, RequestsOfAKeyBeyondItsOwnAreRefused) {
  FakeClock clock;
  ServerOptions options;
  options.keys = {"alice:one", "bob:two"};
  options.rate = clock.limits(2, 0);
  TestServer server(options);
  const TestClient::Headers alice = {{"Authorization", "Bearer one"}, {"Origin", "https://page.example"}};
  const TestClient::Headers bob = {{"Authorization", "Bearer two"}};
  HttpReply reply = server.post(kChat, short_chat(), alice);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("x-ratelimit-limit-requests"), "2");
  EXPECT_EQ(reply.headers.at("x-ratelimit-remaining-requests"), "1");
  EXPECT_EQ(reply.headers.at("x-ratelimit-reset-requests"), "30s");
  EXPECT_EQ(reply.headers.count("x-ratelimit-limit-tokens"), 0u);
  // What is refused later on for other reasons counts as well.
  reply = server.post(kChat, json::object(), alice);
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.headers.at("x-ratelimit-remaining-requests"), "0");
  reply = server.post(kChat, short_chat(), alice);
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.error("code"), "rate_limit_exceeded");
  EXPECT_EQ(reply.error("type"), "rate_limit_error");
  EXPECT_EQ(reply.headers.at("retry-after"), "30");
  EXPECT_EQ(reply.headers.at("x-ratelimit-remaining-requests"), "0");
  EXPECT_EQ(server.post(kChat, short_chat(), bob).status, 200);
  EXPECT_EQ(server.get("/v1/models", alice).status, 200);  // asking what there is is free
  const HttpReply stranger = server.post(kChat, short_chat(), {{"Authorization", "Bearer three"}});
  EXPECT_EQ(stranger.status, 401);
  EXPECT_EQ(stranger.headers.count("x-ratelimit-limit-requests"), 0u);
  const std::string metrics = server.get("/metrics", bob).body;
  EXPECT_NE(metrics.find("vl2_rate_limited_total 1\n"), std::string::npos) << metrics;
  clock.pass(seconds(30));
  EXPECT_EQ(server.post(kChat, short_chat(), alice).status, 200);
}

TEST(RateLimits, OtherApisSayItTheirWay) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(1, 0);
  TestServer server(options);
  EXPECT_EQ(server.post("/tokenize", {{"content", "a"}}).status, 200);
  const HttpReply reply = server.post("/v1/messages", short_chat());
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.parsed().at("error").at("type"), "rate_limit_error");
  EXPECT_EQ(reply.headers.at("retry-after"), "60");
}

TEST(RateLimits, TokensOfPromptAndAnswerAreChargedToTheAddress) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(0, 6000);
  options.cors_origins = {"https://page.example"};
  TestServer server(options);
  const HttpReply whole = server.post(kChat, short_chat(), {{"Origin", "https://page.example"}});
  ASSERT_EQ(whole.status, 200);
  const int64_t used = whole.parsed().at("usage").at("total_tokens");
  EXPECT_EQ(whole.headers.at("x-ratelimit-remaining-tokens"), std::to_string(6000 - used));
  EXPECT_NE(whole.headers.at("access-control-expose-headers").find("x-ratelimit-remaining-tokens"), std::string::npos);
  // A stream has its head before the answer: the prompt is charged, the answer not yet.
  json body = short_chat();
  body["stream"] = true;
  const HttpReply stream = server.post(kChat, body);
  ASSERT_EQ(stream.status, 200);
  const int64_t prompt = whole.parsed().at("usage").at("prompt_tokens");
  EXPECT_EQ(stream.headers.at("x-ratelimit-remaining-tokens"), std::to_string(6000 - used - prompt));
  const HttpReply after = server.post("/tokenize", {{"content", "a"}});
  EXPECT_EQ(after.headers.at("x-ratelimit-remaining-tokens"), std::to_string(6000 - 2 * used));
}

TEST(RateLimits, ChoicesShareThePromptAndPayForTheirAnswers) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(0, 6000);
  TestServer server(options);
  json body = short_chat();
  body["n"] = 3;
  const HttpReply reply = server.post(kChat, body);
  ASSERT_EQ(reply.status, 200);
  const json usage = reply.parsed().at("usage");
  EXPECT_EQ(usage.at("completion_tokens"), 12);
  EXPECT_EQ(reply.headers.at("x-ratelimit-remaining-tokens"),
            std::to_string(6000 - usage.at("prompt_tokens").get<int64_t>() - 12));
}

TEST(RateLimits, APromptBeyondWhatIsLeftIsRefusedBeforeItRuns) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(0, 60);
  TestServer server(options);
  std::string words;
  for (int i = 0; i < 12; ++i) words += "circle ";
  json body = short_chat();
  body["messages"][0]["content"] = words;
  ASSERT_EQ(server.post(kChat, body).status, 200);
  const int64_t ran = server.engine->stats().prompt_tokens;
  HttpReply refused;
  for (int i = 0; i < 10 && refused.status != 429; ++i) refused = server.post(kChat, body);
  EXPECT_EQ(refused.status, 429);
  EXPECT_GE(std::stoi(refused.headers.at("retry-after")), 1);
  const int64_t then = server.engine->stats().prompt_tokens;
  EXPECT_EQ(server.post(kChat, body).status, 429);
  EXPECT_EQ(server.engine->stats().prompt_tokens, then);
  EXPECT_GE(then, ran);
  std::string many;
  for (int i = 0; i < 100; ++i) many += "circle ";
  body["messages"][0]["content"] = many;
  clock.pass(seconds(60));
  EXPECT_EQ(server.post(kChat, body).status, 413);
}

TEST(RateLimits, BehindAProxyTheAddressIsTheOneItAdds) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(1, 0);
  options.behind_proxy = true;
  TestServer server(options);
  const auto ask = [&](const std::string& forwarded) {
    return server.post("/tokenize", {{"content", "a"}}, {{"X-Forwarded-For", forwarded}}).status;
  };
  EXPECT_EQ(ask("198.51.100.7"), 200);
  EXPECT_EQ(ask("203.0.113.1, 198.51.100.7"), 429);  // what stood there before is the client's invention
  EXPECT_EQ(ask("198.51.100.7, 203.0.113.1"), 200);
  EXPECT_EQ(ask("2001:db8:1:2::1"), 200);
  EXPECT_EQ(ask("2001:db8:1:2:ffff::9"), 429);  // the same network
  EXPECT_EQ(ask("2001:db8:1:3::1"), 200);
  EXPECT_EQ(ask("no address"), 200);  // the socket's
  EXPECT_EQ(ask("nor this"), 429);
}

TEST(RateLimits, WithoutAProxyTheHeaderMeansNothing) {
  FakeClock clock;
  ServerOptions options;
  options.rate = clock.limits(1, 0);
  TestServer server(options);
  const auto ask = [&](const std::string& forwarded) {
    return server.post("/tokenize", {{"content", "a"}}, {{"X-Forwarded-For", forwarded}}).status;
  };
  EXPECT_EQ(ask("198.51.100.7"), 200);
  EXPECT_EQ(ask("198.51.100.8"), 429);
}

}  // namespace
}  // namespace vl2::server
