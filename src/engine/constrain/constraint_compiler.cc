#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/text/utf8.h"
#include "engine/constrain/constraint.h"
#include "engine/constrain/grammar_machine.h"
#include "engine/constrain/grounding_machine.h"
#include "engine/constrain/json_schema.h"
#include "engine/constrain/pattern.h"

namespace vl2 {
namespace {

constexpr std::string_view kMarkupBytes = "[], 0123456789";

void add_choices(GrammarBuilder& builder, const std::vector<std::string>& choices) {
  if (choices.empty()) fail(ErrorCode::kInvalidArgument, "the list of choices is empty; give at least one");
  if (choices.size() > ConstraintCompiler::kMostChoices)
    fail(ErrorCode::kInvalidArgument, "{} choices, at most {} are possible", choices.size(),
         ConstraintCompiler::kMostChoices);
  size_t bytes = 0;
  for (size_t i = 0; i < choices.size(); ++i) {
    bytes += choices[i].size();
    if (choices[i].empty())
      fail(ErrorCode::kInvalidArgument, "choice {} is empty; an answer has at least one byte", i + 1);
    if (!is_valid_utf8(choices[i])) fail(ErrorCode::kInvalidArgument, "choice {} is not UTF-8", i + 1);
  }
  if (bytes > ConstraintCompiler::kMostChoiceBytes)
    fail(ErrorCode::kInvalidArgument, "the choices have {} bytes together, at most {} are possible", bytes,
         ConstraintCompiler::kMostChoiceBytes);
  builder.one_of(builder.start(0), choices, builder.final(0));
}

std::unique_ptr<Machine> grounding_machine(const Tokenizer& tokenizer, const TokenTrie& trie) {
  const auto id = [&](std::string_view tag) {
    const std::optional<int32_t> found = tokenizer.token_id(tag);
    if (!found || !tokenizer.is_added(*found))
      fail(ErrorCode::kUnsupported, "answers with boxes need the token {}, which this model's tokenizer does not have",
           tag);
    return *found;
  };
  for (const char c : kMarkupBytes)
    if (!trie.has_byte(static_cast<uint8_t>(c)))
      fail(ErrorCode::kUnsupported, "boxes need the byte '{}', for which this model's tokenizer has no token", c);
  return std::make_unique<GroundingMachine>(
      GroundingMachine::Tags{id("<|ref|>"), id("<|/ref|>"), id("<|det|>"), id("<|/det|>")});
}

}  // namespace

ConstraintCompiler::ConstraintCompiler(std::shared_ptr<const Tokenizer> tokenizer, int32_t eos, size_t most_memory)
    : tokenizer_(std::move(tokenizer)), eos_(eos), most_memory_(most_memory) {}

std::shared_ptr<const TokenTrie> ConstraintCompiler::trie() {
  const std::lock_guard lock(mutex_);
  if (!trie_) trie_ = std::make_shared<const TokenTrie>(*tokenizer_);
  return trie_;
}

std::unique_ptr<Machine> ConstraintCompiler::machine(const ConstraintSpec& spec, const TokenTrie& trie) const {
  using Kind = ConstraintSpec::Kind;
  if (spec.kind == Kind::kGrounding) return grounding_machine(*tokenizer_, trie);
  GrammarBuilder builder(spec.kind == Kind::kRegex     ? "the regular expression"
                         : spec.kind == Kind::kChoices ? "the list of choices"
                                                       : "the JSON schema");
  builder.add_rule("the text");
  switch (spec.kind) {
    case Kind::kJsonObject:
      JsonGrammar(builder).any_object(builder.start(0), builder.final(0));
      break;
    case Kind::kJsonSchema:
      add_json_schema(builder, spec.text);
      break;
    case Kind::kRegex:
      add_pattern(builder, builder.start(0), builder.final(0), parse_pattern(spec.text, "the regular expression"),
                  Matching::kWhole, Spelling::kPlain);
      break;
    default:
      add_choices(builder, spec.choices);
      break;
  }
  std::array<bool, 256> available{};
  for (size_t b = 0; b < 256; ++b) available[b] = trie.has_byte(static_cast<uint8_t>(b));
  return std::make_unique<GrammarMachine>(std::make_shared<const Grammar>(builder.finish(available)));
}

std::shared_ptr<const Constraint> ConstraintCompiler::make(const ConstraintSpec& spec) {
  const std::shared_ptr<const TokenTrie> tokens = trie();
  auto dfa = std::make_unique<LazyDfa>(machine(spec, *tokens), tokens, eos_, tokenizer_->highest_id() + 1);
  dfa->mask(dfa->start());  // what is hopelessly ambiguous shows here
  return std::make_shared<const Constraint>(std::move(dfa), tokenizer_, eos_, tokenizer_->token_id("<|Assistant|>"),
                                            spec.kind == ConstraintSpec::Kind::kGrounding, most_memory_);
}

std::shared_ptr<const Constraint> ConstraintCompiler::compile(const ConstraintSpec& spec) {
  const auto find = [&] {
    return std::find_if(known_.begin(), known_.end(), [&](const auto& known) { return known.first == spec; });
  };
  {
    const std::lock_guard lock(mutex_);
    const auto at = find();
    if (at != known_.end()) {
      known_.splice(known_.begin(), known_, at);
      return at->second;
    }
  }
  std::shared_ptr<const Constraint> constraint = make(spec);  // others need not wait for it
  const std::lock_guard lock(mutex_);
  const auto at = find();
  if (at != known_.end()) return at->second;
  known_.emplace_front(spec, constraint);
  if (known_.size() > kRemembered) known_.pop_back();
  return constraint;
}

}  // namespace vl2
