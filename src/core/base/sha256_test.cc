#include "core/base/sha256.h"

#include <gtest/gtest.h>

#include <string_view>
#include <unordered_set>

#include "core/base/file.h"

namespace vl2 {
namespace {

Digest of(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

// FIPS 180-2, B.1.
TEST(Sha256, IsTheStandards) {
  const std::string_view text = "abc";
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(text))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(of(text).bytes[0], std::byte{0xba});
  EXPECT_EQ(of(text).bytes[31], std::byte{0xad});
}

TEST(Sha256, EqualContentsAreOneKey) {
  const std::unordered_set<Digest> digests = {of("a"), of("b"), of("a"), of("")};
  EXPECT_EQ(digests.size(), 3u);
  EXPECT_TRUE(digests.contains(of("b")));
}

}  // namespace
}  // namespace vl2
