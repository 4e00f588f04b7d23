// A server whose model has a LoRA adapter merged.
#include "core/checkpoint/lora_test.h"

#include "apps/server/server_test.h"
#include "core/base/temp_folder.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kQuestion = "List the shapes. Describe the picture.";

json question() {
  json body = chat(kQuestion);
  body["max_tokens"] = 24;
  return body;
}
std::string said(const HttpReply& reply) {
  EXPECT_EQ(reply.status, 200) << reply.body;
  return reply.parsed().at("choices").at(0).at("message").at("content");
}

class Lora : public testing::Test {
 protected:
  Lora() {
    RandomAdapter(load_model_config(nano_goldens() / "model/config.json"), {"all-linear"}, 4, 7, 0.05f)
        .write(folder_ / "tuned");
    EngineOptions options;
    options.lora = folder_ / "tuned";
    server_ = std::make_unique<TestServer>(ServerOptions{}, true, options);
  }

  const TempFolder folder_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(Lora, AnswersAsTheProgramDoesWithIt) {
  // As `vl2 ask --lora`: an engine opened with the adapter.
  EngineOptions options;
  options.compute.threads = 2;
  options.lora = folder_ / "tuned";
  const auto engine = Engine::open(nano_goldens() / "model", options);
  Request request;
  request.prompt = engine->processor().build(std::vector<Message>{{"user", kQuestion}, {"assistant", ""}}, {});
  request.max_new_tokens = 24;
  const std::string expected = engine->submit(request)->answer().text;
  EXPECT_EQ(said(server_->post(kChat, question())), expected);
  TestServer plain;
  EXPECT_NE(said(plain.post(kChat, question())), expected);
}

TEST_F(Lora, IsListed) {
  const std::string path = (folder_ / "tuned").string();
  const json expected = json::array({{{"id", 0}, {"name", "tuned"}, {"path", path}, {"scale", 1.0}}});
  EXPECT_EQ(server_->get("/lora-adapters").parsed(), expected);
  EXPECT_EQ(server_->post("/lora-adapters", {{{"id", 0}, {"scale", 1.0}}}).parsed(), expected);
  EXPECT_EQ(server_->get("/props").parsed().at("lora_adapters"), expected);
}

TEST_F(Lora, WhatIsNotMergedIsRefused) {
  json body = question();
  const std::string expected = said(server_->post(kChat, body));
  body["lora"] = {{{"id", 0}, {"scale", 1}}};
  EXPECT_EQ(said(server_->post(kChat, body)), expected);
  const std::vector<json> others = {
      json::array(), {{{"id", 0}, {"scale", 0.5}}}, {{{"id", 0}, {"scale", 0}}}, {{{"id", 1}, {"scale", 1}}}};
  for (const json& other : others) {
    SCOPED_TRACE(other.dump());
    body["lora"] = other;
    for (const HttpReply& reply :
         {server_->post(kChat, body), server_->post("/v1/completions", {{"prompt", "a"}, {"lora", other}})}) {
      EXPECT_EQ(reply.status, 400) << reply.body;
      EXPECT_EQ(reply.error("code"), "unsupported_value");
      EXPECT_EQ(reply.error("param"), "lora");
    }
    EXPECT_EQ(server_->post("/lora-adapters", other).error("code"), "unsupported_value");
  }
  body["lora"] = 5;
  EXPECT_EQ(server_->post(kChat, body).status, 400);
  body["lora"] = {{{"scale", 1}}};
  EXPECT_EQ(server_->post(kChat, body).error("param"), "lora[0].id");
}

TEST(WithoutLora, ThereIsNothingToChoose) {
  TestServer server;
  EXPECT_EQ(server.get("/lora-adapters").parsed(), json::array());
  EXPECT_EQ(server.post("/lora-adapters", json::array()).status, 200);
  json body = question();
  body["lora"] = json::array();
  EXPECT_EQ(server.post(kChat, body).status, 200);
  body["lora"] = {{{"id", 0}, {"scale", 1}}};
  const HttpReply reply = server.post(kChat, body);
  EXPECT_EQ(reply.error("code"), "unsupported_value");
  EXPECT_NE(reply.error("message").find("--lora"), std::string::npos);
}

}  // namespace
}  // namespace vl2::server
