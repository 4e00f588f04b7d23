// Requests that must be refused, and how.
#pragma once

#include <string>
#include <vector>

namespace vl2::load_test {

struct MalformedRequest {
  std::string name;
  int status;        // the answer there must be
  std::string head;  // empty: a good one of POST /v1/chat/completions
  std::string body;
};

const std::vector<MalformedRequest>& malformed_requests();

}  // namespace vl2::load_test
