// What clients are told, and with which status.
#include <sys/stat.h>

#include "apps/server/server_test.h"
#include "core/base/temp_folder.h"
#include "core/image/encode.h"

namespace vl2::server {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

void expect_error(const HttpReply& reply, int status, const std::string& type, const std::string& code,
                  const std::string& param) {
  ASSERT_EQ(reply.status, status) << reply.body;
  EXPECT_EQ(reply.headers.at("content-type"), "application/json; charset=utf-8");
  EXPECT_EQ(reply.parsed().size(), 1u);
  EXPECT_EQ(reply.parsed().at("error").size(), 4u);
  EXPECT_FALSE(reply.error("message").empty());
  EXPECT_EQ(reply.error("type"), type);
  EXPECT_EQ(reply.error("code"), code);
  EXPECT_EQ(reply.error("param"), param);
  EXPECT_FALSE(reply.headers.at("x-request-id").empty());
}

void expect_bad(const HttpReply& reply, const std::string& code, const std::string& param) {
  expect_error(reply, 400, "invalid_request_error", code, param);
}

class Errors : public testing::Test {
 protected:
  HttpReply with(const std::string& key, const json& value) {
    json body = chat("Hello");
    body[key] = value;
    return server_.post(kChat, body);
  }
  HttpReply picture(const std::string& url) { return server_.post(kChat, chat({picture_part(url), text_part("?")})); }

  TestServer server_;
};

TEST_F(Errors, BodiesThatAreNoRequest) {
  for (const std::string body :
       {"", "{", "[]", "\"text\"", "{\"messages\": \"\xff\"}", "{\"a\": 1, \"a\": 2}", "{\"messages\": [}", "nonsense"})
    expect_bad(TestClient(server_.port()).request("POST", kChat, body), "null", "null");
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  expect_bad(TestClient(server_.port()).request("POST", kChat, "{\"messages\": " + deep + "}"), "null", "null");
  expect_bad(server_.post(kChat, json::object()), "null", "messages");
}

TEST_F(Errors, MessagesThatCannotBe) {
  const auto messages = [&](const json& value) { return server_.post(kChat, {{"messages", value}}); };
  expect_bad(messages(json::array()), "null", "messages");
  expect_bad(messages({5}), "null", "messages[0]");
  expect_bad(messages({{{"content", "Hello"}}}), "null", "messages[0].role");
  expect_bad(messages({{{"role", "tool"}, {"content", "42"}}}), "unsupported_value", "messages[0].role");
  expect_bad(messages({{{"role", "user"}}}), "null", "messages[0].content");
  expect_bad(messages({{{"role", "user"}, {"content", 5}}}), "null", "messages[0].content");
  expect_bad(messages({{{"role", "system"}, {"content", "alone"}}}), "null", "messages");
  expect_bad(messages({user("a"), {{"role", "system"}, {"content", "late"}}}), "unsupported_value", "messages[1].role");
  const auto part = [&](const json& one) { return messages(json::array({user(json::array({one}))})); };
  expect_bad(part({{"type", "video"}}), "unsupported_value", "messages[0].content[0].type");
  const HttpReply file = part({{"type", "file"}, {"file", {{"file_data", "data:application/pdf;base64,AA=="}}}});
  expect_bad(file, "unsupported_value", "messages[0].content[0].type");
  EXPECT_NE(file.error("message").find("\"file\""), std::string::npos);
  expect_bad(part({{"type", "image_url"}}), "null", "messages[0].content[0].image_url");
  expect_bad(part({{"type", "image_url"}, {"image_url", {{"url", "x"}, {"detail", "ultra"}}}}), "unsupported_value",
             "messages[0].content[0].image_url.detail");
  expect_bad(messages({{{"role", "system"}, {"content", json::array({picture_part("x")})}}, user("a")}),
             "unsupported_value", "messages[0].content[0].image_url");
}

TEST_F(Errors, ValuesThatFieldsCannotHave) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, json>>{{"temperature", 2.1},
                                                                            {"temperature", "hot"},
                                                                            {"top_p", -0.1},
                                                                            {"top_k", 1.5},
                                                                            {"min_p", 2},
                                                                            {"max_tokens", 0},
                                                                            {"max_tokens", 1e30},
                                                                            {"n", 9},
                                                                            {"n", 0},
                                                                            {"seed", "x"},
                                                                            {"presence_penalty", 2.1},
                                                                            {"frequency_penalty", "much"},
                                                                            {"logit_bias", {1, 2}},
                                                                            {"logit_bias", {{"x", 1}}},
                                                                            {"logit_bias", {{"-1", 1}}},
                                                                            {"logit_bias", {{"5x", 1}}},
                                                                            {"stream", 1},
                                                                            {"stop", ""},
                                                                            {"repetition_penalty", 0},
                                                                            {"logprobs", 3},
                                                                            {"top_logprobs", 3},
                                                                            {"top_logprobs", 21},
                                                                            {"stop", {"a", 5}},
                                                                            {"no_repeat_ngram_size", -1}})
    expect_bad(with(key, value), "null", key);
}

TEST_F(Errors, BiasesThatCannotBe) {
  expect_bad(with("logit_bias", {{"5", 101}}), "null", "logit_bias.5");
  expect_bad(with("logit_bias", {{"5", "x"}}), "null", "logit_bias.5");
  const HttpReply reply = with("logit_bias", {{"1000000", 1}});
  expect_bad(reply, "null", "null");
  EXPECT_NE(reply.error("message").find("logit_bias names token 1000000"), std::string::npos);
}

TEST_F(Errors, FieldsThereIsNothingFor) {
  expect_bad(with("tools", {{{"type", "function"}}}), "unsupported_value", "tools");
  expect_bad(with("tool_choice", "required"), "unsupported_value", "tool_choice");
  expect_bad(with("response_format", {{"type", "xml"}}), "unsupported_value", "response_format.type");
}

TEST_F(Errors, WhatSaysNothingIsTakenForNothing) {
  json body = chat("Hello");
  body.update({{"logit_bias", json::object()},
               {"presence_penalty", 0},
               {"tools", json::array()},
               {"stop", nullptr},
               {"response_format", {{"type", "text"}}},
               {"user", "me"},
               {"metadata", {{"a", "b"}}},
               {"unknown", {1, 2}},
               {"max_tokens", 2},
               {"temperature", nullptr},
               {"top_k", -1},
               {"seed", -5}});
  EXPECT_EQ(server_.post(kChat, body).status, 200);
}

TEST_F(Errors, PicturesThatAreNone) {
  const std::string param = "messages[0].content[0].image_url";
  for (const std::string url : {"data:image/png;base64,!!!", "data:image/png,abc", "data:image/png;base64",
                                "ftp://a/b.png", "", "data:image/png;base64,", "file://", "file://host/x.png"}) {
    const HttpReply reply = picture(url);
    if (reply.status == 403) continue;  // files, without --media-path
    expect_bad(reply, "invalid_image_url", param);
  }
  expect_bad(picture(data_url("this is no picture")), "invalid_image", param);
  const std::string file = picture_file("g13_200x200.png");
  expect_bad(picture(data_url(file.substr(0, file.size() / 2))), "invalid_image", param);
  for (const std::string url : {"http://127.0.0.1/a.png", "https://example.org/a.png", "HTTP://[::1]/"})
    expect_error(picture(url), 403, "invalid_request_error", "media_domain_not_allowed", param);
}

// A small file that says it is large.
TEST_F(Errors, TooManyPixelsAreRefusedBeforeTheyAreDecoded) {
  std::string bomb = encode_png(make_image(8, 8, 0, 0, 0));
  for (const size_t at : {16, 20}) bomb.replace(at, 4, std::string("\0\0\x40\0", 4));  // 16384 x 16384
  const HttpReply reply = picture(data_url(bomb));
  // The checksum of the header is wrong then; whichever is seen first, no pixel was made.
  EXPECT_TRUE(reply.status == 413 || reply.error("code") == "invalid_image") << reply.body;
  ServerOptions options;
  options.max_picture_pixels = 200 * 200 + 100;
  TestServer small(options);
  const json one = picture_part(data_url(picture_file("g13_200x200.png")));
  json body = chat({one, text_part("?")});
  body["max_tokens"] = 1;
  EXPECT_EQ(small.post(kChat, body).status, 200);
  expect_error(small.post(kChat, chat({one, one, text_part("?")})), 413, "invalid_request_error", "request_too_large",
               "messages[0].content[1].image_url");
}

TEST_F(Errors, ConversationsLongerThanTheContext) {
  std::string words;
  for (int i = 0; i < 5000; ++i) words += " word" + std::to_string(i);
  expect_bad(server_.post(kChat, chat(words)), "context_length_exceeded", "messages");
  expect_bad(server_.post(kChat, chat(std::string(8 << 20, 'a'))), "context_length_exceeded", "messages");
  json pictures = json::array();
  for (int i = 0; i < 12; ++i) pictures.push_back(picture_part(data_url(picture_file("g13_200x200.png"))));
  const HttpReply reply = server_.post(kChat, chat(pictures));
  expect_bad(reply, "context_length_exceeded", "messages");
  EXPECT_NE(reply.error("message").find("5052 of them of pictures"), std::string::npos) << reply.body;
}

TEST_F(Errors, ModelsAndPathsThatAreNotThere) {
  expect_error(with("model", "gpt-4o"), 404, "invalid_request_error", "model_not_found", "model");
  expect_error(server_.get("/v1/models/other"), 404, "invalid_request_error", "model_not_found", "model");
  expect_error(server_.get("/v1/nothing"), 404, "invalid_request_error", "unknown_url", "null");
  const HttpReply wrong = server_.get(kChat);
  expect_error(wrong, 405, "invalid_request_error", "method_not_allowed", "null");
  EXPECT_EQ(wrong.headers.at("allow"), "POST, OPTIONS");
  expect_error(TestClient(server_.port()).request("DELETE", "/v1/models"), 405, "invalid_request_error",
               "method_not_allowed", "null");
}

TEST(Keys, AreAskedForEverywhereButAtTheDoor) {
  ServerOptions options;
  options.keys = {"first key", "second"};
  TestServer server(options);
  json body = chat("Hello");
  body["max_tokens"] = 1;
  const std::vector<TestClient::Headers> strangers = {{},
                                                      {{"Authorization", "Bearer wrong"}},
                                                      {{"Authorization", "Basic second"}},
                                                      {{"x-api-key", "secon"}},
                                                      {{"Authorization", "Bearer "}}};
  for (const TestClient::Headers& headers : strangers) {
    expect_error(server.post(kChat, body, headers), 401, "invalid_request_error", "invalid_api_key", "null");
    expect_error(server.get("/v1/models", headers), 401, "invalid_request_error", "invalid_api_key", "null");
    expect_error(server.get("/metrics", headers), 401, "invalid_request_error", "invalid_api_key", "null");
  }
  const std::vector<TestClient::Headers> friends = {
      {{"Authorization", "Bearer first key"}}, {{"authorization", "bearer second"}}, {{"X-API-Key", "second"}}};
  for (const TestClient::Headers& headers : friends) EXPECT_EQ(server.post(kChat, body, headers).status, 200);
  EXPECT_EQ(server.get("/health").status, 200);
  EXPECT_EQ(server.get("/").status, 200);
}

TEST(MediaPath, FilesBelowItAreReadAndNoOthers) {
  TempFolder root;
  const std::filesystem::path media = root / "media", outside = root / "media-not";
  std::filesystem::create_directories(media / "in");
  std::filesystem::create_directories(outside);
  const std::string file = picture_file(golden_cases().at(0).image);
  for (const auto& path : {media / "in/a b.png", outside / "secret.png"}) write_file_atomic(path, file);
  std::filesystem::create_symlink(outside / "secret.png", media / "link.png");
  std::filesystem::create_symlink(media / "in/a b.png", media / "good.png");
  ASSERT_EQ(::mkfifo((media / "pipe").c_str(), 0600), 0);
  ServerOptions options;
  options.media_path = media;
  TestServer server(options);
  const auto ask = [&](const std::string& url) {
    return server.post(kChat, chat({picture_part(url), text_part(golden_cases().at(0).question)}));
  };
  for (const std::string path : {"/in/a%20b.png", "/good.png", "/in/../in/a%20b.png"}) {
    const HttpReply reply = ask("file://" + media.string() + path);
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(reply.parsed().at("choices").at(0).at("message").at("content"), golden_cases().at(0).answer);
  }
  for (const std::string& path :
       {outside.string() + "/secret.png", media.string() + "/../media-not/secret.png", media.string() + "/link.png",
        media.string() + "/%2e%2e/media-not/secret.png", media.string() + "/none.png", media.string() + "/in",
        media.string() + "/pipe", media.string(), std::string("/etc/passwd"), std::string("/none")})
    expect_error(ask("file://" + path), 403, "invalid_request_error", "media_domain_not_allowed",
                 "messages[0].content[0].image_url");
}

}  // namespace
}  // namespace vl2::server
