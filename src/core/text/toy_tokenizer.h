// For tests only: a tokenizer.json of 256 bytes, a few merges and added tokens, to be bent as a test needs it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/byte_level.h"
#include "core/text/tokenizer.h"

namespace vl2 {

inline nlohmann::json toy_split(const std::string& regex, const std::string& behavior = "Isolated") {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", behavior}, {"invert", false}};
}

inline nlohmann::json toy_added(int id, const std::string& content, bool special = true, bool normalized = false) {
  return {{"id", id},        {"content", content},       {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", normalized}, {"special", special}};
}

// Ids 0 to 255 are the bytes; merges ("a b", already spelled in the byte-level alphabet) follow from 256.
inline nlohmann::json toy_tokenizer_json(const std::vector<std::string>& merges = {}) {
  nlohmann::json vocab = nlohmann::json::object();
  for (int b = 0; b < 256; ++b) vocab[byte_level_spelling(std::string(1, static_cast<char>(b)))] = b;
  int next = 256;
  for (std::string merged : merges) {
    merged.erase(merged.find(' '), 1);
    if (!vocab.contains(merged)) vocab[merged] = next++;
  }
  return {{"version", "1.0"},
          {"added_tokens", nlohmann::json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {toy_split(" ?[A-Za-z]+|\\s+"),
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline Tokenizer parse_toy(const nlohmann::json& json) { return Tokenizer::parse(json.dump(), "toy.json"); }

}  // namespace vl2
