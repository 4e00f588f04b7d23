#include "engine/runtime/prefix_keys.h"

#include <gtest/gtest.h>

#include <functional>

#include "engine/runtime/engine_test.h"

namespace vl2 {
namespace {

constexpr int64_t kTokens = 16;

class PrefixKeys : public testing::Test {
 protected:
  std::vector<BlockKey> keys(const MultimodalPrompt& prompt) const {
    std::vector<PictureKey> pictures;
    for (const TiledImage& image : prompt.images) pictures.push_back(picture_key(image));
    return prefix_keys(prompt, pictures, prompt.num_image_tokens, kTokens);
  }
  // Blocks from the first on that are named alike.
  int64_t shared(const MultimodalPrompt& a, const MultimodalPrompt& b) const {
    const auto x = keys(a), y = keys(b);
    return std::ranges::mismatch(x, y).in1 - x.begin();
  }
  MultimodalPrompt changed(const std::function<void(MultimodalPrompt&)>& change) const {
    MultimodalPrompt prompt = prompt_;
    change(prompt);
    return prompt;
  }

  const ModelConfig config_ = preset_config("test-small");
  // Text, a picture, text, a picture, text.
  const MultimodalPrompt prompt_ =
      test_prompt(config_, 120, {test_image(config_, 2, 1, 1), test_image(config_, 1, 2, 2)}, 3);
  const int64_t first_row_ = 40;
  const int64_t second_row_ = 80 + prompt_.num_image_tokens[0];
};

TEST_F(PrefixKeys, NameEveryFullBlockAndOnlyThose) {
  const auto length = static_cast<int64_t>(prompt_.input_ids.size());
  EXPECT_EQ(static_cast<int64_t>(keys(prompt_).size()), length / kTokens);
  MultimodalPrompt text;
  EXPECT_TRUE(keys(text).empty());
  text.input_ids.assign(15, 3);
  EXPECT_TRUE(keys(text).empty());
  text.input_ids.assign(16, 3);  // without a mask
  EXPECT_EQ(keys(text).size(), 1u);
}

TEST_F(PrefixKeys, EqualPromptsHaveEqualKeys) {
  const MultimodalPrompt copy = prompt_;
  EXPECT_EQ(keys(copy), keys(prompt_));
}

TEST_F(PrefixKeys, ATokenChangesItsBlockAndAllBehindIt) {
  for (const size_t at : {size_t{0}, size_t{15}, size_t{16}, size_t{39}})
    EXPECT_EQ(shared(prompt_, changed([&](auto& p) { ++p.input_ids[at]; })), static_cast<int64_t>(at) / kTokens);
  const auto x = keys(prompt_), y = keys(changed([](auto&p) { ++p.input_ids[0]; }));
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NE(x[i], y[i]) << i;
}

TEST_F(PrefixKeys, APixelChangesThePicturesBlocksAndAllBehindIt) {
  EXPECT_EQ(shared(prompt_, changed([](auto& p) { p.images[0].pixels.back() ^= 1; })), first_row_ / kTokens);
  EXPECT_EQ(shared(prompt_, changed([](auto& p) { p.images[1].pixels.front() ^= 1; })), second_row_ / kTokens);
  EXPECT_EQ(shared(prompt_, changed([](auto& p) { std::swap(p.images[0].pixels, p.images[1].pixels); })),
            first_row_ / kTokens);
}

TEST_F(PrefixKeys, TheSamePixelsInAnotherGridAreAnotherPicture) {
  TiledImage image = test_image(config_, 2, 1, 1);
  const PictureKey wide = picture_key(image);
  std::swap(image.tiles_wide, image.tiles_high);
  EXPECT_NE(picture_key(image), wide);
}

TEST_F(PrefixKeys, APlaceholderIsNotTheTokenOfItsNumber) {
  const MultimodalPrompt text = changed([](auto& p) { p.images_seq_mask.clear(); });
  EXPECT_EQ(shared(prompt_, text), first_row_ / kTokens);
  // Rows of a picture have numbers: the same picture, one row later, is something else.
  const MultimodalPrompt later = changed([&](auto& p) {
    p.images_seq_mask[static_cast<size_t>(first_row_)] = 0;
    p.images_seq_mask[static_cast<size_t>(first_row_ + p.num_image_tokens[0])] = 1;
  });
  EXPECT_EQ(shared(prompt_, later), first_row_ / kTokens);
}

}  // namespace
}  // namespace vl2
