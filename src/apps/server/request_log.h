// The log: lines of JSON, one for each request and one for each event of the server's life. Pure functions: any thread.
//
// A line is ASCII: whatever a client sent is escaped, so nobody can write a line, or control a terminal, but us.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "apps/server/http_exchange.h"
#include "apps/server/route.h"
#include "core/processor/multimodal_prompt.h"
#include "core/text/tokenizer.h"

namespace vl2::server {

// The status; 499, as nginx has it, where nobody was there any more to be answered.
int status_of(const HttpExchange& exchange);

std::string request_line(const HttpExchange& exchange, const RequestNotes& notes, double seconds);
// {"time", "event", ...fields}
std::string event_line(std::string_view event, const nlohmann::ordered_json& fields);

// What the model was given, as text: each picture as "<image>".
std::string prompt_text(const Tokenizer& tokenizer, const MultimodalPrompt& prompt);

// RFC 3339 in UTC with milliseconds: "2026-01-31T08:09:10.123Z".
std::string format_time(std::chrono::system_clock::time_point time);

}  // namespace vl2::server
