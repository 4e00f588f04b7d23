# One folder = one layer = one library target, its unit tests beside it.

# Looked up anew by every configure: a build folder must survive ccache being installed or removed.
if(NOT DEFINED CACHE{CMAKE_CXX_COMPILER_LAUNCHER})
  find_program(vl2_ccache ccache NO_CACHE)
  if(vl2_ccache)
    # With a base directory, another clone of the same code finds what this one compiled.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=true
      ${vl2_ccache})
  endif()
endif()

# Flags every target of ours is compiled with. No -m flag here: the build stays at the
# baseline ISA, and kernels raise it in target regions of their own (see docs/decisions).
add_library(vl2_flags INTERFACE)
target_include_directories(vl2_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(vl2_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wno-psabi>)
if(VL2_WERROR)
  target_compile_options(vl2_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(VL2_SANITIZE)
  target_compile_options(vl2_flags INTERFACE -fsanitize=${VL2_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(vl2_flags INTERFACE -fsanitize=${VL2_SANITIZE})
endif()
if(VL2_FUZZ)
  target_compile_options(vl2_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_definitions(vl2_flags INTERFACE _GLIBCXX_ASSERTIONS)
endif()

# vl2_layer(NAME [DEPS ...] [TEST_DEPS ...]): library from every .cc of the folder that is no test,
# one test program from its *_test.cc files, and one labelled `slow` from its *_slow_test.cc files
# (scripts/test.sh leaves that label out under the sanitizers).
function(vl2_layer NAME)
  cmake_parse_arguments(ARG "" "" "DEPS;TEST_DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  if(sources)
    add_library(${NAME} STATIC ${sources})
    target_link_libraries(${NAME} PUBLIC ${ARG_DEPS} PRIVATE vl2_flags)
    target_include_directories(${NAME} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  else()
    add_library(${NAME} INTERFACE)
    target_link_libraries(${NAME} INTERFACE ${ARG_DEPS})
    target_include_directories(${NAME} INTERFACE ${CMAKE_SOURCE_DIR}/src)
  endif()
  set(slow_tests ${tests})
  list(FILTER tests EXCLUDE REGEX "_slow_test\\.cc$")
  list(FILTER slow_tests INCLUDE REGEX "_slow_test\\.cc$")
  if(VL2_TESTS AND tests)
    vl2_test(${NAME}_test SOURCES ${tests} DEPS ${NAME} ${ARG_TEST_DEPS})
  endif()
  if(VL2_TESTS AND slow_tests)
    vl2_test(${NAME}_slow_test SOURCES ${slow_tests} DEPS ${NAME} ${ARG_TEST_DEPS} LABEL slow)
  endif()
endfunction()

# Where the sources lie, for core/base/test_data.h: a function and not a definition on every command line, which would keep
# clones from sharing compiled tests.
if(VL2_TESTS)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/source_dir.cc @ONLY CONTENT
    "#include \"core/base/test_data.h\"\nconst char* vl2::source_dir() {
  const char* moved = std::getenv(\"VL2_SOURCE_DIR\");
  return moved != nullptr ? moved : R\"raw(@CMAKE_SOURCE_DIR@)raw\";\n}\n")
  add_library(vl2_source_dir STATIC ${CMAKE_BINARY_DIR}/source_dir.cc)
  target_link_libraries(vl2_source_dir PRIVATE vl2_flags)
endif()

# vl2_test(NAME SOURCES ... DEPS ... [LABEL label] [FILTER filter]): a GoogleTest program, one ctest entry per test that
# the filter lets through.
function(vl2_test NAME)
  cmake_parse_arguments(ARG "" "LABEL;FILTER" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  target_link_libraries(${NAME} PRIVATE ${ARG_DEPS} vl2_source_dir vl2_flags GTest::gtest_main)
  # What is tested is optimised; of the tests, optimising the checks alone takes most of the time.
  if(VL2_SANITIZE OR NOT ARG_LABEL MATCHES "^(slow|parity)$")
    target_compile_options(${NAME} PRIVATE -O0)
  endif()
  if(VL2_SANITIZE)
    if(ARG_LABEL MATCHES "^(slow|parity)$")
      set_target_properties(${NAME} PROPERTIES EXCLUDE_FROM_ALL ON)  # scripts/test.sh does not run it there
    endif()
  endif()
  # Without pretty values: of a struct they are bytes, addresses among them, and no name of a test.
  # libtorch alone takes seconds to load on a busy machine.
  gtest_discover_tests(${NAME} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 NO_PRETTY_VALUES TEST_FILTER "${ARG_FILTER}"
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 600)
endfunction()
