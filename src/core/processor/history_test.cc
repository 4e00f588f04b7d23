#include "core/processor/history.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/error.h"
#include "core/processor/toy_processor.h"

namespace vl2 {
namespace {

const std::vector<Message> kChat = {{"system", "S"},    {"user", "<image>\none"},   {"assistant", "1"}, {"user", "two"},
                                    {"assistant", "2"}, {"user", "<image>\nthree"}, {"assistant", ""}};
const std::vector<ImageSize> kSizes = {{32, 32}, {32, 32}};

int64_t length(const std::vector<Message>& messages, const std::vector<ImageSize>& sizes) {
  return static_cast<int64_t>(toy_processor().build_from_sizes(messages, sizes).input_ids.size());
}

TEST(History, WhatFitsIsLeftAlone) {
  EXPECT_EQ(fit_history(toy_processor(), kChat, kSizes, length(kChat, kSizes)), HistoryCut());
}

TEST(History, OneTokenTooManyCostsTheOldestTurnAndItsPicture) {
  EXPECT_EQ(fit_history(toy_processor(), kChat, kSizes, length(kChat, kSizes) - 1), (HistoryCut{2, 1}));
}

TEST(History, TheSystemMessageAndTheLastQuestionStay) {
  const std::vector<Message> last = {kChat[0], kChat[5], kChat[6]};
  EXPECT_EQ(fit_history(toy_processor(), kChat, kSizes, length(last, {kSizes[1]})), (HistoryCut{4, 1}));
  EXPECT_EQ(fit_history(toy_processor(), kChat, kSizes, 1), (HistoryCut{4, 1}));
  const std::vector<Message> single = {{"user", "a long question"}, {"assistant", ""}};
  EXPECT_EQ(fit_history(toy_processor(), single, {}, 3), HistoryCut());
}

TEST(History, PicturesThatAreCutFinerAreCountedSo) {
  // Three pictures of 64 x 64 take a tile each, two of them 2 x 2 tiles each: forgetting one makes the prompt longer.
  const std::vector<Message> chat = {{"user", "<image>"}, {"assistant", "a"},  {"user", "<image>"},
                                     {"assistant", "b"},  {"user", "<image>"}, {"assistant", ""}};
  const std::vector<ImageSize> sizes(3, {64, 64});
  const std::vector<Message> two(chat.begin() + 2, chat.end());
  const int64_t whole = length(chat, sizes);
  ASSERT_GT(length(two, {sizes[0], sizes[1]}), whole);
  EXPECT_EQ(fit_history(toy_processor(), chat, sizes, whole - 1), (HistoryCut{4, 2}));
}

TEST(History, ABrokenConversationIsAnErrorAndNotCut) {
  EXPECT_THROW(fit_history(toy_processor(), {}, {}, 10), Error);
  EXPECT_THROW(fit_history(toy_processor(), kChat, {}, 10), Error);
}

}  // namespace
}  // namespace vl2
