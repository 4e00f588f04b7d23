// Answers held to a form, and what replies say of how an answer came about.
#include <algorithm>
#include <cmath>

#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

// As clients write them: keys in an order that is not the alphabet's.
constexpr const char* kSchema =
    R"({"$schema":"http://json-schema.org/draft-07/schema#","title":"Answer","type":"object","properties":{
        "zeta":{"type":"boolean"},"alpha":{"type":"integer","minimum":3,"maximum":5},
        "middle":{"type":"array","items":{"type":"number","minimum":0,"maximum":1},"minItems":1,"maxItems":2}},
        "required":["zeta","alpha","middle"],"additionalProperties":false})";

class Forms : public testing::Test {
 protected:
  // The text of the request, so that keys stay where they are.
  static std::string body(const std::string& format, const std::string& more = "") {
    return R"({"model":"nano","messages":[{"role":"user","content":"How many?"}],"max_tokens":1500,)" + more +
           R"("response_format":)" + format + "}";
  }
  HttpReply ask(const std::string& format, const std::string& more = "") {
    return TestClient(server_.port()).request("POST", kChat, body(format, more));
  }
  std::string answer(const std::string& format, const std::string& more = "") {
    const HttpReply reply = ask(format, more);
    EXPECT_EQ(reply.status, 200) << reply.body;
    const json choice = reply.parsed().at("choices").at(0);
    EXPECT_EQ(choice.at("finish_reason"), "stop") << reply.body;
    return choice.at("message").at("content");
  }
  void expect_bad(const std::string& format, const std::string& code, const std::string& param,
                  const std::string& said = "") {
    const HttpReply reply = ask(format);
    ASSERT_EQ(reply.status, 400) << reply.body;
    EXPECT_EQ(reply.error("code"), code);
    EXPECT_EQ(reply.error("param"), param);
    EXPECT_NE(reply.error("message").find(said), std::string::npos) << reply.body;
  }
  static std::string wrapped(const std::string& schema) {
    return R"({"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":)" + schema + "}}";
  }
  static void expect_valid(const std::string& text) {
    const json value = json::parse(text, nullptr, false);
    ASSERT_TRUE(value.is_object() && value.size() == 3) << text;
    EXPECT_TRUE(value.at("zeta").is_boolean());
    EXPECT_TRUE(value.at("alpha") >= 3 && value.at("alpha") <= 5) << text;
    EXPECT_TRUE(value.at("middle").size() == 1 || value.at("middle").size() == 2) << text;
  }

  TestServer server_;
};

TEST_F(Forms, AnswersAreValidAndHaveTheSchemasOrder) {
  for (const std::string& format : {wrapped(kSchema), R"({"type":"json_object","schema":)" + std::string(kSchema) + "}",
                                    R"({"schema":)" + std::string(kSchema) + R"(,"type":"json_schema"})"}) {
    const std::string text = answer(format);
    expect_valid(text);
    EXPECT_LT(text.find("zeta"), text.find("alpha")) << text;
    EXPECT_LT(text.find("alpha"), text.find("middle")) << text;
  }
}

TEST_F(Forms, EveryChoiceAndEveryStreamIsHeldToTheForm) {
  const std::string drawn = R"("temperature":1.8,"seed":4,"n":3,)";
  const json whole = ask(wrapped(kSchema), drawn).parsed();
  std::vector<std::string> streamed(3);
  const HttpReply stream = ask(wrapped(kSchema), drawn + R"("stream":true,)");
  for (const json& event : events_of(stream.body)) {
    if (event.is_string()) continue;
    const json& choice = event.at("choices").at(0);
    streamed.at(choice.at("index")) += choice.at("delta").value("content", "");
  }
  for (size_t i = 0; i < 3; ++i) {
    const std::string text = whole.at("choices").at(i).at("message").at("content");
    expect_valid(text);
    EXPECT_EQ(streamed[i], text);
  }
}

TEST_F(Forms, JsonObjectsOfAnyShape) {
  const HttpReply reply = ask(R"({"type":"json_object"})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json choice = reply.parsed().at("choices").at(0);
  const std::string text = choice.at("message").at("content");
  EXPECT_EQ(text.substr(0, 1), "{");
  if (choice.at("finish_reason") == "stop") {
    EXPECT_TRUE(json::parse(text, nullptr, false).is_object()) << text;
  }
}

TEST_F(Forms, ExpressionsAndChoices) {
  EXPECT_EQ(answer(R"x({"type":"regex","pattern":"[0-9]{3}-(ab){2}"})x").substr(3), "-abab");
  EXPECT_EQ(answer(R"({"type":"choices","choices":["a sphinx"]})"), "a sphinx");
  const std::string side = answer(R"({"type":"choices","choices":["left","right"]})");
  EXPECT_TRUE(side == "left" || side == "right") << side;
  EXPECT_EQ(answer(R"({"type":"text"})"), answer("null"));
}

TEST_F(Forms, BoxesAreTheModelsOwn) {
  json located = golden_chat(golden_cases().at(0));
  located["response_format"] = {{"type", "grounding"}};
  const json choice = server_.post(kChat, located).parsed().at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("content"), golden_cases().at(0).answer);
  EXPECT_EQ(choice.at("grounding").at(0).at("label"), "the green star");
}

TEST_F(Forms, CompletionsTakeThemToo) {
  const json body = {{"prompt", "The square is"}, {"response_format", {{"type", "choices"}, {"choices", {"blue"}}}}};
  EXPECT_EQ(server_.post("/v1/completions", body).parsed().at("choices").at(0).at("text"), "blue");
}

TEST_F(Forms, WhatIsNotUnderstoodIsRefusedByName) {
  expect_bad(R"({"type":"xml"})", "unsupported_value", "response_format.type");
  expect_bad(R"({})", "unsupported_value", "response_format.type");
  expect_bad(R"("json")", "null", "response_format");
  expect_bad(R"({"type":"json_schema"})", "null", "response_format.schema");
  expect_bad(R"({"type":"json_schema","json_schema":{"name":"a"}})", "null", "response_format.json_schema.schema");
  expect_bad(wrapped(R"({"type":"object","dependentRequired":{}})"), "null", "response_format.json_schema.schema",
             "dependentRequired");
  expect_bad(wrapped(R"({"type":"nothing"})"), "null", "response_format.json_schema.schema");
  expect_bad(R"x({"type":"regex","pattern":"a(?=b)"})x", "null", "response_format.pattern", "at byte 2");
  expect_bad(R"({"type":"regex"})", "null", "response_format.pattern");
  expect_bad(R"({"type":"choices","choices":[]})", "null", "response_format.choices");
  expect_bad(R"({"type":"choices","choices":["a",5]})", "null", "response_format.choices");
  const HttpReply endless = ask(R"({"type":"json_object"})", R"("ignore_eos":true,)");
  EXPECT_EQ(endless.status, 400);
  EXPECT_EQ(endless.error("param"), "ignore_eos");
}

// Keys in their order are compared one by one: many of them must not become a long wait.
// In time that grows as they do: what were its square would run into the limit of every test.
TEST_F(Forms, HugeOnesAreRefused) {
  std::string keys, values;
  for (int i = 0; i < 300'000; ++i) keys += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":1";
  for (int i = 0; i < 300'000; ++i) values += i == 0 ? "1" : ",1";
  expect_bad("{\"type\":\"json_object\"," + keys + "}", "null", "response_format", "keys");
  expect_bad("{\"type\":\"json_object\",\"a\":[" + values + "]}", "null", "response_format", "values");
  expect_bad(wrapped("{\"type\":\"object\",\"properties\":{" + keys + "}}"), "null", "response_format");
  // Elsewhere they are nobody's business.
  const HttpReply ignored = ask(R"({"type":"choices","choices":["a"]})", "\"metadata\":{" + keys + "},");
  EXPECT_EQ(ignored.status, 200) << ignored.body;
}

TEST(Loops, AreEndedWhenAskedAndSaidToBe) {
  TestServer server;
  json body = chat("Sing");
  body["response_format"] = {{"type", "regex"}, {"pattern", "(la ){3000}"}};
  body["max_tokens"] = 1000;
  json choice = server.post(kChat, body).parsed().at("choices").at(0);
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_FALSE(choice.contains("finish_details"));
  body["detect_loops"] = true;
  const json reply = server.post(kChat, body).parsed();
  choice = reply.at("choices").at(0);
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_EQ(choice.at("finish_details"), json({{"type", "repetition"}}));
  EXPECT_LT(reply.at("usage").at("completion_tokens"), 1000);
  body["stream"] = true;
  const std::vector<json> events = events_of(server.post(kChat, body).body);
  EXPECT_EQ(events.at(events.size() - 2).at("choices").at(0).at("finish_details"), json({{"type", "repetition"}}));
  const json plain = {
      {"prompt", "Sing"}, {"response_format", body["response_format"]}, {"detect_loops", true}, {"max_tokens", 1000}};
  EXPECT_EQ(server.post("/v1/completions", plain).parsed().at("choices").at(0).at("finish_details").at("type"),
            "repetition");
}

TEST(CachedTokens, AreThoseThatWereThereBeforeTheRequest) {
  TestServer server;
  json body = golden_chat(golden_cases().at(0));
  body["n"] = 2;
  const auto usage = [&] { return server.post(kChat, body).parsed().at("usage"); };
  const json first = usage(), second = usage();
  // The second choice found what the first one had just computed, which is no news to the client.
  EXPECT_EQ(first.at("prompt_tokens_details").at("cached_tokens"), 0);
  const int64_t cached = second.at("prompt_tokens_details").at("cached_tokens");
  EXPECT_GT(cached, 400);
  EXPECT_LT(cached, golden_cases().at(0).prompt_tokens);
  EXPECT_EQ(first.at("prompt_tokens"), golden_cases().at(0).prompt_tokens);
  EXPECT_EQ(second.at("completion_tokens"), first.at("completion_tokens"));
  const std::string metrics = server.get("/metrics").body;
  EXPECT_EQ(metrics.find("vl2_prefix_cache_hits_total 0\n"), std::string::npos) << metrics;
  EXPECT_NE(metrics.find("vl2_image_cache_queries_total "), std::string::npos) << metrics;
}

// The geometric mean over the tokens with the box's digits, from the log-probabilities of the same reply.
TEST(BoxScores, AreTheProbabilitiesOfTheirDigits) {
  TestServer server;
  json body = golden_chat(golden_cases().at(0));
  body["logprobs"] = true;
  const json choice = server.post(kChat, body).parsed().at("choices").at(0);
  double sum = 0;
  int count = 0;
  for (const json& entry : choice.at("logprobs").at("content")) {
    const std::string token = entry.at("token");
    if (token.find_first_of("0123456789") == std::string::npos) continue;
    sum += entry.at("logprob").get<double>();
    ++count;
  }
  ASSERT_GT(count, 3);
  EXPECT_NEAR(choice.at("grounding").at(0).at("score").get<double>(), std::exp(sum / count), 1e-3);
  // A stop string that takes the box away takes its entry away.
  body["stop"] = ", 806]]";
  EXPECT_FALSE(server.post(kChat, body).parsed().at("choices").at(0).contains("grounding"));
}

}  // namespace
}  // namespace vl2::server
