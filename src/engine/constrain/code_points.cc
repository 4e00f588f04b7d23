#include "engine/constrain/code_points.h"

#include <algorithm>
#include <array>
#include <string>

#include "core/base/error.h"
#include "core/text/utf8.h"

namespace vl2 {
namespace {

using StateId = GrammarBuilder::StateId;

constexpr char32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;

// One run of characters whose bytes vary independently of each other.
void add_block(GrammarBuilder& builder, StateId from, StateId to, char32_t low, char32_t high) {
  std::string first, last;
  append_utf8(low, first);
  append_utf8(high, last);
  VL2_CHECK(first.size() == last.size());
  for (size_t i = 0; i < first.size(); ++i) {
    const StateId next = i + 1 == first.size() ? to : builder.state();
    builder.range(from, static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i]), next);
    from = next;
  }
}

// Cuts a run of characters of one length where a lower byte would not go through all its values.
void add_run(GrammarBuilder& builder, StateId from, StateId to, char32_t low, char32_t high) {
  for (int bits = 6; bits <= 18; bits += 6) {
    const char32_t mask = (char32_t{1} << bits) - 1;
    if ((low & ~mask) == (high & ~mask)) break;
    if ((low & mask) != 0) {
      add_run(builder, from, to, low, low | mask);
      return add_run(builder, from, to, (low | mask) + 1, high);
    }
    if ((high & mask) != mask) {
      add_run(builder, from, to, low, (high & ~mask) - 1);
      return add_run(builder, from, to, high & ~mask, high);
    }
  }
  add_block(builder, from, to, low, high);
}

void add_utf8(GrammarBuilder& builder, StateId from, StateId to, CodePoints range) {
  constexpr std::array<char32_t, 4> kLastOfLength = {0x7f, 0x7ff, 0xffff, kLastCodePoint};
  char32_t low = range.low;
  for (const char32_t last : kLastOfLength) {
    if (low > range.high) break;
    if (low > last) continue;
    const char32_t high = std::min(last, range.high);
    if (last == 0x7f) {
      builder.range(from, static_cast<uint8_t>(low), static_cast<uint8_t>(high), to);
    } else {
      add_run(builder, from, to, low, high);
    }
    low = high + 1;
  }
}

std::string json_escape(char32_t c) {
  constexpr std::string_view kLetters = "\"\\\b\f\n\r\t", kNames = "\"\\bfnrt";
  const size_t at = kLetters.find(static_cast<char>(c));
  return at != kLetters.npos ? fmt::format("\\{}", kNames[at]) : fmt::format("\\u{:04x}", static_cast<unsigned>(c));
}

}  // namespace

CodePointSet normalised(CodePointSet set) {
  std::sort(set.begin(), set.end(), [](const CodePoints& a, const CodePoints& b) { return a.low < b.low; });
  CodePointSet result;
  const auto add = [&](char32_t low, char32_t high) {
    if (low > high) return;
    if (!result.empty() && low <= result.back().high + 1) {
      result.back().high = std::max(result.back().high, high);
    } else {
      result.push_back({low, high});
    }
  };
  for (const CodePoints& r : set) {
    add(r.low, std::min<char32_t>(r.high, kFirstSurrogate - 1));
    add(std::max<char32_t>(r.low, kLastSurrogate + 1), r.high);
  }
  return result;
}

CodePointSet complement(const CodePointSet& set) {
  CodePointSet rest;
  char32_t next = 0;
  for (const CodePoints& r : normalised(set)) {
    if (r.low > next) rest.push_back({next, r.low - 1});
    next = r.high + 1;
  }
  if (next <= kLastCodePoint) rest.push_back({next, kLastCodePoint});
  return normalised(std::move(rest));
}

void add_code_points(GrammarBuilder& builder, StateId from, StateId to, const CodePointSet& set, Spelling spelling) {
  CodePointSet plain = normalised(set);
  if (spelling == Spelling::kJson) {
    const CodePointSet escaped = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    std::vector<std::string> escapes;
    for (const CodePoints& r : plain)
      for (char32_t c = r.low; c <= std::min<char32_t>(r.high, '\\'); ++c)
        if (c <= 0x1f || c == '"' || c == '\\') escapes.push_back(json_escape(c));
    builder.one_of(from, std::move(escapes), to);
    // What is left: not in the complement and not escaped.
    CodePointSet out = complement(plain);
    out.insert(out.end(), escaped.begin(), escaped.end());
    plain = complement(out);
  }
  for (const CodePoints& r : plain) add_utf8(builder, from, to, r);
}

}  // namespace vl2
