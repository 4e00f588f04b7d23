#include "engine/constrain/formats.h"

#include <utility>
#include <vector>

namespace vl2 {
namespace {

const std::string kDate =
    R"((?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8])))"
    R"(|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29))";
const std::string kTime = R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))";
const std::string kByte = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
const std::string kLabel = R"([A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)";
const std::string kHost = kLabel + R"((?:\.)" + kLabel + "){0,7}";

const std::vector<std::pair<std::string_view, std::string>>& formats() {
  static const std::vector<std::pair<std::string_view, std::string>> all = {
      {"date", kDate},
      {"date-time", kDate + "T" + kTime},
      {"time", kTime},
      {"duration", R"(P(?:\d{1,9}W|(?:\d{1,9}D|\d{1,9}M(?:\d{1,9}D)?|\d{1,9}Y(?:\d{1,9}M(?:\d{1,9}D)?)?))"
                   R"((?:T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S))?)"
                   R"(|T(?:\d{1,9}H(?:\d{1,9}M(?:\d{1,9}S)?)?|\d{1,9}M(?:\d{1,9}S)?|\d{1,9}S)))"},
      {"uuid", "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"},
      {"email", R"([A-Za-z0-9_+-]{1,32}(?:\.[A-Za-z0-9_+-]{1,31})?@)" + kLabel + R"((?:\.)" + kLabel + "){1,4}"},
      {"hostname", kHost},
      {"ipv4", kByte + R"((?:\.)" + kByte + "){3}"},
      {"uri", R"([a-z][a-z0-9+.-]{0,15}://)" + kHost +
                  R"((?::[1-9]\d{0,3})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?)"
                  R"((?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?)"},
  };
  return all;
}

}  // namespace

std::optional<std::string> format_pattern(std::string_view format) {
  for (const auto& [name, pattern] : formats())
    if (name == format) return pattern;
  return std::nullopt;
}

std::string known_formats() {
  std::string names;
  for (const auto& [name, pattern] : formats()) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

}  // namespace vl2
