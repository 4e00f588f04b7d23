// Constrained decoding: which tokens may come next, so that an answer is JSON, valid against a schema, a match of a
// regular expression, one of some choices, or text whose boxes are well formed.
//
//   ConstraintCompiler compiler(tokenizer, eos);                       one for each model; any thread
//   auto constraint = compiler.compile(ConstraintSpec::json_object());  shared by any number of requests
//   ConstraintState state(constraint);                                  one for each answer
//   while (!state.ended()) state.accept(choose(state.allowed()));
//
// Works on bytes: a token may begin and end anywhere, also within a character. Memory and time are bounded, whatever
// the definition: it is refused with kInvalidArgument and the numbers, when it is compiled or, for some that are very
// ambiguous, when a mask is asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/tokenizer.h"
#include "engine/constrain/lazy_dfa.h"

namespace vl2 {

struct ConstraintSpec {
  enum class Kind { kJsonObject, kJsonSchema, kRegex, kChoices, kGrounding };
  Kind kind = Kind::kJsonObject;
  std::string text;                  // the schema or the regular expression
  std::vector<std::string> choices;  // not empty, without empty ones

  static ConstraintSpec json_object() { return {}; }
  static ConstraintSpec json_schema(std::string schema) { return {Kind::kJsonSchema, std::move(schema), {}}; }
  static ConstraintSpec regex(std::string pattern) { return {Kind::kRegex, std::move(pattern), {}}; }
  static ConstraintSpec one_of(std::vector<std::string> choices) { return {Kind::kChoices, {}, std::move(choices)}; }
  static ConstraintSpec grounding() { return {Kind::kGrounding, {}, {}}; }

  bool operator==(const ConstraintSpec&) const = default;
};

// A compiled definition. What it finds out about itself on the way is kept for all who use it, within a limit. Any
// thread.
class Constraint {
 public:
  // Bytes; what is known about masks is forgotten beyond, and found out anew.
  static constexpr size_t kMostMemory = size_t{32} * 1024 * 1024;

  // Made by the compiler. `reads_prompt`: answers go on from what stands behind the prompt's last `assistant` token.
  Constraint(std::unique_ptr<LazyDfa> dfa, std::shared_ptr<const Tokenizer> tokenizer, int32_t eos,
             std::optional<int32_t> assistant, bool reads_prompt, size_t most_memory = kMostMemory);

  int32_t eos() const { return eos_; }
  int32_t num_ids() const { return tokenizer_->highest_id() + 1; }
  int64_t times_forgotten() const;

 private:
  friend class ConstraintState;
  // A state of a dfa that was current when it was found.
  struct Position {
    std::shared_ptr<LazyDfa> dfa;
    int32_t state = LazyDfa::kDead;
  };
  Position start(std::span<const int32_t> prompt) const;
  // Moves on by a token; false, and nothing moves: it may not come here.
  bool advance(Position& position, int32_t id) const;
  std::shared_ptr<const TokenMask> mask(Position& position) const;

  int32_t step(const Position& position, int32_t id) const;
  void renew(Position& position) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  int32_t eos_;
  std::optional<int32_t> assistant_;
  bool reads_prompt_;
  size_t most_memory_;
  mutable std::mutex mutex_;  // of everything the dfa finds out
  mutable std::shared_ptr<LazyDfa> dfa_;
  mutable int64_t times_forgotten_ = 0;
};

// Where one answer stands. Cheap to copy; one thread at a time.
class ConstraintState {
 public:
  // `prompt`: what stands before the answer. Only grounding reads it: behind the last <|Assistant|> a phrase or its
  // boxes may have begun.
  explicit ConstraintState(std::shared_ptr<const Constraint> constraint, std::span<const int32_t> prompt = {});

  // The tokens that may come next; end of sentence exactly where the text may end, and after that nothing else.
  // Constraint errors: kInvalidArgument.
  const TokenMask& allowed();
  // False, and nothing changes: the token may not come here.
  bool accept(int32_t id);
  bool may_end();
  bool ended() const { return ended_; }
  // The token that must come, where there is only one.
  std::optional<int32_t> forced();

 private:
  std::shared_ptr<const Constraint> constraint_;
  Constraint::Position position_;
  std::shared_ptr<const TokenMask> mask_;  // of position_, once asked for
  bool ended_ = false;
};

// Compiles definitions for one tokenizer and remembers the latest. Any thread.
class ConstraintCompiler {
 public:
  static constexpr size_t kRemembered = 32;
  static constexpr size_t kMostChoices = 20'000;
  static constexpr size_t kMostChoiceBytes = size_t{1} << 20;

  // `most_memory`: of each constraint.
  ConstraintCompiler(std::shared_ptr<const Tokenizer> tokenizer, int32_t eos,
                     size_t most_memory = Constraint::kMostMemory);

  // kInvalidArgument: the definition; the message says where and why. kUnsupported: grounding with a tokenizer that has
  // not all of the markup's tags.
  std::shared_ptr<const Constraint> compile(const ConstraintSpec& spec);

 private:
  std::shared_ptr<const Constraint> make(const ConstraintSpec& spec);
  std::shared_ptr<const TokenTrie> trie();
  std::unique_ptr<Machine> machine(const ConstraintSpec& spec, const TokenTrie& trie) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  int32_t eos_;
  size_t most_memory_;
  std::mutex mutex_;
  std::shared_ptr<const TokenTrie> trie_;  // made when it is first needed: it takes a while
  std::list<std::pair<ConstraintSpec, std::shared_ptr<const Constraint>>> known_;  // the latest first
};

}  // namespace vl2
