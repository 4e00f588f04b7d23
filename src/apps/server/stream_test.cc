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

std::vector<json> boxes_of(const std::vector<json>& events, std::vector<std::string>& texts_so_far) {
  std::vector<json> boxes;
  std::string text;
  for (const json& event : events) {
    if (event.is_string() || event.at("choices").empty()) continue;
    const json& delta = event.at("choices").at(0).at("delta");
    text += delta.value("content", "");
    if (!delta.contains("grounding")) continue;
    for (const json& one : delta.at("grounding")) {
      boxes.push_back(one);
      texts_so_far.push_back(text);
    }
  }
  return boxes;
}

TEST(Stream, BoxesComeWhenTheirListCloses) {
  TestServer server;
  const GoldenCase one = golden_cases().at(0);
  std::vector<std::string> texts;
  const std::vector<json> events = events_of(server.post(kChat, streamed(golden_chat(one))).body);
  const std::vector<json> boxes = boxes_of(events, texts);
  EXPECT_EQ(json(boxes), events[events.size() - 2].at("choices").at(0).at("grounding"));
  ASSERT_EQ(texts.size(), 1u);
  EXPECT_TRUE(texts[0].ends_with("<|/det|>")) << texts[0];

  // Two lists, of two things and one, and a third that is not closed.
  json body = streamed(golden_chat(one));
  body["response_format"] = {
      {"type", "regex"},
      {"pattern", R"(<\|ref\|>a<\|/ref\|><\|det\|>\[\[1, 2, 3, 4\], \[5, 6, 7, 8\]\]<\|/det\|> and )"
                  R"(<\|ref\|>b<\|/ref\|><\|det\|>\[\[9, 10, 11, 12\]\]<\|/det\|> and )"
                  R"(<\|ref\|>c<\|/ref\|><\|det\|>\[\[13, 14, 15, 16\], )"}};
  texts.clear();
  const std::vector<json> forced = events_of(server.post(kChat, body).body);
  const std::vector<json> some = boxes_of(forced, texts);
  ASSERT_EQ(some.size(), 3u) << json(forced);
  EXPECT_EQ(some[0].at("label"), "a");
  EXPECT_EQ(some[1].at("box_norm"), json({5, 6, 7, 8}));
  EXPECT_EQ(some[2].at("label"), "b");
  for (const json& box : some) EXPECT_TRUE(box.contains("score")) << box;
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_TRUE(texts[0].ends_with("8]]<|/det|>")) << texts[0];
  EXPECT_TRUE(texts[2].ends_with("12]]<|/det|>")) << texts[2];
  const json all = forced[forced.size() - 2].at("choices").at(0).at("grounding");
  ASSERT_EQ(all.size(), 4u) << "whole boxes of a list that is not closed count at the end";
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(all.at(i), some[i]);
}

TEST(Stream, ProgressOfThePromptComesWhenItIsAskedFor) {
  EngineOptions small_steps;
  small_steps.prefill_chunk = 64;
  TestServer server(ServerOptions{}, true, small_steps);
  const GoldenCase one = golden_cases().at(0);
  json body = streamed(golden_chat(one));
  const auto progress = [&] {
    std::vector<json> result;
    bool answering = false;
    for (const json& event : events_of(server.post(kChat, body).body)) {
      if (event.is_string()) continue;
      answering |= !event.at("choices").at(0).at("delta").value("content", "").empty();
      if (!event.contains("prompt_progress")) continue;
      EXPECT_FALSE(answering);
      EXPECT_EQ(event.at("choices").at(0).at("delta"), json::object());
      result.push_back(event.at("prompt_progress"));
    }
    return result;
  };
  EXPECT_TRUE(progress().empty());
  body["return_progress"] = true;
  const std::vector<json> cached = progress();
  ASSERT_FALSE(cached.empty());
  EXPECT_GT(cached.back().at("cache"), 0);
  json other = golden_chat(one);
  body["messages"] =
      chat({text_part("This begins in another way."), other.at("messages").at(0).at("content").at(0)}).at("messages");
  const std::vector<json> fresh = progress();
  ASSERT_FALSE(fresh.empty());
  int64_t before = 0;
  for (const json& one_step : fresh) {
    EXPECT_EQ(one_step.at("cache"), 0);
    EXPECT_EQ(one_step.at("total"), fresh.front().at("total"));
    EXPECT_GT(one_step.at("processed"), before);
    before = one_step.at("processed");
  }
  EXPECT_EQ(before, fresh.back().at("total"));
  EXPECT_GE(fresh.back().at("time_ms"), fresh.front().at("time_ms"));
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
