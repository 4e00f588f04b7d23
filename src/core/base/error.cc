#include "core/base/error.h"

#include <string_view>

namespace vl2 {

void check_failed(const char* condition, const char* file, int line, const std::string& detail) {
  const std::string_view path(file);
  const size_t src = path.rfind("src/");
  throw Error(ErrorCode::kInternal,
              fmt::format("{}:{}: check failed: {}{}{}", src == path.npos ? path : path.substr(src), line, condition,
                          detail.empty() ? "" : ": ", detail));
}

}  // namespace vl2
