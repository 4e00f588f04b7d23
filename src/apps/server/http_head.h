// The head of a request, read strictly: what two servers could understand differently is refused, because one of them
// may be a proxy that decided something on its own reading. Pure functions: any thread.
#pragma once

#include <string>
#include <string_view>

#include "apps/server/http_message.h"

namespace vl2::server {

// `text` ends with the empty line. ApiError: 400 malformed, ambiguous length (two, or one beside chunks), 411 a POST
// without a length, 413 a length beyond the limit, 414, 415 a compressed body, 417, 431, 501 another transfer coding,
// 505.
HttpHead parse_http_head(std::string_view text, const HttpLimits& limits);

// A size line of a chunked body without its CRLF; extensions are ignored, but may hold no control characters: a bare LF
// among them is where another reader's next line begins. ApiError 400.
size_t parse_chunk_size(std::string_view line);
// A trailer, not empty, without its CRLF: formed as a header is. ApiError 400.
void check_trailer(std::string_view line);

// %41 to A. ApiError 400: a broken escape, NUL, or what is not UTF-8 afterwards.
std::string percent_decode(std::string_view text);

bool equal_ignoring_case(std::string_view a, std::string_view b);
std::string_view trim(std::string_view text);  // spaces and tabs

const char* reason_phrase(int status);

}  // namespace vl2::server
