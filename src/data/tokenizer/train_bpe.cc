#include "data/tokenizer/train_bpe.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "core/base/error.h"
#include "core/text/byte_level.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/utf8.h"

namespace vl2::data {
namespace {

using Json = nlohmann::ordered_json;

// How the releases' tokenizer cuts a text: numbers, runs of Chinese and Japanese, words with what stands before them.
constexpr const char* kWords =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kSplits[] = {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+", kWords};

constexpr int64_t kFirstByte = 3;  // behind the leading special tokens

// What starts a token of several letters: a space before a word, or a byte outside of ASCII. Words without a space in
// front, as answers that read a picture are, stay letters.
bool may_begin(const std::string& token) { return token[0] == ' ' || static_cast<unsigned char>(token[0]) >= 0x80; }
bool is_punctuation(char c) { return std::ispunct(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool may_merge(const std::string& left, const std::string& right) {
  if (is_digit(left[0]) || is_digit(right[0])) return false;
  return may_begin(left) || (is_punctuation(left[0]) && is_punctuation(right[0]));
}

// Ids while learning: a byte is itself, merge m is 256 + m.
struct Piece {
  std::vector<int32_t> ids;
  int64_t count = 0;
};

using Pair = std::pair<int32_t, int32_t>;

void merge_in(Piece& piece, const Pair& pair, int32_t merged) {
  size_t out = 0;
  for (size_t i = 0; i < piece.ids.size(); ++out) {
    const bool here = i + 1 < piece.ids.size() && piece.ids[i] == pair.first && piece.ids[i + 1] == pair.second;
    piece.ids[out] = here ? merged : piece.ids[i];
    i += here ? 2 : 1;
  }
  piece.ids.resize(out);
}

// Byte ids as the releases have them: printable characters first, in the order of their spelling.
std::vector<uint8_t> bytes_in_order() {
  std::vector<uint8_t> bytes(256);
  for (size_t i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
  std::sort(bytes.begin(), bytes.end(),
            [](uint8_t a, uint8_t b) { return byte_level_character(a) < byte_level_character(b); });
  return bytes;
}

Json special_token(const std::string& content) {
  return {{"content", content}, {"lstrip", false}, {"normalized", false}, {"rstrip", false}, {"single_word", false}};
}

}  // namespace

const std::vector<std::string>& leading_special_tokens() {
  static const std::vector<std::string> tokens = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
  return tokens;
}

const std::vector<std::string>& trailing_special_tokens() {
  static const std::vector<std::string> tokens = {"<image>",  "<|ref|>",       "<|/ref|>", "<|det|>",
                                                  "<|/det|>", "<|grounding|>", "<|User|>", "<|Assistant|>"};
  return tokens;
}

struct BpeTrainer::Impl {
  PreTokenizer cutter;
  PreTokenizer::Scratch scratch;
  std::unordered_map<std::string, int64_t> counts;
};

BpeTrainer::BpeTrainer() : impl_(std::make_unique<Impl>()) {
  for (const char* pattern : kSplits) {
    SplitStep step;
    step.regex.emplace_back(pattern, "the tokenizer's splits");
    impl_->cutter.add(std::move(step));
  }
}

BpeTrainer::~BpeTrainer() = default;

void BpeTrainer::add(std::string_view text) {
  if (!is_valid_utf8(text)) fail(ErrorCode::kInvalidArgument, "a text to learn tokens from is not UTF-8");
  for (const std::string_view piece : impl_->cutter.split(text, impl_->scratch)) ++impl_->counts[std::string(piece)];
}

std::string BpeTrainer::tokenizer_json(const BpeOptions& options) const {
  const auto special = static_cast<int64_t>(leading_special_tokens().size() + trailing_special_tokens().size());
  const int64_t merges_wanted = options.vocab_size - 256 - special;
  if (merges_wanted < 0)
    fail(ErrorCode::kInvalidArgument, "a vocabulary of {} has no room for 256 bytes and {} special tokens",
         options.vocab_size, special);

  // Sorted, so that nothing depends on the order of a hash table.
  std::vector<Piece> pieces;
  for (const auto& [text, count] : std::map<std::string, int64_t>(impl_->counts.begin(), impl_->counts.end())) {
    Piece piece{{}, count};
    for (const char c : text) piece.ids.push_back(static_cast<uint8_t>(c));
    pieces.push_back(std::move(piece));
  }
  std::vector<Pair> merges;
  std::vector<std::string> tokens(256);  // bytes of every id
  for (size_t i = 0; i < 256; ++i) tokens[i] = std::string(1, static_cast<char>(i));
  while (static_cast<int64_t>(merges.size()) < merges_wanted) {
    std::map<Pair, int64_t> pairs;
    for (const Piece& piece : pieces)
      for (size_t i = 0; i + 1 < piece.ids.size(); ++i)
        if (may_merge(tokens[static_cast<size_t>(piece.ids[i])], tokens[static_cast<size_t>(piece.ids[i + 1])]))
          pairs[{piece.ids[i], piece.ids[i + 1]}] += piece.count;
    const Pair* best = nullptr;
    int64_t most = options.least_count - 1;
    for (const auto& [pair, count] : pairs) {
      const size_t length =
          tokens[static_cast<size_t>(pair.first)].size() + tokens[static_cast<size_t>(pair.second)].size();
      if (count > most && static_cast<int64_t>(length) <= options.longest) {
        most = count;
        best = &pair;
      }
    }
    if (best == nullptr) break;
    const Pair pair = *best;
    const auto merged = static_cast<int32_t>(tokens.size());
    tokens.push_back(tokens[static_cast<size_t>(pair.first)] + tokens[static_cast<size_t>(pair.second)]);
    merges.push_back(pair);
    for (Piece& piece : pieces) merge_in(piece, pair, merged);
  }

  Json vocab = Json::object(), added = Json::array(), merge_list = Json::array();
  const auto add_special = [&](const std::string& content, int64_t id) {
    Json token = {{"id", id}};
    token.update(special_token(content));
    token["special"] = true;
    added.push_back(token);
  };
  int64_t id = 0;
  for (const std::string& token : leading_special_tokens()) {
    vocab[token] = id;
    add_special(token, id++);
  }
  VL2_CHECK(id == kFirstByte);
  for (const uint8_t byte : bytes_in_order()) vocab[byte_level_spelling(tokens[byte])] = id++;
  for (size_t m = 0; m < merges.size(); ++m) {
    const auto spelling = [&](int32_t part) { return byte_level_spelling(tokens[static_cast<size_t>(part)]); };
    vocab[byte_level_spelling(tokens[256 + m])] = id++;
    merge_list.push_back(spelling(merges[m].first) + " " + spelling(merges[m].second));
  }
  for (const std::string& token : trailing_special_tokens()) add_special(token, id++);

  Json splits = Json::array();
  for (const char* pattern : kSplits)
    splits.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  splits.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  const Json decoder = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}};
  Json post = decoder;
  post["trim_offsets"] = false;
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array()}}},
                     {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", splits}}},
                     {"post_processor", post},
                     {"decoder", decoder},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"vocab", vocab},
                       {"merges", merge_list}}}};
  return file.dump(1) + "\n";
}

std::string tokenizer_config_json(int64_t max_length) {
  const auto& leading = leading_special_tokens();
  Json file = {{"add_bos_token", true},
               {"add_eos_token", false},
               {"additional_special_tokens", trailing_special_tokens()},
               {"bos_token", leading[0]},
               {"clean_up_tokenization_spaces", false},
               {"eos_token", leading[1]},
               {"model_max_length", max_length},
               {"pad_token", leading[2]},
               {"tokenizer_class", "LlamaTokenizerFast"},
               {"unk_token", nullptr},
               {"use_default_system_prompt", false}};
  return file.dump(2) + "\n";
}

std::string special_tokens_map_json() {
  const auto& leading = leading_special_tokens();
  Json additional = Json::array();
  for (const std::string& token : trailing_special_tokens()) additional.push_back(special_token(token));
  const Json file = {{"additional_special_tokens", additional},
                     {"bos_token", special_token(leading[0])},
                     {"eos_token", special_token(leading[1])},
                     {"pad_token", special_token(leading[2])}};
  return file.dump(2) + "\n";
}

}  // namespace vl2::data
