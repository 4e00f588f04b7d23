#include <algorithm>

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

json streamed(json body) {
  body["stream"] = true;
  return body;
}

std::string text_of(const std::vector<json>& events, size_t choice = 0) {
  std::string text;
  for (const json& event : events) {
    if (event.is_string()) continue;
    for (const json& one : event.at("choices"))
      if (one.at("index") == choice) text += one.at("delta").value("content", "");
  }
  return text;
}

TEST(Stream, BeginsWithTheRoleAndEndsWithAReasonAndDone) {
  TestServer server;
  const GoldenCase one = golden_cases().at(0);
  const HttpReply reply = server.post(kChat, streamed(golden_chat(one)));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.whole);
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(reply.headers.at("x-accel-buffering"), "no");
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
  const std::vector<json> events = events_of(reply.body);
  ASSERT_GT(events.size(), 4u);
  EXPECT_EQ(events.front().at("choices").at(0).at("delta"), json({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(events.back(), "[DONE]");
  const json& last = events[events.size() - 2].at("choices").at(0);
  EXPECT_EQ(last.at("delta"), json::object());
  EXPECT_EQ(last.at("finish_reason"), "stop");
  EXPECT_EQ(last.at("grounding").at(0).at("label"), "the green star");
  EXPECT_EQ(text_of(events), one.answer);
  int reasons = 0;
  for (const json& event : events) {
    if (event.is_string()) continue;
    EXPECT_EQ(event.at("object"), "chat.completion.chunk");
    EXPECT_EQ(event.at("id"), events[0].at("id"));
    EXPECT_EQ(event.at("created"), events[0].at("created"));
    EXPECT_FALSE(event.contains("usage"));
    reasons += event.at("choices").at(0).at("finish_reason").is_null() ? 0 : 1;
  }
  EXPECT_EQ(reasons, 1);
}

TEST(Stream, UsageComesLastWhenItIsAskedFor) {
  TestServer server;
  const GoldenCase one = golden_cases().at(0);
  json body = streamed(golden_chat(one));
  body["stream_options"] = {{"include_usage", true}};
  const std::vector<json> events = events_of(server.post(kChat, body).body);
  const json& usage = events[events.size() - 2];
  EXPECT_EQ(usage.at("choices"), json::array());
  EXPECT_EQ(usage.at("usage").at("prompt_tokens"), one.prompt_tokens);
  EXPECT_EQ(usage.at("usage").at("completion_tokens"), one.completion_tokens);
  for (size_t i = 0; i + 2 < events.size(); ++i) EXPECT_TRUE(events[i].at("usage").is_null());
}

TEST(Stream, SaysWhatTheWholeReplySays) {
  TestServer server;
  json body = chat("Hello");
  body["temperature"] = 2;  // bytes of no character among them
  body["seed"] = 5;
  body["n"] = 2;
  body["max_tokens"] = 60;
  body["ignore_eos"] = true;
  body["logprobs"] = true;
  const json whole = server.post(kChat, body).parsed();
  const std::vector<json> events = events_of(server.post(kChat, streamed(body)).body);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(text_of(events, i), whole.at("choices").at(i).at("message").at("content"));
    json logprobs = json::array();
    for (const json& event : events) {
      if (event.is_string()) continue;
      const json& choice = event.at("choices").at(0);
      if (choice.at("index") != i || choice.at("logprobs").is_null()) continue;
      for (const json& entry : choice.at("logprobs").at("content")) logprobs.push_back(entry);
    }
    EXPECT_EQ(logprobs, whole.at("choices").at(i).at("logprobs").at("content"));
  }
}

TEST(Stream, AStopStringNeverShows) {
  TestServer server;
  const GoldenCase one = golden_cases().at(0);
  json body = streamed(golden_chat(one));
  body["stop"] = {"6, 80"};
  EXPECT_EQ(text_of(events_of(server.post(kChat, body).body)), one.answer.substr(0, one.answer.find("6, 80")));
}

TEST(Stream, SilenceIsFilledWithPings) {
  ServerOptions options;
  options.ping_time = std::chrono::milliseconds(1);
  TestServer server(options);
  const HttpReply reply = server.post(kChat, streamed(golden_chat(golden_cases().at(0))));
  EXPECT_NE(reply.body.find("\n\n: ping\n\n"), std::string::npos);
  EXPECT_EQ(text_of(events_of(reply.body)), golden_cases().at(0).answer);
}

TEST(Stream, AConnectionServesOneAfterTheOther) {
  TestServer server;
  TestClient client(server.port());
  json body = streamed(chat("Hello"));
  body["max_tokens"] = 3;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(client.post(kChat, body).body.ends_with("data: [DONE]\n\n"));
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST(Stream, OldClientsGetItWithoutChunksUpToTheEndOfTheConnection) {
  TestServer server;
  TestClient client(server.port());
  json body = streamed(chat("Hello"));
  body["max_tokens"] = 3;
  const std::string text = body.dump();
  client.send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" +
              text);
  while (client.more()) {
  }
  EXPECT_EQ(client.buffer().find("Transfer-Encoding"), std::string::npos);
  EXPECT_TRUE(client.buffer().ends_with("data: [DONE]\n\n")) << client.buffer();
}

}  // namespace
}  // namespace vl2::server
