// The files of the web page, which lie in page/ and are part of the program. Immutable: any thread.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace vl2::server {

struct PageAsset {
  std::string_view name;   // "main.js": what stands behind /page/ in its URL
  std::string_view type;   // its Content-Type
  std::string_view etag;   // of its bytes, with the quotes
  std::string_view bytes;  // the file
};

std::span<const PageAsset> page_assets();
const PageAsset* find_page_asset(std::string_view name);  // null: there is none

}  // namespace vl2::server
