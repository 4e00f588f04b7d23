// What a Tokenizer holds. Private to tokenizer.cc and tokenizer_json.cc.
#pragma once

#include <map>
#include <string_view>

#include "core/text/added_tokens.h"
#include "core/text/bpe.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/token_table.h"
#include "core/text/tokenizer.h"

namespace vl2 {

struct Tokenizer::Impl {
  TokenTable tokens;
  std::map<int32_t, AddedToken> added;  // by id

  AddedTokenTrie trie;             // searched first
  AddedTokenTrie trie_normalized;  // searched in what is left
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  bool ignore_merges = false;  // a piece that is a token as a whole stays whole

  // A new token, or one of the vocabulary that from now on is found as it is written.
  void add(std::string_view content, const AddedToken& token) {
    // Emitted literally whatever its characters; the reference would read a token like "ö" as the byte 0xF6.
    if (tokens.find(content) == TokenTable::kNone) tokens.insert(content, content, token.id);
    added[token.id] = token;
    (token.normalized ? trie_normalized : trie).insert(content, token);
  }
};

}  // namespace vl2
