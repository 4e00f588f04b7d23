// The routes beside chat.
#include <algorithm>
#include <mutex>

#include "apps/server/server_test.h"
#include "core/base/temp_folder.h"

namespace vl2::server {
namespace {

class Utilities : public testing::Test {
 protected:
  TestServer server_;
};

TEST_F(Utilities, ModelsAreListedForEveryClient) {
  const json list = server_.get("/v1/models").parsed();
  EXPECT_EQ(list.at("object"), "list");
  EXPECT_EQ(list.at("has_more"), false);
  EXPECT_EQ(list.at("first_id"), "nano");
  EXPECT_EQ(list.at("last_id"), "deepseek-ai/nano");
  const json& model = list.at("data").at(0);
  EXPECT_EQ(model.at("object"), "model");
  EXPECT_EQ(model.at("type"), "model");
  EXPECT_EQ(model.at("architecture").at("input_modalities"), json({"text", "image"}));
  EXPECT_EQ(model.at("created_at").get<std::string>().size(), 20u);
  EXPECT_EQ(model.at("meta").at("n_ctx"), 4096);
  EXPECT_GT(model.at("meta").at("n_params"), model.at("meta").at("n_params_active"));
  for (const char* path : {"/v1/models/deepseek-ai/nano", "/v1/models/deepseek-ai%2Fnano", "/models/deepseek-ai/nano"})
    EXPECT_EQ(server_.get(path).parsed().at("id"), "deepseek-ai/nano");
}

TEST_F(Utilities, TextsBecomeTokensAndBack) {
  const std::string text = "Grüße <|User|> 象";
  const json plain = server_.post("/tokenize", {{"content", text}, {"parse_special", false}}).parsed();
  const json parsed = server_.post("/tokenize", {{"content", text}, {"add_special", true}}).parsed();
  EXPECT_EQ(parsed.at("tokens").at(0), server_.engine->processor().special().bos);
  EXPECT_GT(plain.at("tokens").size(), parsed.at("tokens").size() - 1);
  EXPECT_EQ(server_.post("/detokenize", plain).parsed().at("content"), text);
  const json pieces =
      server_.post("/tokenize", {{"content", text}, {"parse_special", false}, {"with_pieces", true}}).parsed();
  std::string bytes;
  for (const json& token : pieces.at("tokens")) {
    const json& piece = token.at("piece");
    if (piece.is_string())
      bytes += piece.get<std::string>();
    else
      for (const json& byte : piece) bytes += static_cast<char>(byte.get<int>());
  }
  EXPECT_EQ(bytes, text);
  EXPECT_EQ(server_.post("/detokenize", {{"tokens", {1, -1}}}).status, 400);
  EXPECT_EQ(server_.post("/detokenize", {{"tokens", {1 << 30}}}).status, 400);
  EXPECT_EQ(server_.post("/tokenize", {{"content", 5}}).error("param"), "content");
}

TEST_F(Utilities, PicturesArePlannedWithoutAModelRun) {
  const json wide = data_url(picture_file("g15_768x384.png")), small = data_url(picture_file("g13_200x200.png"));
  const json plan = server_.post("/v1/images/plan", {{"images", {wide, {{"url", small}}}}}).parsed();
  EXPECT_EQ(plan.at("images").at(0).at("size"), json({768, 384}));
  EXPECT_EQ(plan.at("images").at(0).at("grid"), json({2, 1}));
  EXPECT_EQ(plan.at("images").at(0).at("tokens"), 210 + 1 + 14 * 29);
  EXPECT_EQ(plan.at("images").at(1).at("tokens"), 421);
  EXPECT_EQ(plan.at("tokens"), 210 + 1 + 14 * 29 + 421);
  const json three = server_.post("/images/plan", {{"images", {wide, small, small}}}).parsed();
  EXPECT_EQ(three.at("images").at(0).at("grid"), json({1, 1}));
  EXPECT_EQ(server_.post("/images/plan", {{"images", json::array()}}).status, 400);
  EXPECT_EQ(server_.engine->stats().tiles, 0);
}

TEST_F(Utilities, CompletionsGoOnWithTexts) {
  const json body = {{"prompt", "The square is"}, {"max_tokens", 5}, {"ignore_eos", true}, {"logprobs", 2}};
  const HttpReply reply = server_.post("/v1/completions", body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json whole = reply.parsed();
  EXPECT_EQ(whole.at("object"), "text_completion");
  EXPECT_TRUE(whole.at("id").get<std::string>().starts_with("cmpl-"));
  const json& choice = whole.at("choices").at(0);
  EXPECT_EQ(choice.at("finish_reason"), "length");
  EXPECT_EQ(choice.at("logprobs").at("tokens").size(), choice.at("logprobs").at("token_logprobs").size());
  EXPECT_EQ(choice.at("logprobs").at("text_offset").at(0), 0);
  const std::string text = choice.at("text");

  json streamed = body;
  streamed["stream"] = true;
  streamed["stream_options"] = {{"include_usage", true}};
  const std::vector<json> events = events_of(server_.post("/v1/completions", streamed).body);
  std::string joined;
  for (size_t i = 0; i + 2 < events.size(); ++i) joined += events[i].at("choices").at(0).at("text").get<std::string>();
  EXPECT_EQ(joined, text);
  EXPECT_EQ(events[events.size() - 2].at("usage"), whole.at("usage"));

  // The same prompt as ids, beside another, each twice.
  const json ids =
      server_.post("/tokenize", {{"content", "The square is"}, {"add_special", true}}).parsed().at("tokens");
  const json many = {{"prompt", {ids, "Hello"}}, {"max_tokens", 5}, {"ignore_eos", true}, {"n", 2}};
  const json both = server_.post("/v1/completions", many).parsed();
  ASSERT_EQ(both.at("choices").size(), 4u);
  EXPECT_EQ(both.at("choices").at(0).at("text"), text);
  EXPECT_EQ(both.at("choices").at(1).at("text"), text);  // greedy
  EXPECT_EQ(both.at("usage").at("completion_tokens"), 20);

  const json echo = {{"prompt", "The square is"}, {"max_tokens", 5}, {"ignore_eos", true}, {"echo", true}};
  EXPECT_EQ(server_.post("/v1/completions", echo).parsed().at("choices").at(0).at("text"), "The square is" + text);
}

TEST_F(Utilities, PenaltiesAndBiasesReachTheSampler) {
  json body = {{"prompt", "The square is"}, {"max_tokens", 24}, {"ignore_eos", true}};
  const auto text = [&] { return server_.post("/v1/completions", body).parsed().at("choices").at(0).at("text"); };
  const auto direct = [&](const SamplingParams& sampling) {
    Request request;
    request.prompt = server_.engine->processor().build_raw("The square is", {});
    request.sampling = sampling;
    request.max_new_tokens = 24;
    request.ignore_eos = true;
    return server_.engine->submit(request)->answer().text;
  };
  const std::string plain = text();
  body["presence_penalty"] = 2;
  EXPECT_EQ(text(), direct({.presence_penalty = 2}));
  body["frequency_penalty"] = 1.5;
  const std::string penalised = text();
  EXPECT_EQ(penalised, direct({.presence_penalty = 2, .frequency_penalty = 1.5}));
  EXPECT_NE(penalised, plain);
  const int32_t a = server_.post("/tokenize", {{"content", "a"}}).parsed().at("tokens").at(0);
  body["logit_bias"] = {{std::to_string(a), 100}};
  EXPECT_EQ(text(), std::string(24, 'a'));

  // Ollama's options have them, too.
  const json options = {{"logit_bias", body["logit_bias"]}, {"num_predict", 3}, {"ignore_eos", true}};
  const json ollama = {{"model", "nano"}, {"prompt", "Hello"}, {"stream", false}, {"options", options}};
  EXPECT_EQ(server_.post("/api/generate", ollama).parsed().at("response"), "aaa");
}

TEST_F(Utilities, CompletionsTakePicturesWhereTheirTextSaysSo) {
  const json picture = data_url(picture_file("g13_200x200.png"));
  const json body = {{"prompt", "<image>\nA picture of"}, {"images", {picture}}, {"max_tokens", 2}};
  const HttpReply reply = server_.post("/v1/completions", body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.parsed().at("usage").at("prompt_tokens_details").at("image_tokens"), 421);
  json two = body;
  two["images"] = {picture, picture};
  EXPECT_EQ(server_.post("/v1/completions", two).status, 400);
  json none = body;
  none.erase("images");
  EXPECT_EQ(server_.post("/v1/completions", none).parsed().at("usage").at("prompt_tokens_details").at("image_tokens"),
            0);
}

TEST_F(Utilities, CompletionsRefuseWhatTheyCannot) {
  const auto with = [&](const json& more) {
    json body = {{"prompt", "a"}, {"max_tokens", 1}};
    body.update(more);
    return server_.post("/v1/completions", body);
  };
  EXPECT_EQ(with({{"suffix", "b"}}).error("code"), "unsupported_value");
  EXPECT_EQ(with({{"logprobs", 6}}).error("param"), "logprobs");
  EXPECT_EQ(with({{"echo", true}, {"logprobs", 1}}).error("param"), "echo");
  EXPECT_EQ(with({{"best_of", 4}}).error("param"), "best_of");
  EXPECT_EQ(with({{"prompt", nullptr}}).error("param"), "prompt");
  EXPECT_EQ(with({{"prompt", {{1, 2}, {}}}}).error("param"), "prompt");
  EXPECT_EQ(with({{"prompt", {1, 1 << 30}}}).error("param"), "prompt");
  EXPECT_EQ(with({{"prompt", json(std::vector<int>(5000, 5))}}).error("code"), "context_length_exceeded");
}

TEST_F(Utilities, MetricsCountWhatHappened) {
  json body = chat("Hello");
  body["max_tokens"] = 4;
  body["ignore_eos"] = true;
  server_.post("/v1/chat/completions", body);
  server_.get("/v1/models");
  server_.get("/no/such/path");
  const std::vector<std::string> requests = {"vl2_requests_total{route=\"/chat/completions\",status=\"200\"} 1\n",
                                             "vl2_requests_total{route=\"/models\",status=\"200\"} 1\n",
                                             "vl2_requests_total{route=\"other\",status=\"404\"} 1\n"};
  const auto counted = [&](const std::string& text) {
    return std::all_of(requests.begin(), requests.end(),
                       [&](const auto& line) { return text.find(line) != text.npos; });
  };
  // A request is counted when its reply has left, which can be a moment after it has arrived.
  HttpReply reply = server_.get("/metrics");
  for (int i = 0; i < 1000 && !counted(reply.body); ++i) reply = server_.get("/metrics");
  EXPECT_TRUE(counted(reply.body)) << reply.body;
  EXPECT_TRUE(reply.headers.at("content-type").starts_with("text/plain; version=0.0.4"));
  for (const char* line :
       {"vl2_time_to_first_token_seconds_count 1\n", "vl2_inter_token_latency_seconds_count 3\n",
        "vl2_generated_tokens_total 4\n", "vl2_answers_total 1\n", "vl2_requests_waiting 0\n",
        "# TYPE vl2_http_connections gauge\n", "vl2_http_connections_max 256\n", "# TYPE vl2_http_threads gauge\n",
        "# TYPE process_threads gauge\nprocess_threads ", "process_open_fds ", "vl2_rate_limited_total 0\n",
        "# TYPE vl2_request_duration_seconds histogram\n", "vl2_request_duration_seconds_bucket{le=\"+Inf\"} "})
    EXPECT_NE(reply.body.find(line), std::string::npos) << line << reply.body;
}

TEST(Log, HasALineForEachRequestAndNoPrompts) {
  std::mutex mutex;
  std::vector<json> lines;
  ServerOptions options;
  options.log = [&](std::string_view line) {
    const std::lock_guard lock(mutex);
    lines.push_back(json::parse(line));
  };
  {
    TestServer server(options);
    json body = chat("a secret question");
    body["max_tokens"] = 2;
    body["ignore_eos"] = true;
    server.post("/v1/chat/completions", body, {{"x-request-id", "mine"}});
    server.post("/v1/chat/completions", chat({{{"type", "a secret"}}}));
  }
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].at("id"), "mine");
  EXPECT_EQ(lines[0].at("route"), "/chat/completions");
  EXPECT_EQ(lines[0].at("status"), 200);
  EXPECT_EQ(lines[0].at("completion_tokens"), 2);
  EXPECT_EQ(lines[1].at("status"), 400);
  for (const json& line : lines) EXPECT_EQ(line.dump().find("secret"), std::string::npos);
}

TEST(KeyFile, HasAKeyALine) {
  TempFolder folder;
  write_file_atomic(folder / "keys", "# ours\r\nfirst\r\n\n  second \n");
  EXPECT_EQ(read_key_file(folder / "keys"), (std::vector<std::string>{"first", "second"}));
  write_file_atomic(folder / "none", "# nothing\n");
  EXPECT_THROW(read_key_file(folder / "none"), Error);
}

}  // namespace
}  // namespace vl2::server
