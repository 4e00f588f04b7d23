// Answers on their way to a client: tokens that begin and end anywhere become whole characters, stop strings are held
// back, and what is left becomes events. core/text, engine/runtime/stop_strings, apps/server/api_reply.
//
// Input: a byte with the number of stop strings, each a length and its bytes; a byte that says where texts are cut; and
// the tokens: a byte is itself, 0xff and another one the tokens beyond.
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/server/api_reply.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/text/incremental_decoder.h"
#include "core/text/toy_tokenizer.h"
#include "core/text/utf8.h"
#include "engine/runtime/stop_strings.h"
#include "fuzz/fuzz.h"

namespace vl2 {
namespace {

Tokenizer make_tokenizer() {
  Tokenizer tokenizer = parse_toy(toy_tokenizer_json({"a b", "ab c", "Ã ©", "ð Ł", "ðŁ ĺ", "Ģ a", "Ċ Ċ", "< |"}));
  for (const char* text : {"<|User|>", "<|end|>"}) tokenizer.add_special_token(text);
  return tokenizer;
}

std::vector<int32_t> ids_of(std::string_view bytes) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (byte == 0xff && i + 1 < bytes.size())
      ids.push_back(256 + static_cast<uint8_t>(bytes[++i]) % 16);  // some of them are no tokens
    else
      ids.push_back(byte);
  }
  return ids;
}

// What stop strings leave of a text, as their header says it.
std::string stopped(const std::string& text, const std::vector<std::string>& stops, std::optional<std::string>& by) {
  for (size_t end = 1; end <= text.size(); ++end) {
    for (const std::string& s : stops)
      if (std::string_view(text).substr(0, end).ends_with(s) && (!by || s.size() > by->size())) by = s;
    if (by) return text.substr(0, end - by->size());
  }
  return text;
}

void check_event(const std::string& text) {
  const std::string event = server::sse_event({{"delta", text}});
  VL2_HOLDS(event.starts_with("data: ") && event.ends_with("\n\n"), "{}", event);
  const std::string line = event.substr(6, event.size() - 8);
  VL2_HOLDS(line.find_first_of("\r\n") == std::string::npos && is_valid_utf8(line), "{}", event);
  VL2_HOLDS(nlohmann::json::accept(line), "{}", event);
  VL2_HOLDS(nlohmann::json::parse(line).at("delta") == repair_utf8(text), "{}", event);
}

void check_repair(std::string_view bytes, Random random) {
  std::string out;
  Utf8Repair repair;
  for (std::string_view rest = bytes; !rest.empty();) {
    const auto count = static_cast<size_t>(1 + random.below(4));
    repair.append(rest.substr(0, count), out);
    rest.remove_prefix(std::min(count, rest.size()));
    VL2_HOLDS(is_valid_utf8(out), "{}", out);
  }
  repair.finish(out);
  VL2_HOLDS(out == repair_utf8(bytes), "{}", out);
  VL2_HOLDS(!is_valid_utf8(bytes) || out == bytes, "{}", out);
}

// Whole characters, in pieces that together are the text.
std::vector<std::string> decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  IncrementalDecoder decoder(tokenizer);
  std::vector<std::string> pieces;
  std::string whole;
  for (const int32_t id : ids) {
    pieces.push_back(decoder.push(id));
    VL2_HOLDS(is_valid_utf8(pieces.back()), "{}", pieces.back());
    whole += pieces.back();
  }
  pieces.push_back(decoder.finish());
  VL2_HOLDS(whole + pieces.back() == tokenizer.decode(ids), "{}", whole);
  return pieces;
}

struct Released {
  std::string text;
  std::optional<std::string> by;
  bool operator==(const Released&) const = default;
};

Released release(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  StopStrings filter(stops);
  Released result;
  const auto take = [&](const std::string& text) {
    check_event(text);
    result.text += text;
  };
  for (const std::string& piece : pieces) {
    const bool over = filter.matched().has_value();
    const std::string text = filter.push(piece);
    VL2_HOLDS(!over || text.empty(), "{}", text);
    take(text);
  }
  take(filter.finish());
  result.by = filter.matched();
  return result;
}

}  // namespace
}  // namespace vl2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vl2;
  static const Tokenizer tokenizer = make_tokenizer();
  fuzz::Input input(data, size);
  std::vector<std::string> stops(input.byte() % 4);
  for (std::string& s : stops) s = input.bytes(input.byte());
  try {
    StopStrings::check(stops);
  } catch (const Error& error) {
    VL2_HOLDS(error.code() == ErrorCode::kInvalidArgument, "{}", error.what());
    stops.clear();
  }
  Random random(input.byte());
  check_repair(input.rest(), random);
  const std::vector<std::string> pieces = decode(tokenizer, ids_of(input.rest()));
  std::string whole;
  for (const std::string& piece : pieces) whole += piece;

  Released expected;
  expected.text = stopped(whole, stops, expected.by);
  VL2_HOLDS(release(pieces, stops) == expected, "\"{}\" of \"{}\"", release(pieces, stops).text, whole);
  for (const std::string& s : stops) VL2_HOLDS(expected.text.find(s) == std::string::npos, "{}", expected.text);
  // Other borders, the same text.
  std::vector<std::string> others;
  for (size_t at = 0; at < whole.size(); at += others.back().size())
    others.push_back(whole.substr(at, static_cast<size_t>(1 + random.below(9))));
  VL2_HOLDS(release(others, stops) == expected, "\"{}\" of \"{}\"", release(others, stops).text, whole);
  return 0;
}
