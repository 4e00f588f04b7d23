#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "engine/constrain/json_grammar.h"

namespace vl2 {
namespace {

using StateId = GrammarBuilder::StateId;

// All texts of one number of digits before the point whose value is in [low, high], digit by digit: while a digit has
// been that of a bound, the next one must not pass it.
class FixedLength {
 public:
  FixedLength(GrammarBuilder& builder, int whole, int decimals, uint64_t low, uint64_t high, StateId to)
      : builder_(builder), whole_(whole), all_(whole + decimals), to_(to) {
    low_ = fmt::format("{:0{}}", low, all_);
    high_ = fmt::format("{:0{}}", high, all_);
    known_.assign(static_cast<size_t>(all_ + 1) * 8, kNone);
  }

  void add(StateId from) { builder_.epsilon(from, at(0, true, true, false)); }

 private:
  static constexpr StateId kNone = ~StateId{0};

  // After `digits` digits; behind_point: at least one of them stands behind it.
  StateId at(int digits, bool at_low, bool at_high, bool behind_point) {
    const size_t key =
        static_cast<size_t>(digits) * 8 + (at_low ? 4u : 0u) + (at_high ? 2u : 0u) + (behind_point ? 1u : 0u);
    if (known_[key] != kNone) return known_[key];
    const StateId state = builder_.state();
    known_[key] = state;
    if (digits >= whole_) {
      // What is left out is zeros.
      if (!at_low || low_.find_first_not_of('0', static_cast<size_t>(digits)) == low_.npos)
        builder_.epsilon(state, to_);
      if (digits < all_) add_digits(behind_point ? state : builder_.literal(state, "."), digits, at_low, at_high, true);
    } else {
      add_digits(state, digits, at_low, at_high, false);
    }
    return state;
  }

  void add_digits(StateId from, int digits, bool at_low, bool at_high, bool behind_point) {
    const auto i = static_cast<size_t>(digits);
    const char first = at_low ? low_[i] : '0', last = at_high ? high_[i] : '9';
    for (char c = first; c <= last; ++c) {
      const auto byte = static_cast<uint8_t>(c);
      builder_.range(from, byte, byte, at(digits + 1, at_low && c == low_[i], at_high && c == high_[i], behind_point));
    }
  }

  GrammarBuilder& builder_;
  int whole_, all_;
  StateId to_;
  std::string low_, high_;
  std::vector<StateId> known_;
};

void add_magnitudes(GrammarBuilder& builder, StateId from, StateId to, uint64_t low, uint64_t high, int decimals) {
  constexpr int kMostDigits = 19;  // of any int64
  uint64_t unit = 1;
  for (int i = 0; i < decimals; ++i) unit *= 10;
  uint64_t first = 0, next = unit * 10;  // of the numbers with so many digits before the point
  for (int whole = 1; whole + decimals <= kMostDigits && first <= high; ++whole) {
    const uint64_t from_low = std::max(low, first), to_high = std::min(high, next - 1);
    if (from_low <= to_high) FixedLength(builder, whole, decimals, from_low, to_high, to).add(from);
    first = next;
    next = whole + decimals + 1 < kMostDigits ? next * 10 : UINT64_MAX;
  }
}

}  // namespace

void add_decimals(GrammarBuilder& builder, StateId from, StateId to, int64_t low, int64_t high, int decimals) {
  VL2_CHECK(decimals >= 0 && decimals <= 9, "{} decimals", decimals);
  if (low > high) return;
  const auto magnitude = [](int64_t v) { return v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v); };
  if (high >= 0) add_magnitudes(builder, from, to, magnitude(std::max<int64_t>(low, 0)), magnitude(high), decimals);
  if (low < 0)
    add_magnitudes(builder, builder.literal(from, "-"), to, magnitude(std::min<int64_t>(high, -1)), magnitude(low),
                   decimals);
}

}  // namespace vl2
