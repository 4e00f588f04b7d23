#include "core/base/base64.h"

#include <gtest/gtest.h>

namespace vl2 {
namespace {

TEST(Base64, KnowsTheExamplesOfTheStandard) {
  const std::pair<const char*, const char*> examples[] = {{"", ""},
                                                          {"Zg==", "f"},
                                                          {"Zm8=", "fo"},
                                                          {"Zm9v", "foo"},
                                                          {"Zm9vYg==", "foob"},
                                                          {"Zm9vYmE=", "fooba"},
                                                          {"Zm9vYmFy", "foobar"}};
  for (const auto& [text, bytes] : examples) {
    EXPECT_EQ(decode_base64(text), bytes) << text;
    EXPECT_EQ(encode_base64(bytes), text);
  }
}

TEST(Base64, EveryByteComesBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  EXPECT_EQ(decode_base64(encode_base64(bytes)), bytes);
  EXPECT_EQ(encode_base64("\xfb\xff\xbf"), "+/+/");
}

TEST(Base64, TakesBothAlphabetsWhiteSpaceAndNoPadding) {
  EXPECT_EQ(decode_base64("+/-_"), "\xfb\xff\xbf");
  EXPECT_EQ(decode_base64("Zm 9v\r\nYg"), "foob");
}

TEST(Base64, TakesWhiteSpaceAnywhereAndRefusesOtherBytesAnywhere) {
  const std::string bytes = "Many hands make light work.";
  const std::string text = encode_base64(bytes);
  for (size_t at = 0; at <= text.size(); ++at) {
    for (const char* space : {" ", "\r\n", "\t"}) {
      std::string spaced = text;
      EXPECT_EQ(decode_base64(spaced.insert(at, space)), bytes) << at;
    }
    for (const char c : {'*', '\0', '\x80', '\xff'}) {
      std::string broken = text;
      EXPECT_EQ(decode_base64(broken.insert(at, 1, c)), std::nullopt) << at;
    }
  }
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Z", "Zm9vY", "Zm9*", "Zg===", "Zg=a", "Zm9v=", "=", "Zg=g"})
    EXPECT_EQ(decode_base64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace vl2
