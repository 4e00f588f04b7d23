#include "apps/cli/bench_serve.h"

#include <gtest/gtest.h>

#include "core/base/base64.h"
#include "core/image/decode.h"

namespace vl2::cli {
namespace {

TEST(BenchServe, QuantilesAreOfTheSortedValues) {
  const Quantiles none = quantiles_of({});
  EXPECT_EQ(none.count, 0);
  const Quantiles one = quantiles_of({7});
  EXPECT_EQ(one.median, 7);
  EXPECT_EQ(one.p95, 7);
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  const Quantiles many = quantiles_of(values);
  EXPECT_EQ(many.median, 50);
  EXPECT_EQ(many.p95, 95);
  EXPECT_EQ(many.max, 100);
  EXPECT_EQ(quantiles_of({1, 3, 2, 10}).median, 2.5);
}

TEST(BenchServe, GapsCountThatOverlapATime) {
  const auto at = [](int ms) { return ServeClock::time_point(std::chrono::milliseconds(ms)); };
  ServeAnswer answer;
  answer.sent = at(0);
  answer.arrivals = {at(10), at(12), at(30), at(31)};
  answer.tokens = {1, 1, 1, 1};
  answer.ended = at(32);
  EXPECT_EQ(answer.first_token_ms(), 10);
  EXPECT_EQ(answer.gaps_ms(), (std::vector<double>{2, 18, 1}));
  EXPECT_EQ(answer.gaps_ms(at(15), at(20)), (std::vector<double>{18}));
  EXPECT_EQ(answer.gaps_ms(at(11), at(30)), (std::vector<double>{2, 18}));
  EXPECT_EQ(answer.gaps_ms(at(31), at(40)), (std::vector<double>{}));
  EXPECT_EQ(answer.gaps_before_ms(at(30)), (std::vector<double>{2, 18}));
  EXPECT_EQ(answer.gaps_before_ms(at(29)), (std::vector<double>{2}))
      << "the one that is not over belongs to what follows";
  EXPECT_EQ(answer.gaps_before_ms(at(5)), (std::vector<double>{}));
  answer.tokens[2] = 2;
  EXPECT_EQ(answer.gaps_ms(), (std::vector<double>{2, 1})) << "a token without text came in between";
  EXPECT_EQ(answer.gaps_before_ms(at(30)), (std::vector<double>{2}));
}

TEST(BenchServe, ItsPicturesAreOfTheirSizeAndOfTheirSeed) {
  const std::string url = random_picture({321, 45}, 3), prefix = "data:image/png;base64,";
  ASSERT_TRUE(url.starts_with(prefix));
  const std::string file = decode_base64(url.substr(prefix.size())).value();
  const Image image = decode_image(std::as_bytes(std::span(file)), "the picture", {});
  EXPECT_EQ(image.width, 321);
  EXPECT_EQ(image.height, 45);
  EXPECT_EQ(url, random_picture({321, 45}, 3));
  EXPECT_NE(url, random_picture({321, 45}, 4));
  EXPECT_NE(random_words(5, 1), random_words(5, 2));
}

}  // namespace
}  // namespace vl2::cli
