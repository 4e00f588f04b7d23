// GET /: where the API is. The place of the page.
#include <string_view>

#include "apps/server/route.h"

namespace vl2::server {

void answer_root(RouteCall& call) {
  constexpr std::string_view kPage =
      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>vl2</title>"
      "<p>This is <b>vl2 serve</b>. OpenAI's API is at <code>/v1</code>; "
      "<a href=\"/health\">/health</a> says whether the model is loaded.</p></html>\n";
  call.http.reply(200, "text/html; charset=utf-8", kPage);
}

}  // namespace vl2::server
