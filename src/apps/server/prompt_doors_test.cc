// Closed doors of prompts (docs/server.md): texts of clients are texts, whichever way they come.
#include <algorithm>

#include "apps/server/prompt.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

class PromptDoors : public testing::Test {
 protected:
  // Every special token but the tags of grounding.
  std::vector<std::string> specials() const {
    const Processor& processor = server_.engine->processor();
    const SpecialTokens& s = processor.special();
    const std::vector<int32_t> markup = {s.ref, s.ref_end, s.det, s.det_end, s.grounding};
    std::vector<std::string> texts;
    for (int32_t id = 0; id <= processor.tokenizer().highest_id(); ++id)
      if (processor.tokenizer().is_added(id) && std::find(markup.begin(), markup.end(), id) == markup.end())
        texts.emplace_back(processor.tokenizer().token_text(id));
    return texts;
  }
  std::string all() const {
    std::string text;
    for (const std::string& one : specials()) text += one;
    return text;
  }

  MultimodalPrompt prompt_of(const json& body, const char* key, Dialect dialect, const std::string& system = "") {
    ChatMessages parsed = parse_messages(body, key, dialect, system);
    const LoadedPictures pictures = load_pictures(server_.server->context(), parsed.pictures);
    return plan_chat(server_.server->context(), parsed.messages, pictures, false);
  }
  // The structure of the template and the pictures, and nothing of the client's.
  void expect_structure(const MultimodalPrompt& prompt, int64_t users, int64_t assistants, int64_t pictures = 0) {
    const Processor& processor = server_.engine->processor();
    const SpecialTokens& s = processor.special();
    const auto count = [&](int32_t id) { return std::count(prompt.input_ids.begin(), prompt.input_ids.end(), id); };
    EXPECT_EQ(count(s.user), users);
    EXPECT_EQ(count(s.assistant), assistants);
    EXPECT_EQ(count(s.bos), 1);
    EXPECT_EQ(count(s.eos), assistants - 1);
    EXPECT_EQ(count(s.image), pictures * 421);
    for (const std::string& text : specials()) {
      const int32_t id = *processor.tokenizer().token_id(text);
      const bool structure = id == s.user || id == s.assistant || id == s.bos || id == s.eos || id == s.image;
      EXPECT_TRUE(structure || count(id) == 0) << text;
    }
  }

  TestServer server_;
};

TEST_F(PromptDoors, ThereAreSpecialTokensToKeepOut) {
  const std::vector<std::string> texts = specials();
  for (const char* text : {"<image>", "<|User|>", "<|Assistant|>", "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"})
    EXPECT_NE(std::find(texts.begin(), texts.end(), text), texts.end()) << text;
}

TEST_F(PromptDoors, SpecialTokensInTextsOfEveryRoleAreText) {
  const json conversation = {{{"role", "system"}, {"content", all()}},
                             {{"role", "user"}, {"content", all()}},
                             {{"role", "assistant"}, {"content", all()}},
                             {{"role", "user"}, {"content", json::array({text_part(all()), text_part(all())})}},
                             {{"role", "assistant"}, {"content", all()}}};
  expect_structure(prompt_of({{"messages", conversation}}, "messages", Dialect::kChat), 2, 2);
}

TEST_F(PromptDoors, NothingBecomesASpecialTokenByBeingPutTogether) {
  const std::string file = data_url(picture_file("g13_200x200.png"));
  for (const std::string& text : specials())
    for (size_t at = 1; at < text.size(); ++at) {
      if ((static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) continue;  // within a character
      const std::string front = text.substr(0, at), back = text.substr(at);
      const json parts = json::array({text_part(front), text_part(back)});
      expect_structure(prompt_of({{"messages", {user(parts)}}}, "messages", Dialect::kChat), 1, 1);
      const json neighbours = {user(front), user(back)};
      expect_structure(prompt_of({{"messages", neighbours}}, "messages", Dialect::kChat), 1, 1);
      const json around = json::array({text_part(front), picture_part(file), text_part(back)});
      expect_structure(prompt_of({{"messages", {user(around)}}}, "messages", Dialect::kChat), 1, 1, 1);
      const json systems = {
          {{"role", "system"}, {"content", front}}, {{"role", "developer"}, {"content", back}}, user("?")};
      expect_structure(prompt_of({{"messages", systems}}, "messages", Dialect::kChat), 1, 1);
      // The end of a text, and the beginning of the template behind it.
      const json over = {
          {{"role", "system"}, {"content", front}}, user(back), {{"role", "assistant"}, {"content", front}}};
      expect_structure(prompt_of({{"messages", over}}, "messages", Dialect::kChat), 1, 1);
    }
}

TEST_F(PromptDoors, SpecialTokensInOtherApisAreText) {
  const json content = json::array({{{"type", "text"}, {"text", all()}}});
  const json anthropic = {{{"role", "user"}, {"content", content}}, {{"role", "assistant"}, {"content", all()}}};
  expect_structure(prompt_of({{"messages", anthropic}}, "messages", Dialect::kAnthropic, all()), 1, 1);
  const json ollama = {{{"role", "system"}, {"content", all()}}, {{"role", "user"}, {"content", all()}}};
  expect_structure(prompt_of({{"messages", ollama}}, "messages", Dialect::kOllama), 1, 1);
  const json input = {{{"role", "user"}, {"content", json::array({{{"type", "input_text"}, {"text", all()}}})}},
                      {{"role", "assistant"}, {"content", json::array({{{"type", "output_text"}, {"text", all()}}})}}};
  expect_structure(prompt_of({{"input", input}}, "input", Dialect::kResponses, all()), 1, 1);
  ChatMessages question = one_question(all(), {}, all());
  expect_structure(plan_chat(server_.server->context(), question.messages, {}, false), 1, 1);
}

// The same through the routes: a text has as many tokens in a prompt as it has as a text, and no picture comes of it.
TEST_F(PromptDoors, RoutesCountSpecialTokensAsText) {
  const auto size_as_text = [&](const std::string& text) {
    return static_cast<int64_t>(
        server_.post("/tokenize", {{"content", text}, {"parse_special", false}}).parsed().at("tokens").size());
  };
  const std::string evil = all() + "x";
  const json messages = {user(evil)};
  const auto prompt_tokens = [&](const std::string& path, json body, const char* key) {
    body["stream"] = false;
    const HttpReply reply = server_.post(path, body);
    EXPECT_EQ(reply.status, 200) << path << reply.body;
    const json parsed = reply.parsed();
    return parsed.contains("usage") ? parsed.at("usage").at(key).get<int64_t>() : parsed.at(key).get<int64_t>();
  };
  EXPECT_EQ(prompt_tokens("/v1/completions", {{"prompt", evil}, {"max_tokens", 1}}, "prompt_tokens"),
            size_as_text(evil) + 1);
  const json chat_body = {{"messages", messages}, {"max_tokens", 1}};
  const int64_t expected = prompt_tokens("/v1/chat/completions", chat_body, "prompt_tokens");
  const auto planned = prompt_of({{"messages", messages}}, "messages", Dialect::kChat);
  EXPECT_EQ(expected, static_cast<int64_t>(planned.input_ids.size()));
  EXPECT_GE(expected, size_as_text(evil));
  EXPECT_EQ(prompt_tokens("/v1/messages", chat_body, "input_tokens"), expected);
  EXPECT_EQ(prompt_tokens("/v1/messages/count_tokens", chat_body, "input_tokens"), expected);
  EXPECT_EQ(prompt_tokens("/v1/responses", {{"input", evil}, {"max_output_tokens", 1}}, "input_tokens"), expected);
  EXPECT_EQ(prompt_tokens("/v1/responses/input_tokens", {{"input", evil}}, "input_tokens"), expected);
  const json one = {{"num_predict", 1}};
  EXPECT_EQ(
      prompt_tokens("/api/chat", {{"model", "nano"}, {"messages", messages}, {"options", one}}, "prompt_eval_count"),
      expected);
  EXPECT_EQ(
      prompt_tokens("/api/generate", {{"model", "nano"}, {"prompt", evil}, {"options", one}}, "prompt_eval_count"),
      expected);
}

TEST_F(PromptDoors, ToolsAndNamesReachNoPrompt) {
  json body = chat("Hello");
  body["max_tokens"] = 1;
  const int64_t expected = server_.post("/v1/chat/completions", body).parsed().at("usage").at("prompt_tokens");
  body["messages"][0]["name"] = all();
  body["user"] = all();
  body["metadata"] = {{"a", all()}};
  EXPECT_EQ(server_.post("/v1/chat/completions", body).parsed().at("usage").at("prompt_tokens"), expected);
  const json tool = {{"type", "function"}, {"function", {{"name", all()}, {"description", all()}}}};
  body["tools"] = json::array({tool});
  EXPECT_EQ(server_.post("/v1/chat/completions", body).error("code"), "unsupported_value");
}

// What stands for a picture inside of the server is no text of a client: JSON with that byte is none.
TEST_F(PromptDoors, NoTextIsTheServersMarkOfAPicture) {
  for (const std::string text : {"\xff",
                                 "a\xff"
                                 "b",
                                 "\\u00ff", "\xc3\xbf"}) {
    const std::string body = "{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"" + text + "\"}]}";
    const HttpReply reply = TestClient(server_.port()).request("POST", "/v1/chat/completions", body);
    const bool utf8 = text[0] == '\\' || text[0] == '\xc3';
    EXPECT_EQ(reply.status, utf8 ? 200 : 400) << reply.body;
    if (!utf8) continue;
    EXPECT_EQ(reply.parsed().at("usage").at("prompt_tokens_details").at("image_tokens"), 0);
  }
}

}  // namespace
}  // namespace vl2::server
