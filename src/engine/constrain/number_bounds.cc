#include "engine/constrain/number_bounds.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "core/base/error.h"

namespace vl2 {
namespace {

constexpr int64_t kMostInteger = 999'999'999'999'999'999;  // without a bound
constexpr int kDigits = 15;                                // that doubles tell apart
constexpr int kUsualDecimals = 6;
constexpr int kMostDecimals = 9;

struct Interval {
  int64_t low, high;
  bool has_low = false, has_high = false;

  void bound(const FlatSchema::Bound& b, int64_t value) {
    if (b.lower) low = has_low ? std::max(low, value) : value;
    if (!b.lower) high = has_high ? std::min(high, value) : value;
    (b.lower ? has_low : has_high) = true;
  }
};

// The integer a bound comes to; empty: beyond all int64 on the side where that leaves nothing.
std::optional<int64_t> integer_bound(const FlatSchema::Bound& b) {
  const auto& value = *b.value;
  const bool beyond = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (value.is_number_integer() && !beyond) {
    const auto n = value.get<int64_t>();
    if (!b.exclusive) return n;
    if (n == (b.lower ? INT64_MAX : INT64_MIN)) return std::nullopt;
    return b.lower ? n + 1 : n - 1;
  }
  const auto x = value.get<double>();
  constexpr double kBeyond = 9.2e18;
  if (x > kBeyond) return b.lower ? std::nullopt : std::optional(INT64_MAX);
  if (x < -kBeyond) return b.lower ? std::optional(INT64_MIN) : std::nullopt;
  const double rounded = b.lower ? std::ceil(x) : std::floor(x);
  const auto n = static_cast<int64_t>(rounded);
  return rounded == x && b.exclusive ? (b.lower ? n + 1 : n - 1) : n;
}

// digits * 10^exponent
struct Decimal {
  int64_t digits = 0;
  int exponent = 0;
};

// The shortest decimal number that is this double, as its author will have written it.
Decimal decimal_of(double x) {
  std::string shortest = fmt::format("{}", x);
  Decimal d;
  const size_t e = shortest.find('e');
  if (e != shortest.npos) {
    d.exponent = std::atoi(shortest.c_str() + e + 1);
    shortest.resize(e);
  }
  bool behind = false;
  for (const char c : shortest) {
    if (c == '.') behind = true;
    if (c < '0' || c > '9') continue;
    d.digits = d.digits * 10 + (c - '0');
    if (behind) --d.exponent;
  }
  for (; d.digits != 0 && d.digits % 10 == 0; d.digits /= 10) ++d.exponent;
  if (d.digits == 0) d.exponent = 0;
  if (x < 0) d.digits = -d.digits;
  return d;
}

int num_digits(int64_t v) { return static_cast<int>(std::to_string(std::llabs(v)).size()); }

}  // namespace

void add_bounded_number(GrammarBuilder& builder, JsonGrammar& json, GrammarBuilder::StateId from,
                        GrammarBuilder::StateId to, const std::vector<FlatSchema::Bound>& bounds, bool integer) {
  if (integer) {
    Interval i = {-kMostInteger, kMostInteger};
    for (const FlatSchema::Bound& b : bounds) {
      const std::optional<int64_t> value = integer_bound(b);
      if (!value) return;
      i.bound(b, *value);
    }
    if (!i.has_high && i.low > kMostInteger) i.high = INT64_MAX;
    if (!i.has_low && i.high < -kMostInteger) i.low = INT64_MIN;
    return add_decimals(builder, from, to, i.low, i.high, 0);
  }
  if (bounds.empty()) return json.number(from, to);
  int before = 1, behind = 0;  // digits of the bounds on both sides of the point
  for (const FlatSchema::Bound& b : bounds) {
    const Decimal d = decimal_of(b.value->get<double>());
    before = std::max(before, num_digits(d.digits) + d.exponent);
    behind = std::max(behind, -d.exponent);
  }
  const int decimals = std::max(behind, std::min(kUsualDecimals, kDigits - before));
  if (decimals > kMostDecimals || before + decimals > kDigits)
    reject_schema(
        bounds.front().path,
        fmt::format("and the other bounds have {} digits before and {} behind the point; bounds of numbers are "
                    "exact up to {} digits in all, {} of them behind the point; round them, or use integers",
                    before, behind, kDigits, kMostDecimals));
  int64_t most = 1;
  for (int i = 0; i < kDigits; ++i) most *= 10;
  Interval scaled = {1 - most, most - 1};
  for (const FlatSchema::Bound& b : bounds) {
    const Decimal d = decimal_of(b.value->get<double>());
    int64_t value = d.digits;
    for (int i = 0; i < d.exponent + decimals; ++i) value *= 10;
    if (b.exclusive) value += b.lower ? 1 : -1;
    scaled.bound(b, value);
  }
  add_decimals(builder, from, to, scaled.low, scaled.high, decimals);
  if (scaled.has_low && scaled.has_high) return;
  // On the open side also large numbers, without decimals.
  int64_t unit = 1;
  for (int i = 0; i < decimals; ++i) unit *= 10;
  if (scaled.has_low) {
    const int64_t above = scaled.low > 0 ? (scaled.low + unit - 1) / unit : scaled.low / unit;
    add_decimals(builder, from, to, above, most - 1, 0);
  } else {
    const int64_t below = scaled.high < 0 ? (scaled.high - unit + 1) / unit : scaled.high / unit;
    add_decimals(builder, from, to, 1 - most, below, 0);
  }
}

}  // namespace vl2
