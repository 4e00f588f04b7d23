# Writes a C++ file with the bytes of other files: cmake -DOUTPUT=x.cc -DFILES=name=path;... -P embed_files.cmake
#
# The file defines vl2::server::page_assets() of apps/server/page_assets.h. Names are what stands behind /page/ in a URL.
set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")
set(type_png "image/png")

set(arrays "")
set(rows "")
set(count 0)
foreach(item IN LISTS FILES)
  string(REGEX MATCH "^([^=]+)=(.*)$" matched "${item}")
  set(name "${CMAKE_MATCH_1}")
  set(path "${CMAKE_MATCH_2}")
  get_filename_component(extension "${path}" LAST_EXT)
  string(SUBSTRING "${extension}" 1 -1 extension)
  if(NOT DEFINED type_${extension})
    message(FATAL_ERROR "${path}: no Content-Type is known for .${extension}; add it to embed_files.cmake")
  endif()
  file(SHA256 "${path}" digest)
  string(SUBSTRING "${digest}" 0 24 digest)
  file(READ "${path}" bytes HEX)
  if(bytes STREQUAL "")
    message(FATAL_ERROR "${path}: an empty file")
  endif()
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char kBytes${count}[] = {${bytes}};\n")
  string(APPEND rows "    PageAsset{\"${name}\", \"${type_${extension}}\", \"\\\"${digest}\\\"\", text(kBytes${count})},\n")
  math(EXPR count "${count} + 1")
endforeach()

file(WRITE "${OUTPUT}" "// Made by cmake/embed_files.cmake.
#include \"apps/server/page_assets.h\"

namespace vl2::server {
namespace {

${arrays}
template <size_t N>
std::string_view text(const unsigned char (&bytes)[N]) {
  return {reinterpret_cast<const char*>(bytes), N};
}

}  // namespace

std::span<const PageAsset> page_assets() {
  static const PageAsset kAssets[] = {
${rows}  };
  return kAssets;
}

}  // namespace vl2::server
")
