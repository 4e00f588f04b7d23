// POST /v1/embeddings and Ollama's /api/embed.
#include <cmath>
#include <cstring>
#include <thread>

#include "apps/server/server_test.h"
#include "core/base/base64.h"

namespace vl2::server {
namespace {

constexpr const char* kPath = "/v1/embeddings";

std::vector<float> floats_of(const json& value) {
  if (!value.is_string()) return value.get<std::vector<float>>();
  const std::string bytes = decode_base64(value.get<std::string>()).value();
  std::vector<float> result(bytes.size() / 4);
  std::memcpy(result.data(), bytes.data(), bytes.size());  // tests run on little-endian machines
  return result;
}

class EmbeddingsApi : public testing::Test {
 protected:
  json ask(const json& input, const json& more = json::object()) {
    json body = {{"model", "nano"}, {"input", input}};
    body.update(more);
    const HttpReply reply = server_.post(kPath, body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.parsed();
  }
  std::vector<float> one(const json& input) { return floats_of(ask(input).at("data").at(0).at("embedding")); }
  // What the engine itself says.
  std::vector<float> direct(const std::string& text) {
    Request request;
    request.prompt = server_.engine->processor().build_raw(text, {});
    request.embed = true;
    return server_.engine->submit(request)->answer().embedding;
  }

  TestServer server_;
};

TEST_F(EmbeddingsApi, AreWhatTheEngineMakesOfATextInOpenAisShape) {
  const json reply = ask("a red square");
  EXPECT_EQ(reply.at("object"), "list");
  EXPECT_EQ(reply.at("model"), "nano");
  const json& data = reply.at("data").at(0);
  EXPECT_EQ(data.at("object"), "embedding");
  EXPECT_EQ(data.at("index"), 0);
  const std::vector<float> vector = floats_of(data.at("embedding"));
  EXPECT_EQ(static_cast<int64_t>(vector.size()), server_.engine->config().language.hidden_size);
  EXPECT_EQ(vector, direct("a red square"));
  const json tokens =
      server_.post("/tokenize", {{"content", "a red square"}, {"add_special", true}}).parsed().at("tokens");
  EXPECT_EQ(reply.at("usage").at("prompt_tokens"), tokens.size());
  EXPECT_EQ(reply.at("usage").at("total_tokens"), tokens.size());
  EXPECT_EQ(one(tokens), vector) << "the same as ids";
}

TEST_F(EmbeddingsApi, ComeAsBase64WhenThatIsAskedFor) {
  const json reply = ask("a red square", {{"encoding_format", "base64"}});
  ASSERT_TRUE(reply.at("data").at(0).at("embedding").is_string());
  EXPECT_EQ(floats_of(reply.at("data").at(0).at("embedding")), direct("a red square"));
}

TEST_F(EmbeddingsApi, ManyAtATimeAreThoseOfEachAlone) {
  std::vector<std::string> texts;
  for (int i = 0; i < 30; ++i) texts.push_back("text number " + std::to_string(i) + std::string(i * 7, 'x'));
  std::vector<std::vector<float>> alone;
  for (const std::string& text : texts) alone.push_back(direct(text));
  const json reply = ask(texts);  // more than are run at a time
  ASSERT_EQ(reply.at("data").size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(reply.at("data").at(i).at("index"), i);
    EXPECT_EQ(floats_of(reply.at("data").at(i).at("embedding")), alone[i]) << i;
  }
  const json mixed = ask({texts[0], {5, 6, 7}, {{"content", texts[1]}}});
  EXPECT_EQ(floats_of(mixed.at("data").at(0).at("embedding")), alone[0]);
  EXPECT_EQ(floats_of(mixed.at("data").at(1).at("embedding")), one({5, 6, 7}));
  EXPECT_EQ(floats_of(mixed.at("data").at(2).at("embedding")), alone[1]);
}

TEST_F(EmbeddingsApi, DoNotDependOnAnswersThatAreMadeBesides) {
  const std::vector<float> alone = direct("a red square");
  json body = chat("Tell me a long story.");
  body["max_tokens"] = 3000;
  body["ignore_eos"] = true;
  body["stream"] = true;
  TestClient client(server_.port());
  client.send(TestClient::text_of("POST", "/v1/chat/completions", body.dump(), {}));
  ASSERT_TRUE(client.wait_for("content"));
  EXPECT_EQ(one("a red square"), alone);
  EXPECT_GT(server_.engine->stats().running, 0) << "the story is still being told";
}

TEST_F(EmbeddingsApi, TakePictures) {
  const json picture = picture_part(data_url(picture_file("g13_200x200.png")));
  const json reply = ask({{"content", {picture, text_part("a drawing")}}});
  EXPECT_EQ(reply.at("usage").at("prompt_tokens_details").at("image_tokens"), 421);
  const std::vector<float> with_text = floats_of(reply.at("data").at(0).at("embedding"));
  const std::vector<float> alone = one({{"content", json::array({picture})}});
  EXPECT_NE(with_text, alone);
  const json other = picture_part(data_url(picture_file("g15_768x384.png")));
  const json both = ask({{{"content", json::array({other})}}, {{"content", json::array({picture})}}});
  EXPECT_EQ(both.at("usage").at("prompt_tokens_details").at("image_tokens"), 617 + 421);
  EXPECT_EQ(floats_of(both.at("data").at(1).at("embedding")), alone);
  EXPECT_NE(floats_of(both.at("data").at(0).at("embedding")), alone);
}

TEST_F(EmbeddingsApi, SpecialTokensInTextsAreText) {
  EXPECT_NE(one("<|User|>"),
            one({server_.engine->processor().special().bos, server_.engine->processor().special().user}));
}

TEST_F(EmbeddingsApi, RefuseWhatTheyCannot) {
  const auto refused = [&](const json& body, const std::string& param, const std::string& code = "null") {
    const HttpReply reply = server_.post(kPath, body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_EQ(reply.error("param"), param) << reply.body;
    EXPECT_EQ(reply.error("code"), code) << reply.body;
  };
  refused({{"model", "nano"}}, "input");
  refused({{"input", ""}}, "input");
  refused({{"input", json::array()}}, "input");
  refused({{"input", {"a", ""}}}, "input[1]");
  refused({{"input", {"a", 5}}}, "input[1]");
  refused({{"input", {1, 1 << 30}}}, "input");
  refused({{"input", {{{"content", 5}}}}}, "input[0].content");
  refused({{"input", json(std::vector<std::string>(2049, "a"))}}, "input");
  refused({{"input", "a"}, {"dimensions", 3}}, "dimensions", "unsupported_value");
  refused({{"input", "a"}, {"encoding_format", "int8"}}, "encoding_format", "unsupported_value");
  refused({{"input", json::array({json(std::vector<int>(5000, 5))})}}, "input[0]", "context_length_exceeded");
  refused({{"input", std::string(8 << 20, 'a')}}, "input", "context_length_exceeded");
  EXPECT_EQ(server_.post(kPath, {{"input", "a"}, {"model", "other"}}).status, 404);
  const int64_t size = server_.engine->config().language.hidden_size;
  EXPECT_EQ(server_.post(kPath, {{"input", "a"}, {"dimensions", size}}).status, 200);
}

TEST_F(EmbeddingsApi, OllamasFormsSayTheSame) {
  const json reply = server_.post("/api/embed", {{"model", "nano:latest"}, {"input", {"a", "b"}}}).parsed();
  EXPECT_EQ(reply.at("model"), "nano:latest");
  ASSERT_EQ(reply.at("embeddings").size(), 2u);
  EXPECT_EQ(floats_of(reply.at("embeddings").at(1)), direct("b"));
  EXPECT_EQ(reply.at("prompt_eval_count"), 4);
  EXPECT_GT(reply.at("total_duration"), 0);
  const json single = server_.post("/api/embed", {{"model", "nano"}, {"input", "a"}}).parsed();
  EXPECT_EQ(single.at("embeddings").at(0), reply.at("embeddings").at(0));
  const json older = server_.post("/api/embeddings", {{"model", "nano"}, {"prompt", "a"}}).parsed();
  EXPECT_EQ(older.at("embedding"), reply.at("embeddings").at(0));
  EXPECT_EQ(server_.post("/api/embed", {{"model", "nano"}}).parsed().at("embeddings"), json::array());
  EXPECT_EQ(server_.post("/api/embed", {{"model", "other"}, {"input", "a"}}).status, 404);
}

TEST_F(EmbeddingsApi, OllamaCutsTextsThatAreTooLong) {
  std::string words;
  for (int i = 0; i < 3000; ++i) words += " word" + std::to_string(i);
  const json body = {{"model", "nano"}, {"input", words}};
  const HttpReply cut = server_.post("/api/embed", body);
  ASSERT_EQ(cut.status, 200) << cut.body;
  EXPECT_EQ(cut.parsed().at("prompt_eval_count"), server_.engine->max_context() - 1);
  json whole = body;
  whole["truncate"] = false;
  EXPECT_EQ(server_.post("/api/embed", whole).status, 400);
}

TEST(EmbeddingsQueue, IsThatOfAnswers) {
  ServerOptions options;
  options.parallel = 1;
  options.max_queue = 0;
  TestServer server(options);
  json body = chat("Tell me a long story.");
  body["max_tokens"] = 3000;
  body["ignore_eos"] = true;
  body["stream"] = true;
  {
    TestClient client(server.port());
    client.send(TestClient::text_of("POST", "/v1/chat/completions", body.dump(), {}));
    ASSERT_TRUE(client.wait_for("content"));
    EXPECT_EQ(server.post(kPath, {{"input", "a"}}).status, 429);
  }
  server.watch.wait(1);
  HttpReply reply = server.post(kPath, {{"input", {"a", "b", "c"}}});
  for (int i = 0; i < 1000 && reply.status == 429; ++i) {  // the place is given back a moment later
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    reply = server.post(kPath, {{"input", {"a", "b", "c"}}});
  }
  EXPECT_EQ(reply.status, 200) << reply.body;
}

}  // namespace
}  // namespace vl2::server
