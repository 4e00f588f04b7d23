// Definitions of constraints, and random answers under those that are taken: engine/constrain.
//
// Input: a byte for the kind, a byte for the answer, and the definition.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/text/toy_tokenizer.h"
#include "core/text/utf8.h"
#include "engine/constrain/constraint.h"
#include "engine/constrain/schema_judge_test.h"
#include "fuzz/fuzz.h"

namespace vl2 {
namespace {

using nlohmann::json;

constexpr size_t kPatience = 60, kMostTokens = 600, kLongestDefinition = 2000;

struct Vocabulary {
  Tokenizer tokenizer;
  int32_t eos;
};

Vocabulary make_vocabulary() {
  Tokenizer tokenizer =
      parse_toy(toy_tokenizer_json({"{ \"", "\" :", "\": \"", "\" }", "\" ,", ", Ġ", "1 2", "] ]", "] ,", "a b", "ab c",
                                    "n u", "nu l", "nul l", "t r", "Ã ©", "[ [", "\\ u"}));
  const int32_t eos = tokenizer.add_special_token("<｜end▁of▁sentence｜>");
  for (const char* tag : {"<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|Assistant|>"})
    tokenizer.add_special_token(tag);
  return {std::move(tokenizer), eos};
}

ConstraintSpec spec_of(uint8_t kind, std::string_view definition) {
  switch (kind % 8) {
    case 0:
      return ConstraintSpec::json_object();
    case 1:
      return ConstraintSpec::grounding();
    case 2: {
      std::vector<std::string> choices;
      for (size_t at = 0; at <= definition.size();) {
        const size_t end = std::min(definition.find('\n', at), definition.size());
        choices.emplace_back(definition.substr(at, end - at));
        at = end + 1;
      }
      return ConstraintSpec::one_of(std::move(choices));
    }
    case 3:
    case 4:
      return ConstraintSpec::regex(std::string(definition));
    default:
      return ConstraintSpec::json_schema(std::string(definition));
  }
}

// Draws from what is allowed; late tokens are those that end things.
class Walk {
 public:
  Walk(const Tokenizer& tokenizer, int32_t eos, uint64_t seed) : tokenizer_(tokenizer), eos_(eos), random_(seed) {
    for (const char c : std::string("{}[]\",:0123456789 "))
      likely_.push_back(*tokenizer.token_id(byte_level_spelling(std::string(1, c))));
    for (const char* s : {"<|/det|>", "<|/ref|>", "}", "]", "\"", "0", "9"}) closing_.push_back(*tokenizer.token_id(s));
  }

  // The whole text; nullopt: it had no end yet, or a mask was refused for its costs.
  std::optional<std::string> run(const std::shared_ptr<const Constraint>& constraint) {
    ConstraintState state(constraint);
    std::string text;
    for (size_t i = 0; i < kMostTokens; ++i) try {
        const TokenMask& mask = state.allowed();
        VL2_HOLDS(mask.allowed > 0, "after \"{}\"", text);
        VL2_HOLDS(mask.has(eos_) == state.may_end(), "after \"{}\"", text);
        const int32_t id = choose(mask, i >= kPatience);
        const auto other = static_cast<int32_t>(random_.below(constraint->num_ids()));
        const bool other_allowed = mask.has(other);
        VL2_HOLDS(ConstraintState(state).accept(other) == other_allowed, "{} after \"{}\"", other, text);
        VL2_HOLDS(state.accept(id), "{} after \"{}\"", id, text);
        if (id == eos_) {
          VL2_HOLDS(state.ended() && state.allowed().allowed == 0, "after \"{}\"", text);
          return text;
        }
        text += tokenizer_.token_text(id);
      } catch (const Error& error) {
        VL2_HOLDS(error.code() == ErrorCode::kInvalidArgument, "{}", error.what());
        return std::nullopt;
      }
    return std::nullopt;
  }

 private:
  std::optional<int32_t> first_of(const std::vector<int32_t>& list, const TokenMask& mask) {
    const auto start = static_cast<size_t>(random_.below(static_cast<int64_t>(list.size())));
    for (size_t i = 0; i < list.size(); ++i)
      if (const int32_t id = list[(start + i) % list.size()]; mask.has(id)) return id;
    return std::nullopt;
  }

  int32_t choose(const TokenMask& mask, bool close) {
    if (mask.has(eos_) && (close || random_.uniform() < 0.2)) return eos_;
    if (close && random_.uniform() < 0.8)
      if (const auto id = first_of(closing_, mask)) return *id;
    if (random_.uniform() < 0.6)
      if (const auto id = first_of(likely_, mask)) return *id;
    int64_t n = random_.below(mask.allowed);
    for (int32_t id = 0;; ++id)
      if (mask.has(id) && n-- == 0) return id;
  }

  const Tokenizer& tokenizer_;
  const int32_t eos_;
  Random random_;
  std::vector<int32_t> likely_, closing_;
};

void check_json(const ConstraintSpec& spec, const std::string& text) {
  VL2_HOLDS(json::accept(text), "{} for {}", text, spec.text);
  const json value = json::parse(text);
  if (spec.kind == ConstraintSpec::Kind::kJsonObject) {
    VL2_HOLDS(value.is_object(), "{}", text);
    return;
  }
  const json schema = json::parse(spec.text);
  // The judge's regular expressions are another dialect, and recursive.
  if (spec.text.find("pattern") != std::string::npos) return;
  const std::string why = invalid(schema, value, schema);
  VL2_HOLDS(why.empty(), "{} for {}: {}", text, spec.text, why);
}

// PCRE2 reads the same expression, in JavaScript's spelling. What it does not read, or not in time, says nothing.
void check_regex(const std::string& pattern, const std::string& text) {
  // PCRE2 ignores what stands behind an empty class; classes with names are nothing we know.
  for (const char* other : {"[]", "[:", "[.", "[="})
    if (pattern.find(other) != std::string::npos) return;
  int error = 0;
  PCRE2_SIZE offset = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_DOLLAR_ENDONLY;
  const std::string whole = "(?:" + pattern + ")";
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()), whole.size(), kOptions, &error, &offset, nullptr),
      &pcre2_code_free);
  if (!code) return;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(pcre2_match_data_create(1, nullptr),
                                                                                 &pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  pcre2_set_match_limit(context.get(), 100'000);
  const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                PCRE2_ANCHORED | PCRE2_ENDANCHORED, data.get(), context.get());
  VL2_HOLDS(found != PCRE2_ERROR_NOMATCH, "\"{}\" for {}", text, pattern);
}

void check_boxes(const std::string& text) {
  constexpr std::string_view kOpen = "<|det|>", kClose = "<|/det|>";
  for (size_t at = text.find(kOpen); at != std::string::npos; at = text.find(kOpen, at + 1)) {
    const size_t begin = at + kOpen.size(), end = text.find(kClose, begin);
    VL2_HOLDS(end != std::string::npos, "{}", text);
    const std::string body = text.substr(begin, end - begin);
    VL2_HOLDS(json::accept(body), "{}", text);
    const json boxes = json::parse(body);
    VL2_HOLDS(!boxes.empty(), "{}", text);
    for (const json& box : boxes) {
      VL2_HOLDS(box.is_array() && box.size() == 4, "{}", text);
      for (const json& n : box) VL2_HOLDS(n.is_number_unsigned() && n <= 999, "{}", text);
      VL2_HOLDS(box[0] <= box[2] && box[1] <= box[3], "{}", text);
    }
  }
}

void check(const ConstraintSpec& spec, const std::string& text) {
  switch (spec.kind) {
    case ConstraintSpec::Kind::kJsonObject:
    case ConstraintSpec::Kind::kJsonSchema:
      VL2_HOLDS(is_valid_utf8(text), "{}", text);
      return check_json(spec, text);
    case ConstraintSpec::Kind::kRegex:
      VL2_HOLDS(is_valid_utf8(text), "{}", text);
      return check_regex(spec.text, text);
    case ConstraintSpec::Kind::kChoices:
      VL2_HOLDS(std::find(spec.choices.begin(), spec.choices.end(), text) != spec.choices.end(), "{}", text);
      return;
    case ConstraintSpec::Kind::kGrounding:
      return check_boxes(text);
  }
}

}  // namespace
}  // namespace vl2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vl2;
  static const Vocabulary vocabulary = make_vocabulary();
  static const auto tokenizer = std::shared_ptr<const Tokenizer>(&vocabulary.tokenizer, [](const Tokenizer*) {});
  static ConstraintCompiler compiler(tokenizer, vocabulary.eos);
  fuzz::Input input(data, size);
  const uint8_t kind = input.byte(), seed = input.byte();
  if (input.rest().size() > kLongestDefinition) return 0;
  const ConstraintSpec spec = spec_of(kind, input.rest());
  std::shared_ptr<const Constraint> constraint;
  try {
    constraint = compiler.compile(spec);
  } catch (const Error& error) {
    VL2_HOLDS(error.code() == ErrorCode::kInvalidArgument, "{}", error.what());
    return 0;
  }
  const auto text = Walk(vocabulary.tokenizer, vocabulary.eos, seed).run(constraint);
  if (text) check(spec, *text);
  return 0;
}
