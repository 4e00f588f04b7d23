#!/usr/bin/env bash
# tools/check_format finds a badly formatted file, repairs it, and is no silent pass without clang-format.
source "$(dirname "$0")/lib.sh"

mkdir -p "$scratch/tools"
cp "$top/tools/check_format" "$scratch/tools/"
cp "$top/.clang-format" "$scratch/"
put src/core/base/x.cc <<<'int  f( ) {return 1;}'

put no_clang/clang-format <<'END'
#!/bin/sh
echo "clang-format version 99.0.0"
END
chmod +x "$scratch/no_clang/clang-format"
only_old=$scratch/no_clang:/usr/bin:/bin
if [ ! -x /usr/bin/clang-format-14 ] && [ ! -x /bin/clang-format-14 ]; then
  expect 77 "no clang-format 14 here" env CI= PATH="$only_old" "$scratch/tools/check_format"
  expect 1 "no clang-format 14 here" env CI=true PATH="$only_old" "$scratch/tools/check_format"
fi

status=0
env CI= "$scratch/tools/check_format" >/dev/null 2>&1 || status=$?
if [ "$status" -eq 77 ]; then
  echo "skipped: no clang-format 14 on this machine"
  exit 77
fi
expect 1 "src/core/base/x.cc:1" "$scratch/tools/check_format"
expect 0 "" "$scratch/tools/check_format" --fix
expect 0 "1 files" "$scratch/tools/check_format"
finish
