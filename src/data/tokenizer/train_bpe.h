// Makes a tokenizer for a small model: byte-level BPE learnt from texts, cut as the releases' tokenizer cuts them, with
// the special tokens of the chat template and of grounding. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vl2::data {

struct BpeOptions {
  int64_t vocab_size = 512;  // of bytes, merges and special tokens together
  int64_t least_count = 2;   // a pair seen less often is never merged
  int64_t longest = 16;      // bytes of a token, at most
};

// Counts the pieces of texts: the texts may come one by one, and none is kept.
class BpeTrainer {
 public:
  BpeTrainer();
  ~BpeTrainer();
  BpeTrainer(const BpeTrainer&) = delete;
  BpeTrainer& operator=(const BpeTrainer&) = delete;

  // Valid UTF-8, without markup: special tokens are cut out by the caller or counted as text. kInvalidArgument.
  void add(std::string_view text);
  // tokenizer.json's text. Digits are tokens of their own, so that coordinates are read digit by digit, and letters are
  // merged behind a space only, so that a picture's words are read letter by letter. Of pairs that
  // are equally frequent the one with the lower ids is merged first: the same texts give the same file.
  // kInvalidArgument: a vocabulary with no room for the 256 bytes and the special tokens.
  std::string tokenizer_json(const BpeOptions& options) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The special tokens in the order of their ids: three in front of the bytes, the others behind the last merge.
const std::vector<std::string>& leading_special_tokens();
const std::vector<std::string>& trailing_special_tokens();

// tokenizer_config.json and special_tokens_map.json that go with it.
std::string tokenizer_config_json(int64_t max_length);
std::string special_tokens_map_json();

}  // namespace vl2::data
