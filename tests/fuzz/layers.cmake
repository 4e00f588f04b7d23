# The layers that are fuzzed, for clang: it knows no `#pragma GCC target`, so there are no kernels, and what runs a model
# is left out. told_engine.cc stands in for it.

# vl2_fuzzed(NAME [FOLDERS ...] [FILES ...] [LEAVE_OUT ...] DEPS ...): a library of all sources of the folders but some,
# and of single files.
function(vl2_fuzzed NAME)
  cmake_parse_arguments(ARG "" "" "FOLDERS;FILES;LEAVE_OUT;DEPS" ${ARGN})
  set(sources ${ARG_FILES})
  list(TRANSFORM sources PREPEND ${CMAKE_SOURCE_DIR}/src/)
  foreach(folder ${ARG_FOLDERS})
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${folder}/*.cc)
    list(FILTER found EXCLUDE REGEX "_test\\.cc$")
    list(APPEND sources ${found})
  endforeach()
  foreach(file ${ARG_LEAVE_OUT})
    list(REMOVE_ITEM sources ${CMAKE_SOURCE_DIR}/src/${file})
  endforeach()
  add_library(${NAME} STATIC ${sources})
  target_link_libraries(${NAME} PUBLIC ${ARG_DEPS} PRIVATE vl2_flags)
  target_include_directories(${NAME} PUBLIC ${CMAKE_SOURCE_DIR}/src)
endfunction()

vl2_fuzzed(vl2_text FOLDERS core/base core/text
  DEPS Threads::Threads fmt::fmt OpenSSL::Crypto simdjson::simdjson nlohmann_json::nlohmann_json PkgConfig::PCRE2)
vl2_fuzzed(vl2_constrain FOLDERS engine/constrain DEPS vl2_text)
# Of the server, by itself: HTTP, and the parts replies are made of.
set(http api_error connection http_exchange http_head)
list(TRANSFORM http REPLACE "(.+)" "apps/server/\\1.cc")
vl2_fuzzed(vl2_http FILES ${http} DEPS vl2_text)
vl2_fuzzed(vl2_reply FILES apps/server/api_reply.cc engine/runtime/stop_strings.cc DEPS vl2_http vl2_constrain)
vl2_fuzzed(vl2_processor FOLDERS core/image core/model_spec
  FILES core/processor/conversation.cc core/processor/processor.cc core/processor/processor_config.cc
        core/quant/panel_format.cc
  DEPS vl2_text JPEG::JPEG PNG::PNG GIF::GIF PkgConfig::WEBP PkgConfig::FREETYPE PkgConfig::HARFBUZZ)
vl2_fuzzed(vl2_runtime
  FILES engine/model/visual_sequence.cc engine/ops/op_work.cc engine/ops/ops.cc engine/ops/plain_parts.cc
        engine/ops/tensor.cc engine/ops/transfer.cc engine/runtime/channels.cc engine/runtime/drafter.cc
        engine/runtime/logit_rows.cc engine/runtime/loop_detector.cc engine/runtime/prefix_keys.cc
        engine/runtime/prompt_lookup.cc engine/runtime/request.cc engine/runtime/request_check.cc
        engine/runtime/sampler.cc engine/runtime/sequence.cc engine/runtime/token_stream.cc
  DEPS vl2_processor vl2_reply)
vl2_fuzzed(vl2_server FOLDERS apps/server LEAVE_OUT ${http} apps/server/api_reply.cc DEPS vl2_runtime CURL::libcurl)
# What it makes three times for three kinds of processor is three times the same here.
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/engine/runtime/logit_rows.cc PROPERTIES
  COMPILE_OPTIONS -Wno-unknown-pragmas)
include(page_assets)
vl2_page_assets(vl2_server)
target_compile_definitions(vl2_server PRIVATE VL2_VERSION="${PROJECT_VERSION}")
# Most of what these files have to read is the header of JSON.
target_precompile_headers(vl2_server PRIVATE <nlohmann/json.hpp> <fmt/format.h> <chrono> <functional> <map> <memory>
  <optional> <span> <string> <string_view> <utility> <vector>)
