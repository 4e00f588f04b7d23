// A byte-level BPE tokenizer as tokenizer.json describes it: text to ids and back (spec/text.md 1 and 2).
//
// Owns its tables; moves, does not copy. Const functions may be called from any thread at a time; add_special_token()
// belongs before the tokenizer is shared.
//
// Understood: model BPE (no byte fallback, dropout or affixes), merges as "a b" or ["a", "b"], the pre_tokenizers of
// pre_tokenizer.h, added tokens, no normalizer, the ByteLevel decoder. post_processor, truncation and padding are not
// looked at: callers place bos and eos themselves. Anything else is refused, because it would change ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vl2 {

class Tokenizer {
 public:
  // tokenizer.json, or the folder it lies in. kNotFound, kIo; the rest as parse().
  static Tokenizer load(const std::filesystem::path& path);
  // `where` names the file in errors. kCorrupt: not JSON, wrong types, ids that are out of range or taken twice, merges
  // of unknown tokens, no regular expression. kUnsupported: a well-formed file that needs something not listed above.
  static Tokenizer parse(std::string_view json, const std::string& where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Bytes that are not UTF-8 count as U+FFFD, as in the reference. Added tokens are recognised wherever they stand;
  // with `allowed`, only those ids are, and the text of all others is plain text (what outsiders may send).
  // No bos or eos. kInvalidArgument: no token for a byte, or a text that no machine should be asked to split.
  std::vector<int32_t> encode(std::string_view text) const;
  std::vector<int32_t> encode(std::string_view text, std::span<const int32_t> allowed) const;

  // Ids without a token are skipped, as in the reference. Bytes that are not UTF-8 become U+FFFD. skip_special drops
  // the added tokens flagged special.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // By the spelling in the file: "<image>", "Ġthe".
  std::optional<int32_t> token_id(std::string_view spelling) const;
  // The bytes a token stands for, not always whole characters; empty for an id without a token.
  std::string_view token_text(int32_t id) const;
  bool has(int32_t id) const;
  bool is_added(int32_t id) const;
  bool is_special(int32_t id) const;
  int32_t vocab_size() const;  // tokens there are, the added ones included
  int32_t highest_id() const;  // ids may have holes

  // The id of an added, special token with this text; made (highest_id() + 1) or flagged where it is not one yet.
  int32_t add_special_token(std::string_view text);

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::vector<int32_t> encode_with(std::string_view text, std::optional<std::span<const int32_t>> allowed) const;

  std::unique_ptr<Impl> impl_;
  friend class TokenizerJsonReader;
};

}  // namespace vl2
