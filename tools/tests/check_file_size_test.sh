#!/usr/bin/env bash
# tools/check_file_size fails over 800 lines, notes over 400, accepts the rest.
source "$(dirname "$0")/lib.sh"

seq 800 | put src/core/base/longest.cc
seq 401 | put src/core/base/noted.h
seq 400 | put src/core/base/usual.cc
seq 5000 | put tests/goldens/data.h
seq 5000 | put tests/clients/node_modules/package/index.js
expect 0 "note: src/core/base/noted.h: 401 lines" "$top/tools/check_file_size" "$scratch"
expect 0 "3 files, 0 over 800" "$top/tools/check_file_size" "$scratch"
seq 801 | put src/core/base/longest.cc
expect 1 "src/core/base/longest.cc: 801 lines, more than 800" "$top/tools/check_file_size" "$scratch"
finish
