#include "train/input/picture_labels.h"

#include <gtest/gtest.h>

#include <string>

#include "core/processor/toy_processor.h"
#include "train/input/micro_batch.h"

namespace vl2::train {
namespace {

// What the labels of a prompt's picture tokens say, a row of tokens a line: bytes are the toy tokenizer's tokens.
std::string said(const MultimodalPrompt& prompt) {
  std::string text;
  for (size_t t = 0; t + 1 < prompt.input_ids.size(); ++t) {
    if (prompt.images_seq_mask[t] == 0) continue;
    const int32_t label = prompt.labels[t + 1];
    text += label == kIgnoredLabel ? '|' : static_cast<char>(label);
  }
  return text;
}

class PictureLabels : public testing::Test {
 protected:
  MultimodalPrompt prompt(const std::vector<ImageSize>& sizes) const {
    std::string text;
    for (size_t i = 0; i < sizes.size(); ++i) text += "<image>\n";
    const std::vector<Message> messages = {{"user", text + "?"}, {"assistant", "Yes."}};
    return processor_.build_from_sizes(messages, sizes, {.mask_prompt = true, .training = true});
  }
  Processor processor_ = toy_processor();
};

TEST_F(PictureLabels, EveryTokenSaysWhatItsMiddleShows) {
  // One tile of 32 pixels, tokens of 16: their middles lie at a quarter and at three quarters.
  MultimodalPrompt p = prompt({{32, 32}});
  const std::vector<int32_t> before = p.labels;
  label_pictures(p, std::vector<PictureRegion>{{0, 0, 0, 499, 499, "r", "s"}, {0, 700, 0, 800, 999, "b", "t"}},
                 processor_, true);
  EXPECT_EQ(said(p), "rb|.b||st|.t|");
  // Nothing else has changed: the label behind the picture is the text's.
  for (size_t t = 0; t < before.size(); ++t) {
    const bool behind_picture_token = t > 0 && p.images_seq_mask[t - 1] != 0;
    if (!behind_picture_token) {
      EXPECT_EQ(p.labels[t], before[t]) << t;
    }
  }
}

TEST_F(PictureLabels, WhatLiesInFrontIsSeen) {
  MultimodalPrompt p = prompt({{32, 32}});
  label_pictures(p, std::vector<PictureRegion>{{0, 0, 0, 999, 999, "a", "a"}, {0, 0, 0, 300, 300, "b", "b"}},
                 processor_, true);
  EXPECT_EQ(said(p), "ba|aa||ba|aa|");
}

TEST_F(PictureLabels, PaddingAndGridsAreThoseOfTheTiles) {
  // 64 x 32 is two tiles side by side; the global view shows it in its middle half.
  MultimodalPrompt p = prompt({{64, 32}});
  ASSERT_EQ(p.images[0].tiles_wide, 2);
  label_pictures(p, std::vector<PictureRegion>{{0, 0, 0, 400, 999, "l", "L"}, {0, 600, 0, 999, 400, "r", "R"}},
                 processor_, true);
  // Middles at 8 and 24 of 32; the picture fills 8 to 24: both on its edges, at 0 and 999 of its height.
  EXPECT_EQ(said(p), "lr|l.||LLRR|LL..|");
}

TEST_F(PictureLabels, TheGlobalViewMayComeLast) {
  MultimodalPrompt p = prompt({{32, 32}});
  label_pictures(p, std::vector<PictureRegion>{{0, 0, 0, 499, 499, "r", "s"}}, processor_, false);
  EXPECT_EQ(said(p), "s.|..||r.|..|");
}

TEST_F(PictureLabels, PicturesWithoutRegionsLearnNothing) {
  MultimodalPrompt p = prompt({{32, 32}, {32, 32}});
  label_pictures(p, std::vector<PictureRegion>{{1, 0, 0, 999, 999, "x", "y"}}, processor_, true);
  EXPECT_EQ(said(p), "|||||||||||||xx|xx||yy|yy|");
}

}  // namespace
}  // namespace vl2::train
