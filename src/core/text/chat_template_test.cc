#include "core/text/chat_template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/file.h"
#include "core/base/test_data.h"

namespace vl2 {
namespace {

TEST(ChatTemplate, EveryTemplateWritesTheOfficialString) {
  VL2_NEED_SHARED(shared);
  const nlohmann::json golden = nlohmann::json::parse(read_file(shared / "golden/prompts/prompt_cases.json"));
  ASSERT_EQ(golden["templates"].size(), 32u);
  for (const nlohmann::json& c : golden["templates"]) {
    SCOPED_TRACE(c.dump());
    const auto format = chat_template(c["template"].get<std::string>());
    ASSERT_TRUE(format);
    std::vector<ChatTurn> turns;
    for (const nlohmann::json& m : c["messages"])
      turns.push_back({m[0] == "u" ? kUserRole : kAssistantRole,
                       m[1].is_null() ? std::string_view() : std::string_view(m[1].get_ref<const std::string&>())});
    EXPECT_EQ(format_chat(*format, c["system"].get<std::string>(), turns), c["prompt"].get<std::string>());
  }
}

TEST(ChatTemplate, AQuestionEndsWhereItsAnswerBegins) {
  EXPECT_EQ(format_question("Who?"), "<|User|>: Who?\n\n<|Assistant|>:");
  EXPECT_EQ(format_question(""), "<|User|>:<|Assistant|>:");
}

TEST(ChatTemplate, SeparatorsFollowTheTurnsNumberAndNotItsRole) {
  const std::vector<ChatTurn> turns = {{"system", "S"}, {kUserRole, "q"}, {kAssistantRole, "a"}};
  EXPECT_EQ(format_chat(ChatTemplate::kDeepSeek, "", turns),
            "system: S\n\n<|User|>: q<｜end▁of▁sentence｜><|Assistant|>: a\n\n");
}

TEST(ChatTemplate, DeepSeekV2FramesARoleSpelledUser) {
  const std::vector<ChatTurn> turns = {{"User", "q"}, {"Assistant", "a"}};
  EXPECT_EQ(format_chat(ChatTemplate::kDeepSeekV2, "", turns),
            "<｜sft▁begin｜>\nq\n<｜sft▁end｜>a<｜end▁of▁sentence｜>");
}

TEST(ChatTemplate, RolesHaveAliases) {
  EXPECT_EQ(chat_role("user"), ChatRole::kUser);
  EXPECT_EQ(chat_role("<|User|>"), ChatRole::kUser);
  EXPECT_EQ(chat_role("assistant"), ChatRole::kAssistant);
  EXPECT_EQ(chat_role("<|Assistant|>"), ChatRole::kAssistant);
  EXPECT_EQ(chat_role("system"), ChatRole::kSystem);
  EXPECT_EQ(chat_role("deepseekapi-sys"), ChatRole::kSystem);
  for (const char* other : {"", "User", "USER", "tool", "<｜User｜>", "user "}) EXPECT_FALSE(chat_role(other)) << other;
  EXPECT_FALSE(chat_template("chatml"));
  EXPECT_FALSE(chat_template(""));
}

}  // namespace
}  // namespace vl2
