#include "apps/server/api_error.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace vl2::server {
namespace {

ErrorCode library_code(int status) {
  return status == 404 ? ErrorCode::kNotFound : status >= 500 ? ErrorCode::kInternal : ErrorCode::kInvalidArgument;
}

nlohmann::ordered_json text_or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(text);
}

const char* anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError::ApiError(int status, const std::string& message, std::string code, std::string param)
    : Error(library_code(status), message), status_(status), code_name_(std::move(code)), param_(std::move(param)) {}

const char* ApiError::type() const {
  if (status_ == 429) return "rate_limit_error";
  if (status_ == 503) return "unavailable_error";
  return status_ >= 500 ? "server_error" : "invalid_request_error";
}

int ApiError::retry_after() const {
  if (retry_after_ >= 0) return retry_after_;
  return status_ == 429 || status_ == 503 ? 1 : 0;
}

ApiError to_api_error(const Error& error) {
  if (const auto* api = dynamic_cast<const ApiError*>(&error)) return *api;
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
      return {400, error.what()};
    case ErrorCode::kUnsupported:
      return {400, error.what(), "unsupported_value"};
    case ErrorCode::kNotFound:
      return {404, error.what()};
    case ErrorCode::kOutOfMemory:
      return {503, error.what(), "out_of_memory"};
    case ErrorCode::kCancelled:
      return {503, error.what(), "shutting_down"};
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      break;
  }
  return {500, error.what()};
}

ApiError bad_request(const Error& error, const std::string& code, const std::string& param) {
  return {400, error.what(), code, param};
}

nlohmann::ordered_json error_json(const ApiError& error, ErrorStyle style) {
  if (style == ErrorStyle::kOllama) return {{"error", error.what()}};
  nlohmann::ordered_json inner;
  if (style == ErrorStyle::kAnthropic) {
    inner["type"] = anthropic_type(error.status());
    inner["message"] = error.what();
    return {{"type", "error"}, {"error", std::move(inner)}};
  }
  inner["message"] = error.what();
  inner["type"] = error.type();
  inner["param"] = text_or_null(error.param());
  inner["code"] = text_or_null(error.code_name());
  return {{"error", std::move(inner)}};
}

std::string dump_json(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace vl2::server
