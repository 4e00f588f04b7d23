#include "apps/server/access.h"

#include <thread>

#include "apps/server/api_error.h"
#include "apps/server/server_test.h"

namespace vl2::server {
namespace {

HttpHead with_key(const std::string& key) {
  HttpHead head;
  head.headers = {{"authorization", "Bearer " + key}};
  return head;
}

bool admits(const ApiKeys& keys, const std::string& key) {
  try {
    keys.check(with_key(key));
    return true;
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 401);
    return false;
  }
}

TEST(ConstantTime, EqualTextsAreEqualAndEveryByteCounts) {
  const std::string text(64, 'k');
  EXPECT_TRUE(equal_in_constant_time(text, std::string(64, 'k')));
  EXPECT_TRUE(equal_in_constant_time("", ""));
  for (size_t at = 0; at < text.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string other = text;
      other[at] = static_cast<char>(other[at] ^ (1 << bit));
      EXPECT_FALSE(equal_in_constant_time(text, other)) << at << " " << bit;
      EXPECT_FALSE(equal_in_constant_time(other, text)) << at << " " << bit;
    }
}

TEST(ConstantTime, LengthsAndZeroBytesCount) {
  using namespace std::string_view_literals;
  EXPECT_FALSE(equal_in_constant_time("key", "key1"));
  EXPECT_FALSE(equal_in_constant_time("", "k"));
  EXPECT_FALSE(equal_in_constant_time("ke\0"sv, "key"sv));
  EXPECT_FALSE(equal_in_constant_time("k\0y"sv, "k\0z"sv));
  // Differences that would cancel each other if they were added up.
  EXPECT_FALSE(equal_in_constant_time("\x01\x02", "\x02\x01"));
}

TEST(ApiKeys, HaveNamesOrPlaces) {
  const ApiKeys keys({"secret", "alice:one", "alice:two", "no/name:three", "b.o-b_2:fo:ur"});
  EXPECT_EQ(keys.size(), 5u);
  EXPECT_EQ(keys.check(with_key("secret")), "key-1");
  EXPECT_EQ(keys.check(with_key("one")), "alice");
  EXPECT_EQ(keys.check(with_key("two")), "alice");
  EXPECT_EQ(keys.check(with_key("no/name:three")), "key-4");
  EXPECT_EQ(keys.check(with_key("fo:ur")), "b.o-b_2");
  EXPECT_FALSE(admits(keys, "alice"));
  EXPECT_FALSE(admits(keys, "alice:one"));
  EXPECT_FALSE(admits(keys, "three"));
  EXPECT_THROW(ApiKeys({"alice:"}), Error);
  EXPECT_THROW(ApiKeys({""}), Error);
  EXPECT_EQ(ApiKeys({}).check(HttpHead{}), "");
}

TEST(ApiKeys, AreReplacedWhileOthersAsk) {
  ApiKeys keys({"old", "both"});
  std::atomic<bool> done{false};
  std::thread asking([&] {
    while (!done) EXPECT_TRUE(admits(keys, "both"));
  });
  for (int i = 0; i < 200; ++i) keys.replace({i % 2 == 0 ? "new" : "old", "both"});
  keys.replace({"new", "both"});
  done = true;
  asking.join();
  EXPECT_TRUE(admits(keys, "new"));
  EXPECT_FALSE(admits(keys, "old"));
  EXPECT_THROW(keys.replace({"x:"}), Error);
  EXPECT_TRUE(admits(keys, "new"));  // nothing changed
}

}  // namespace
}  // namespace vl2::server
