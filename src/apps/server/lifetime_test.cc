// Who ends when: clients that go away, full queues, the server's own end.
#include <thread>

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

json endless(bool stream) {
  json body = chat("Tell me everything");
  body["stream"] = stream;
  body["max_tokens"] = 4000;
  body["ignore_eos"] = true;
  return body;
}

// A stream that has begun: its first text is there.
void begin(TestClient& client, const json& body) {
  client.send(TestClient::text_of("POST", kChat, body.dump(), {}));
  ASSERT_TRUE(client.wait_for("\"delta\":{\"content\":")) << client.buffer();
}

TEST(Lifetime, AClientThatLeavesAStreamEndsItsAnswer) {
  TestServer server;
  {
    TestClient client(server.port());
    begin(client, endless(true));
  }
  EXPECT_EQ(server.watch.wait(1), std::vector{FinishReason::kCancelled});
  EXPECT_LT(server.engine->stats().generated_tokens, 4000);
}

TEST(Lifetime, AClientThatWaitsForAWholeReplyAndLeavesEndsItToo) {
  TestServer server;
  TestClient client(server.port());
  client.send(TestClient::text_of("POST", kChat, endless(false).dump(), {}));
  while (server.engine->stats().generated_tokens == 0) std::this_thread::yield();
  client.close();
  EXPECT_EQ(server.watch.wait(1), std::vector{FinishReason::kCancelled});
}

TEST(Lifetime, AFullQueueSaysWhenToComeBack) {
  ServerOptions options;
  options.parallel = 1;
  options.max_queue = 1;
  TestServer server(options);
  TestClient first(server.port()), second(server.port());
  begin(first, endless(true));
  second.send(TestClient::text_of("POST", kChat, endless(true).dump(), {}));  // waits
  ASSERT_TRUE(second.wait_for("\"role\":\"assistant\""));
  const HttpReply third = server.post(kChat, chat("Hello"));
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(third.headers.at("retry-after"), "1");
  EXPECT_EQ(third.error("type"), "rate_limit_error");
  EXPECT_EQ(third.error("code"), "queue_full");
  EXPECT_EQ(server.get("/ready").status, 503);
  json three = chat("Hello");
  three["n"] = 3;  // more than there ever is room for
  const HttpReply never = server.post(kChat, three);
  EXPECT_EQ(never.status, 400);
  EXPECT_EQ(never.error("param"), "n");
  first.close();
  second.close();
  EXPECT_EQ(server.watch.wait(2), (std::vector{FinishReason::kCancelled, FinishReason::kCancelled}));
  while (server.server->context().full()) std::this_thread::yield();
  EXPECT_EQ(server.get("/ready").status, 200);
}

TEST(Lifetime, WhoDoesNotReadAnAnswerKeepsNobodyElseWaiting) {
  ServerOptions options;
  options.parallel = 1;
  options.max_queue = 0;
  options.model_ids = {std::string(8000, 'm'), "nano"};  // in every event: more than what fits into a connection
  TestServer server(options);
  TestClient slow(server.port(), 2048);
  json body = endless(true);
  body["max_tokens"] = 1000;
  begin(slow, body);
  EXPECT_EQ(server.watch.wait(1), std::vector{FinishReason::kLength});
  int status = 429;
  for (int i = 0; i < 100 && status == 429; ++i) {
    status = server.post(kChat, chat("Hello")).status;
    if (status == 429) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(status, 200);
  EXPECT_NE(server.get("/metrics").body.find("vl2_answers_total 1\n"), std::string::npos)
      << "the slow one had read all of it, and proves nothing";
}

TEST(Lifetime, DrainingFinishesWhatRunsAndTakesNothingNew) {
  TestServer server;
  TestClient running(server.port()), idle(server.port());
  EXPECT_EQ(idle.get("/health").status, 200);
  json body = endless(true);
  body["max_tokens"] = 300;
  begin(running, body);
  ASSERT_TRUE(server.server->drain(std::chrono::minutes(1)));
  EXPECT_TRUE(idle.at_end());
  EXPECT_FALSE(TestClient(server.port()).connected());
  const HttpReply reply = running.read();
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
  EXPECT_EQ(server.watch.wait(1), std::vector{FinishReason::kLength});
}

TEST(Lifetime, WhatDoesNotFinishInTimeEndsWithAnError) {
  TestServer server;
  TestClient streaming(server.port()), whole(server.port());
  begin(streaming, endless(true));
  whole.send(TestClient::text_of("POST", kChat, endless(false).dump(), {}));
  while (server.engine->stats().running < 2) std::this_thread::yield();
  EXPECT_FALSE(server.server->drain(std::chrono::milliseconds(0)));
  server.server->stop();
  const HttpReply stream = streaming.read();
  EXPECT_TRUE(stream.whole);
  EXPECT_EQ(stream.body.find("[DONE]"), std::string::npos);
  const json last = events_of(stream.body).back();
  EXPECT_EQ(last.at("error").at("code"), "shutting_down");
  const HttpReply reply = whole.read();
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.error("code"), "shutting_down");
}

TEST(Lifetime, WhileTheModelIsLoadedHealthSaysSo) {
  TestServer server({}, false);
  const HttpReply health = server.get("/v1/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.parsed(),
            json({{"error", {{"code", 503}, {"message", "Loading model"}, {"type", "unavailable_error"}}}}));
  const HttpReply chat_reply = server.post(kChat, chat("Hello"));
  EXPECT_EQ(chat_reply.status, 503);
  EXPECT_EQ(chat_reply.error("code"), "model_loading");
  EXPECT_EQ(chat_reply.error("type"), "unavailable_error");
  EXPECT_EQ(server.get("/v1/models").status, 200);
  EXPECT_EQ(server.get("/metrics").status, 200);
  server.load();
  EXPECT_EQ(server.get("/health").parsed(), json({{"status", "ok"}}));
}

}  // namespace
}  // namespace vl2::server
