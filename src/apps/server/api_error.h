// What a client is told when something goes wrong, in the shape of its API. Clients retry 408, 409, 429 and 5xx by
// themselves, so what would fail again the same way is another 4xx.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/base/error.h"

namespace vl2::server {

// An Error that knows its HTTP status. Empty `code` and `param` are null in the reply.
class ApiError : public Error {
 public:
  ApiError(int status, const std::string& message, std::string code = "", std::string param = "");

  int status() const { return status_; }
  const char* type() const;  // by the status
  const std::string& code_name() const { return code_name_; }
  const std::string& param() const { return param_; }
  int retry_after() const;  // seconds; 0: not worth trying again
  void set_retry_after(int seconds) { retry_after_ = seconds; }

 private:
  int status_;
  int retry_after_ = -1;  // by the status
  std::string code_name_, param_;
};

// The one place where errors of the library become statuses. Those a request brings about itself are 4xx only where
// the error says so (kInvalidArgument, kUnsupported); a damaged picture is made a 400 where it is read.
ApiError to_api_error(const Error& error);

// 400, the message kept: for errors of reading what a client sent.
ApiError bad_request(const Error& error, const std::string& code = "", const std::string& param = "");

// Whose clients read it.
enum class ErrorStyle { kOpenAi, kAnthropic, kOllama };

// {"error": {"message", "type", "param", "code"}}, or what the others expect in its place.
nlohmann::ordered_json error_json(const ApiError& error, ErrorStyle style = ErrorStyle::kOpenAi);

// JSON text that is valid UTF-8 whatever the strings hold.
std::string dump_json(const nlohmann::ordered_json& value);

}  // namespace vl2::server
