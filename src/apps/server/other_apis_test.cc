// Anthropic's Messages, OpenAI's Responses and Ollama's chat over the same model.
#include <algorithm>

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

struct TypedEvent {
  std::string name;
  json data;
};
std::vector<TypedEvent> typed_events(const std::string& body) {
  std::vector<TypedEvent> events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    const std::string event = body.substr(at, end - at);
    at = end == std::string::npos ? body.size() : end + 2;
    if (!event.starts_with("event: ")) continue;
    const size_t line = event.find("\ndata: ");
    events.push_back({event.substr(7, line - 7), json::parse(event.substr(line + 7))});
    EXPECT_EQ(events.back().name, events.back().data.at("type"));
  }
  return events;
}
std::vector<std::string> names_without_repeats(const std::vector<TypedEvent>& events) {
  std::vector<std::string> names;
  for (const TypedEvent& event : events)
    if (names.empty() || names.back() != event.name) names.push_back(event.name);
  return names;
}
json streamed(json body) {
  body["stream"] = true;
  return body;
}

class OtherApis : public testing::Test {
 protected:
  const GoldenCase golden_ = golden_cases().at(0);
  const std::string picture_ = picture_file(golden_.image);
  TestServer server_;
};

class Messages : public OtherApis {
 protected:
  json golden_body() const {
    const json source = {{"type", "base64"}, {"media_type", "image/png"}, {"data", to_base64(picture_)}};
    return {
        {"model", "nano"},
        {"max_tokens", 200},
        {"messages",
         {{{"role", "user"},
           {"content", {{{"type", "image"}, {"source", source}}, {{"type", "text"}, {"text", golden_.question}}}}}}}};
  }
  HttpReply post(const json& body) { return server_.post("/v1/messages", body); }
  void expect_error(const HttpReply& reply, int status, const std::string& type) {
    ASSERT_EQ(reply.status, status) << reply.body;
    EXPECT_EQ(reply.parsed().at("type"), "error");
    EXPECT_EQ(reply.parsed().at("error").at("type"), type);
    EXPECT_FALSE(reply.parsed().at("error").at("message").get<std::string>().empty());
  }
};

TEST_F(Messages, AnswerInAnthropicsShape) {
  const HttpReply reply = post(golden_body());
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = reply.parsed();
  EXPECT_TRUE(body.at("id").get<std::string>().starts_with("msg_"));
  EXPECT_EQ(body.at("type"), "message");
  EXPECT_EQ(body.at("role"), "assistant");
  EXPECT_EQ(body.at("model"), "nano");
  EXPECT_EQ(body.at("content"), json::array({{{"type", "text"}, {"text", golden_.answer}}}));
  EXPECT_EQ(body.at("stop_reason"), "end_turn");
  EXPECT_TRUE(body.at("stop_sequence").is_null());
  EXPECT_EQ(body.at("usage").at("input_tokens"), golden_.prompt_tokens);
  EXPECT_EQ(body.at("usage").at("output_tokens"), golden_.completion_tokens);
  EXPECT_EQ(body.at("grounding").at(0).at("label"), "the green star");
}

TEST_F(Messages, SayWhyTheyEnd) {
  json body = golden_body();
  body["stop_sequences"] = {"6, 80", "never"};
  json reply = post(body).parsed();
  EXPECT_EQ(reply.at("stop_reason"), "stop_sequence");
  EXPECT_EQ(reply.at("stop_sequence"), "6, 80");
  EXPECT_EQ(reply.at("content").at(0).at("text"), golden_.answer.substr(0, golden_.answer.find("6, 80")));
  body.erase("stop_sequences");
  body["max_tokens"] = 3;
  EXPECT_EQ(post(body).parsed().at("stop_reason"), "max_tokens");
  body["max_tokens"] = 300;
  body["output_format"] = {{"type", "regex"}, {"pattern", "(ab){3}"}};
  EXPECT_EQ(post(body).parsed().at("content").at(0).at("text"), "ababab");
}

TEST_F(Messages, TakeTheFormByBothOfItsNames) {
  const json form = {{"type", "regex"}, {"pattern", "(ab){3}"}};
  json body = golden_body();
  body["output_config"] = {{"format", form}, {"effort", "low"}};
  EXPECT_EQ(post(body).parsed().at("content").at(0).at("text"), "ababab");
  body["output_config"] = {{"effort", "low"}};
  EXPECT_EQ(post(body).parsed().at("content").at(0).at("text"), golden_.answer);
  body["output_format"] = form;
  EXPECT_EQ(post(body).parsed().at("content").at(0).at("text"), "ababab");
  body["output_config"] = {{"format", form}};
  expect_error(post(body), 400, "invalid_request_error");
  body.erase("output_format");
  for (const json& wrong : {json("json"), json({{"format", "json"}}), json({{"format", {{"type", "xml"}}}})}) {
    body["output_config"] = wrong;
    expect_error(post(body), 400, "invalid_request_error");
  }
}

TEST_F(Messages, StreamInTheirOrder) {
  const HttpReply reply = post(streamed(golden_body()));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.whole);
  const std::vector<TypedEvent> events = typed_events(reply.body);
  EXPECT_EQ(names_without_repeats(events),
            (std::vector<std::string>{"message_start", "content_block_start", "ping", "content_block_delta",
                                      "content_block_stop", "message_delta", "message_stop"}));
  const json& start = events.front().data.at("message");
  EXPECT_EQ(start.at("content"), json::array());
  EXPECT_EQ(start.at("usage").at("input_tokens"), golden_.prompt_tokens);
  std::string text;
  for (const TypedEvent& event : events)
    if (event.name == "content_block_delta") {
      EXPECT_EQ(event.data.at("delta").at("type"), "text_delta");
      text += event.data.at("delta").at("text").get<std::string>();
    }
  EXPECT_EQ(text, golden_.answer);
  const json& last = events[events.size() - 2].data;
  EXPECT_EQ(last.at("delta").at("stop_reason"), "end_turn");
  EXPECT_EQ(last.at("usage").at("output_tokens"), golden_.completion_tokens);
}

TEST_F(Messages, CountWithoutAnswering) {
  const HttpReply reply = server_.post("/v1/messages/count_tokens", golden_body());
  EXPECT_EQ(reply.parsed(), json({{"input_tokens", golden_.prompt_tokens}})) << reply.body;
  EXPECT_EQ(server_.engine->stats().prompt_tokens, 0);
}

TEST_F(Messages, TakeSystemTextsOfBothForms) {
  const auto count = [&](const json& system) {
    json body = {{"model", "nano"}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}};
    if (!system.is_null()) body["system"] = system;
    return server_.post("/v1/messages/count_tokens", body).parsed().at("input_tokens").get<int64_t>();
  };
  const json blocks =
      json::array({{{"type", "text"}, {"text", "Be brief."}}, {{"type", "text"}, {"text", "Be kind."}}});
  EXPECT_GT(count("Be brief."), count(nullptr));
  EXPECT_EQ(count(blocks), count("Be brief.\nBe kind."));
}

TEST_F(Messages, AreRefusedInAnthropicsShape) {
  json body = golden_body();
  body.erase("max_tokens");
  expect_error(post(body), 400, "invalid_request_error");
  body = golden_body();
  body["model"] = "claude";
  expect_error(post(body), 404, "not_found_error");
  for (const json& messages : {json::array({{{"role", "system"}, {"content", "a"}}}),
                               json::array({{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}),
                               json::array({{{"role", "user"}, {"content", {{{"type", "document"}}}}}})}) {
    body = golden_body();
    body["messages"] = messages;
    expect_error(post(body), 400, "invalid_request_error");
  }
  body = golden_body();
  body["thinking"] = {{"type", "enabled"}, {"budget_tokens", 1024}};
  expect_error(post(body), 400, "invalid_request_error");
  body = golden_body();
  body["messages"][0]["content"][0]["source"] = {{"type", "url"}, {"url", "https://example.org/a.png"}};
  expect_error(post(body), 403, "permission_error");
  ServerOptions options;
  options.keys = {"key"};
  TestServer locked(options);
  expect_error(locked.post("/v1/messages", golden_body()), 401, "authentication_error");
  EXPECT_EQ(
      locked.post("/v1/messages", golden_body(), {{"x-api-key", "key"}, {"anthropic-version", "2023-06-01"}}).status,
      200);
}

class Responses : public OtherApis {
 protected:
  json golden_body() const {
    return {{"model", "nano"},
            {"input",
             {{{"role", "user"},
               {"content",
                {{{"type", "input_image"}, {"image_url", data_url(picture_)}, {"detail", "auto"}},
                 {{"type", "input_text"}, {"text", golden_.question}}}}}}}};
  }
  HttpReply post(const json& body) { return server_.post("/v1/responses", body); }
};

TEST_F(Responses, AnswerInTheirShape) {
  const HttpReply reply = post(golden_body());
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = reply.parsed();
  EXPECT_TRUE(body.at("id").get<std::string>().starts_with("resp_"));
  EXPECT_EQ(body.at("object"), "response");
  EXPECT_EQ(body.at("status"), "completed");
  EXPECT_TRUE(body.at("error").is_null());
  EXPECT_TRUE(body.at("incomplete_details").is_null());
  const json& item = body.at("output").at(0);
  EXPECT_EQ(item.at("type"), "message");
  EXPECT_EQ(item.at("role"), "assistant");
  EXPECT_EQ(item.at("status"), "completed");
  EXPECT_EQ(item.at("content").at(0).at("type"), "output_text");
  EXPECT_EQ(item.at("content").at(0).at("text"), golden_.answer);
  EXPECT_EQ(item.at("content").at(0).at("annotations"), json::array());
  EXPECT_EQ(item.at("content").at(0).at("grounding").at(0).at("label"), "the green star");
  const json& usage = body.at("usage");
  EXPECT_EQ(usage.at("input_tokens"), golden_.prompt_tokens);
  EXPECT_EQ(usage.at("input_tokens_details").at("cached_tokens"), 0);
  EXPECT_EQ(usage.at("output_tokens"), golden_.completion_tokens);
  EXPECT_EQ(usage.at("total_tokens"), golden_.prompt_tokens + golden_.completion_tokens);
}

TEST_F(Responses, StreamInTheirOrder) {
  const HttpReply reply = post(streamed(golden_body()));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const std::vector<TypedEvent> events = typed_events(reply.body);
  EXPECT_EQ(names_without_repeats(events),
            (std::vector<std::string>{"response.created", "response.in_progress", "response.output_item.added",
                                      "response.content_part.added", "response.output_text.delta",
                                      "response.output_text.done", "response.content_part.done",
                                      "response.output_item.done", "response.completed"}));
  std::string text;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].data.at("sequence_number"), i);
    if (events[i].name == "response.output_text.delta") text += events[i].data.at("delta").get<std::string>();
    if (events[i].name == "response.output_text.done") {
      EXPECT_EQ(events[i].data.at("text"), golden_.answer);
    }
  }
  EXPECT_EQ(text, golden_.answer);
  EXPECT_EQ(events.back().data.at("response").at("output").at(0).at("content").at(0).at("text"), golden_.answer);
  EXPECT_EQ(reply.body.find("[DONE]"), std::string::npos);
}

TEST_F(Responses, SayThatTheyAreCutOff) {
  json body = golden_body();
  body["max_output_tokens"] = 3;
  const json reply = post(body).parsed();
  EXPECT_EQ(reply.at("status"), "incomplete");
  EXPECT_EQ(reply.at("incomplete_details").at("reason"), "max_output_tokens");
  EXPECT_EQ(reply.at("max_output_tokens"), 3);
  EXPECT_EQ(typed_events(post(streamed(body)).body).back().name, "response.incomplete");
}

TEST_F(Responses, TakeTextsInstructionsAndForms) {
  const json body = {{"input", "Hello"},
                     {"instructions", "Be brief."},
                     {"text",
                      {{"format",
                        {{"type", "json_schema"},
                         {"name", "a"},
                         {"strict", true},
                         {"schema", {{"const", "yes"}, {"type", "string"}}}}}}}};
  const HttpReply answered = post(body);
  ASSERT_EQ(answered.status, 200) << answered.body;
  const json reply = answered.parsed();
  EXPECT_EQ(reply.at("output").at(0).at("content").at(0).at("text"), "\"yes\"") << reply;
  EXPECT_EQ(reply.at("instructions"), "Be brief.");
  const json counted = server_.post("/v1/responses/input_tokens", body).parsed();
  EXPECT_EQ(counted.at("object"), "response.input_tokens");
  EXPECT_EQ(counted.at("input_tokens"), reply.at("usage").at("input_tokens"));
}

TEST_F(Responses, RefuseWhatNeedsAMemory) {
  for (const char* field : {"previous_response_id", "conversation", "prompt"}) {
    const HttpReply reply = post({{"input", "Hello"}, {field, "resp_1"}});
    EXPECT_EQ(reply.status, 400);
    EXPECT_EQ(reply.error("param"), field);
  }
  EXPECT_EQ(post({{"input", "Hello"}, {"background", true}}).error("param"), "background");
  EXPECT_EQ(post({{"input", 5}}).error("param"), "input");
  const json call = {{"type", "function_call_output"}, {"call_id", "a"}, {"output", "b"}};
  EXPECT_EQ(post({{"input", json::array({call})}}).error("param"), "input[0].type");
  const json part = {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "a"}}}}};
  EXPECT_EQ(post({{"input", json::array({part})}}).error("param"), "input[0].content[0].type");
}

class Ollama : public OtherApis {
 protected:
  json golden_body() const {
    return {{"model", "nano:latest"},
            {"stream", false},
            {"messages", {{{"role", "user"}, {"content", golden_.question}, {"images", {to_base64(picture_)}}}}}};
  }
  static std::vector<json> lines(const std::string& body) {
    std::vector<json> result;
    for (size_t at = 0; at < body.size();) {
      const size_t end = body.find('\n', at);
      result.push_back(json::parse(body.substr(at, end - at)));
      at = end + 1;
    }
    return result;
  }
};

TEST_F(Ollama, ChatAnswersWholeWhenItIsTold) {
  const HttpReply reply = server_.post("/api/chat", golden_body());
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json body = reply.parsed();
  EXPECT_EQ(body.at("model"), "nano:latest");
  EXPECT_EQ(body.at("message"), json({{"role", "assistant"}, {"content", golden_.answer}}));
  EXPECT_EQ(body.at("done"), true);
  EXPECT_EQ(body.at("done_reason"), "stop");
  EXPECT_EQ(body.at("prompt_eval_count"), golden_.prompt_tokens);
  EXPECT_EQ(body.at("eval_count"), golden_.completion_tokens);
  EXPECT_GT(body.at("total_duration"), body.at("eval_duration"));
  EXPECT_EQ(body.at("grounding").at(0).at("label"), "the green star");
}

TEST_F(Ollama, StreamsLinesUnlessItIsTold) {
  json body = golden_body();
  body.erase("stream");
  const HttpReply reply = server_.post("/api/chat", body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.headers.at("content-type").starts_with("application/x-ndjson"));
  const std::vector<json> all = lines(reply.body);
  ASSERT_GT(all.size(), 2u);
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    text += all[i].at("message").at("content").get<std::string>();
    EXPECT_EQ(all[i].at("done"), i + 1 == all.size());
  }
  EXPECT_EQ(text, golden_.answer);
  EXPECT_EQ(all.back().at("done_reason"), "stop");
}

TEST_F(Ollama, GenerateTakesOneQuestion) {
  const json body = {{"model", "nano"},
                     {"prompt", golden_.question},
                     {"images", {to_base64(picture_)}},
                     {"stream", false},
                     {"options", {{"temperature", 0}, {"num_predict", 200}}}};
  EXPECT_EQ(server_.post("/api/generate", body).parsed().at("response"), golden_.answer);
  json cut = body;
  cut["options"]["num_predict"] = 3;
  EXPECT_EQ(server_.post("/api/generate", cut).parsed().at("done_reason"), "length");
  json formed = body;
  formed["format"] = {{"type", "object"},
                      {"properties", {{"n", {{"type", "integer"}, {"minimum", 4}, {"maximum", 4}}}}},
                      {"required", {"n"}},
                      {"additionalProperties", false}};
  const std::string text = server_.post("/api/generate", formed).parsed().at("response");
  EXPECT_EQ(json::parse(text), json({{"n", 4}})) << text;
  const json load = server_.post("/api/generate", {{"model", "nano"}}).parsed();
  EXPECT_EQ(load.at("done_reason"), "load");
  EXPECT_EQ(load.at("done"), true);
}

TEST_F(Ollama, ToldOfItsModels) {
  const json tags = server_.get("/api/tags").parsed();
  EXPECT_EQ(tags.at("models").at(0).at("name"), "nano:latest");
  EXPECT_EQ(server_.get("/api/ps").parsed().at("models").at(0).at("model"), "nano:latest");
  const json show = server_.post("/api/show", {{"model", "nano:latest"}}).parsed();
  EXPECT_EQ(show.at("capabilities"), json({"completion", "vision", "embedding"}));
  EXPECT_GT(show.at("model_info").at("general.parameter_count"), 0);
  EXPECT_FALSE(server_.get("/api/version").parsed().at("version").get<std::string>().empty());
}

TEST_F(OtherApis, MissingRoutesAreToldInTheShapeOfTheirApi) {
  EXPECT_TRUE(server_.post("/api/pull", json::object()).parsed().at("error").is_string());
  EXPECT_TRUE(server_.get("/api/chat").parsed().at("error").is_string());
  EXPECT_EQ(server_.get("/api/chat").status, 405);
  EXPECT_EQ(server_.get("/v1/messages/batches/one").parsed().at("error").at("type"), "not_found_error");
  EXPECT_EQ(server_.get("/v1/messages").parsed().at("type"), "error");
  EXPECT_EQ(server_.get("/v1/nowhere").error("code"), "unknown_url");
  // A route that several clients ask.
  EXPECT_EQ(server_.get("/v1/models/claude").error("code"), "model_not_found");
  const TestClient::Headers anthropic = {{"anthropic-version", "2023-06-01"}};
  EXPECT_EQ(server_.get("/v1/models/claude", anthropic).parsed().at("error").at("type"), "not_found_error");
}

TEST_F(Ollama, ErrorsAreATextAlone) {
  const auto expect_error = [&](const std::string& path, const json& body, int status) {
    const HttpReply reply = server_.post(path, body);
    EXPECT_EQ(reply.status, status) << reply.body;
    EXPECT_TRUE(reply.parsed().at("error").is_string()) << reply.body;
  };
  expect_error("/api/chat", {{"model", "llama"}, {"messages", {user("Hello")}}}, 404);
  expect_error("/api/chat", {{"messages", {user("Hello")}}}, 400);
  json body = golden_body();
  body["messages"][0]["images"] = {"!!!"};
  expect_error("/api/chat", body, 400);
  body = golden_body();
  body["format"] = "xml";
  expect_error("/api/chat", body, 400);
  body = golden_body();
  body["options"] = {{"temperature", "hot"}};
  expect_error("/api/chat", body, 400);
  body = golden_body();
  body["think"] = true;
  expect_error("/api/chat", body, 400);
  body = golden_body();
  body["tools"] = {{{"type", "function"}}};
  expect_error("/api/chat", body, 400);
  expect_error("/api/generate", {{"model", "nano"}, {"prompt", "a"}, {"suffix", "b"}}, 400);
}

}  // namespace
}  // namespace vl2::server
