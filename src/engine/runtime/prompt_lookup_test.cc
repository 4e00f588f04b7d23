#include "engine/runtime/prompt_lookup.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/random.h"

namespace vl2 {
namespace {

using Ids = std::vector<int32_t>;

// -1: a vision token.
PromptLookup lookup(const Ids& ids) {
  PromptLookup result;
  for (const int32_t id : ids) {
    if (id < 0) {
      result.push_vision();
    } else {
      result.push(id);
    }
  }
  return result;
}

Ids guess(const Ids& ids, int64_t most = 8) {
  const PromptLookup text = lookup(ids);
  return text.continuation(text.match(), most);
}

TEST(PromptLookup, ProposesWhatFollowedTheSameTokens) {
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 6, 9, 2, 3}, 3), (Ids{4, 5, 6}));
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 6, 9, 2, 3}, 1), (Ids{4}));
  EXPECT_EQ(guess({1, 2, 3, 4, 5, 6, 9, 2, 3}, 0), Ids{});
}

TEST(PromptLookup, ProposesNothingAfterWhatIsNew) {
  EXPECT_EQ(guess({}), Ids{});
  EXPECT_EQ(guess({7}), Ids{});
  EXPECT_EQ(guess({1, 2, 3, 4}), Ids{});
}

TEST(PromptLookup, TheLongestMatchWinsOverTheLatest) {
  EXPECT_EQ(guess({5, 1, 2, 30, 6, 2, 40, 5, 1, 2}, 1), (Ids{30}));
  const PromptLookup text = lookup({5, 1, 2, 30, 6, 2, 40, 5, 1, 2});
  EXPECT_EQ(text.match().length, 3);
}

TEST(PromptLookup, TheLatestWinsAmongEquallyLong) {
  EXPECT_EQ(guess({1, 2, 30, 1, 2, 40, 1, 2, 50, 8, 1, 2}, 1), (Ids{50}));
}

TEST(PromptLookup, ALoopGoesOnAsFarAsAsked) {
  EXPECT_EQ(guess({4, 4}, 5), (Ids{4, 4, 4, 4, 4}));
  EXPECT_EQ(guess({9, 1, 2, 3, 1, 2, 3}, 7), (Ids{1, 2, 3, 1, 2, 3, 1}));
}

TEST(PromptLookup, VisionTokensAreNeverProposedNorMatched) {
  EXPECT_EQ(guess({1, -1, -1, -1, 2, 1}), Ids{}) << "a picture followed";
  EXPECT_EQ(guess({1, 2, -1, -1, 3, 1}), (Ids{2})) << "up to the picture";
  EXPECT_EQ(guess({-1, -1, -1, -1}), Ids{}) << "a run of placeholders is no text";
  const PromptLookup text = lookup({1, -1, 2, 3, 1, -1, 2});
  EXPECT_EQ(text.match().length, 1) << "pictures are not compared";
  EXPECT_EQ(text.continuation(text.match(), 2), (Ids{3, 1}));
}

TEST(PromptLookup, PlacesBeforeAPictureDoNotHideOthers) {
  EXPECT_EQ(guess({1, 2, 3, 1, -1, -1, 1}), (Ids{2, 3, 1})) << "the latest place is followed by a picture";
}

TEST(PromptLookup, MatchesAreComparedUpToTheirLongest) {
  Ids ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(i);
  Ids twice = ids;
  twice.insert(twice.end(), ids.begin(), ids.end() - 1);
  EXPECT_EQ(lookup(twice).match().length, PromptLookup::kLongestMatch);
  EXPECT_EQ(guess(twice, 1), (Ids{39}));
}

TEST(PromptLookup, IdsBelowZeroAreOurOwnMistake) { EXPECT_THROW(lookup({1}).push(-1), Error); }

// As the definition reads, from every place.
PromptLookup::Match longest_latest(const Ids& ids) {
  PromptLookup::Match best;
  const auto size = static_cast<int64_t>(ids.size());
  for (int64_t next = 1; next < size; ++next) {
    int64_t length = 0;
    while (length < std::min(next, PromptLookup::kLongestMatch) &&
           ids[static_cast<size_t>(next - 1 - length)] == ids[static_cast<size_t>(size - 1 - length)])
      ++length;
    if (length > 0 && length >= best.length) best = {length, next};
  }
  return best;
}

TEST(PromptLookup, FindsWhatComparingWithEveryPlaceFinds) {
  Random random(3);
  for (const uint64_t alphabet : {2, 5, 20}) {
    PromptLookup text;
    Ids ids;
    // No more than kPlaces places of a token.
    for (uint64_t i = 0; i < static_cast<uint64_t>(PromptLookup::kPlaces); ++i) {
      ids.push_back(static_cast<int32_t>(random.below(alphabet)));
      text.push(ids.back());
      const PromptLookup::Match expected = longest_latest(ids), found = text.match();
      ASSERT_EQ(found.length, expected.length) << i;
      ASSERT_EQ(found.next, expected.next) << i;
    }
  }
}

}  // namespace
}  // namespace vl2
