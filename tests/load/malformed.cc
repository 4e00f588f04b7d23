#include "load/malformed.h"

#include <cstdint>
#include <string_view>

#include "core/base/base64.h"
#include "core/image/encode.h"

namespace vl2::load_test {
namespace {

std::string with_picture(const std::string& file) {
  return R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
         file + R"("}}]}]})";
}

std::string png() { return encode_png(make_image(40, 30, 200, 10, 10)); }

// PNG's CRC-32.
uint32_t crc_of(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
  }
  return ~crc;
}

// Its head claims 30,000 pixels a side.
std::string png_that_boasts() {
  constexpr size_t kHead = 12, kWidth = 16, kHeight = 20, kCrc = 29;
  std::string file = png();
  for (const size_t at : {kWidth, kHeight}) file.replace(at, 4, std::string("\0\0\x75\x30", 4));
  const uint32_t crc = crc_of(std::string_view(file).substr(kHead, kCrc - kHead));
  for (size_t i = 0; i < 4; ++i) file[kCrc + i] = static_cast<char>(crc >> (24 - 8 * i) & 0xff);
  return file;
}

std::vector<MalformedRequest> make() {
  const std::string question = R"({"messages":[{"role":"user","content":"Hi"}])";
  const std::string chat = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n";
  return {
      {"noise", 400, "\x16\x03\x01\x02\r\n\r\n", ""},
      {"a line without a colon", 400, "GET /health HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", ""},
      {"another version", 505, "GET /health HTTP/3.0\r\nHost: x\r\n\r\n", ""},
      {"a head without end", 431, "GET /health HTTP/1.1\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n", ""},
      {"two lengths", 400, chat + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n", "{}"},
      {"a negative length", 400, chat + "Content-Length: -1\r\n\r\n", ""},
      {"a length and chunks", 400, chat + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n"},
      {"no JSON", 400, "", "{\"messages\":"},
      {"no object", 400, "", "[1, 2]"},
      {"deep JSON", 400, "", std::string(100'000, '[')},
      {"no messages", 400, "", "{}"},
      {"an empty conversation", 400, "", R"({"messages":[]})"},
      {"no number of tokens", 400, "", question + R"(,"max_tokens":"many"})"},
      {"no UTF-8", 400, "", "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}"},
      {"another model", 404, "", question + R"(,"model":"another"})"},
      {"no base64", 400, "", with_picture("*****")},
      {"half of a picture", 400, "", with_picture(encode_base64(png().substr(0, 60)))},
      {"no picture", 400, "", with_picture(encode_base64("hello, this is no picture"))},
      {"a picture that boasts", 413, "", with_picture(encode_base64(png_that_boasts()))},
      {"a schema that is none", 400, "",
       question + R"(,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"no"}}}})"},
  };
}

}  // namespace

const std::vector<MalformedRequest>& malformed_requests() {
  static const std::vector<MalformedRequest> kAll = make();
  return kAll;
}

}  // namespace vl2::load_test
