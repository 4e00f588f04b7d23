# vl2_page_assets(TARGET): compiles the web page into it, and the pictures it offers to try.
function(vl2_page_assets TARGET)
  set(folder ${CMAKE_SOURCE_DIR}/src/apps/server/page)
  file(GLOB page_files CONFIGURE_DEPENDS ${folder}/*.html ${folder}/*.css ${folder}/*.js ${folder}/*.svg)
  set(page_items "")
  foreach(file IN LISTS page_files)
    get_filename_component(name "${file}" NAME)
    list(APPEND page_items "${name}=${file}")
  endforeach()
  foreach(name 5-wide 6-small-landscape 7-three-in-a-row 8-numbers 9-first-of-two 9-second-of-two)
    list(APPEND page_files "${CMAKE_SOURCE_DIR}/examples/${name}.png")
    list(APPEND page_items "examples/${name}.png=${CMAKE_SOURCE_DIR}/examples/${name}.png")
  endforeach()
  add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/page_assets.cc
    COMMAND ${CMAKE_COMMAND} "-DOUTPUT=${CMAKE_CURRENT_BINARY_DIR}/page_assets.cc" "-DFILES=${page_items}"
      -P ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    DEPENDS ${page_files} ${CMAKE_SOURCE_DIR}/cmake/embed_files.cmake
    COMMENT "Embedding the web page" VERBATIM)
  target_sources(${TARGET} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/page_assets.cc)
endfunction()
